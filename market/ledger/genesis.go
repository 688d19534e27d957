package ledger

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/commonwatt/commonwatt/market"
)

// Key is an Ed25519 public key. Its text form is 64 hexadecimal digits.
type Key [ed25519.PublicKeySize]byte

// KeyOf copies a public key; it panics on a wrong length, which only a
// programming mistake can cause.
func KeyOf(pub ed25519.PublicKey) Key {
	if len(pub) != ed25519.PublicKeySize {
		panic(fmt.Sprintf("ledger: public key has %d bytes, want %d", len(pub), ed25519.PublicKeySize))
	}
	return Key(pub)
}

// Public returns the key as crypto/ed25519 has it.
func (k Key) Public() ed25519.PublicKey { return ed25519.PublicKey(k[:]) }

// String returns 64 hexadecimal digits.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// MarshalText gives the hexadecimal form.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the hexadecimal form.
func (k *Key) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw) != len(k) {
		return fmt.Errorf("public key %q: want %d hexadecimal digits", text, 2*len(k))
	}
	copy(k[:], raw)
	return nil
}

// Tariff is market.Tariff as a genesis document has it: micro-units per kWh.
type Tariff struct {
	ImportPrice market.Price `json:"import_price"`
	ExportPrice market.Price `json:"export_price"`
}

// Rules are what a community decided about its market. Durations are seconds
// of community time.
type Rules struct {
	Rule              string           `json:"rule"`                // "uniform" (R3)
	Tariff            *Tariff          `json:"tariff"`              // the grid's prices; null is islanded
	CommunityFee      market.Price     `json:"community_fee"`       // micro-units per kWh bought in the market
	MaxAhead          int64            `json:"max_ahead"`           // intervals ahead of the next gate for which orders are taken
	ReportDeadlineS   int64            `json:"report_deadline_s"`   // after the end of the interval; then R8 substitutes
	CorrectionWindowS int64            `json:"correction_window_s"` // after the end of the interval (R5)
	ReadingToleranceS int64            `json:"reading_tolerance_s"` // a boundary reading may be this much later than the boundary
	PriceMin          market.Price     `json:"price_min"`           // bounds for order steps and preferences
	PriceMax          market.Price     `json:"price_max"`           //
	MaxWattHours      market.WattHours `json:"max_wh"`              // per order, and per interval and counter of a report (the fuse)
	CreditLimit       market.Money     `json:"credit_limit"`        // a balance below its negative may not bid; 0 is no limit
	ApprovalsNeeded   int              `json:"approvals_needed"`    // officers that must sign an admission
	IntervalS         int64            `json:"interval_s"`          //
	LeadS             int64            `json:"lead_s"`              // gate closure is this long before the start
}

// DefaultRules are those of a new community: quarter hours, gate five minutes
// before, prices of the worked example of the market rules.
func DefaultRules() Rules {
	return Rules{
		Rule:              "uniform",
		Tariff:            &Tariff{ImportPrice: 300_000, ExportPrice: 80_000},
		MaxAhead:          96,
		ReportDeadlineS:   24 * 3600,
		CorrectionWindowS: 30 * 24 * 3600,
		ReadingToleranceS: 90,
		PriceMin:          -1_000_000,
		PriceMax:          4_000_000,
		MaxWattHours:      20_000,
		ApprovalsNeeded:   2,
		IntervalS:         900,
		LeadS:             300,
	}
}

// Genesis is what a community starts from, fixed for ever in its genesis document.
type Genesis struct {
	Name     string    `json:"name"`
	Epoch    time.Time `json:"epoch"` // community time at Start
	Start    time.Time `json:"start"` // wall clock
	Rate     int64     `json:"rate"`  // community seconds per wall second; 1 save in demo- and sim- communities
	Rules    Rules     `json:"rules"`
	Officers []Key     `json:"officers"` // may approve members and meters
	Founders []Key     `json:"founders"` // network keys let in before their households are registered
}

const (
	maxOfficers = 64
	maxFounders = 1024
)

// Clock returns the community's clock.
func (g Genesis) Clock() market.Clock {
	return market.Clock{Epoch: g.Epoch, Start: g.Start, Rate: g.Rate}
}

// Calendar returns the community's intervals.
func (g Genesis) Calendar() market.Calendar {
	return market.Calendar{
		Length: time.Duration(g.Rules.IntervalS) * time.Second,
		Lead:   time.Duration(g.Rules.LeadS) * time.Second,
	}
}

// Validate names the first field that cannot be right.
func (g Genesis) Validate() error {
	if g.Name == "" || len(g.Name) > 50 {
		return fmt.Errorf("name: got %d characters, want 1 to 50", len(g.Name))
	}
	if err := g.Clock().Validate(g.Name); err != nil {
		return fmt.Errorf("rate: %w", err)
	}
	if err := g.Calendar().Validate(); err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	if n := len(g.Officers); n == 0 || n > maxOfficers {
		return fmt.Errorf("officers: got %d, want 1 to %d", n, maxOfficers)
	}
	if n := g.Rules.ApprovalsNeeded; n < 1 || n > len(g.Officers) {
		return fmt.Errorf("rules.approvals_needed: got %d, want 1 to the %d officers", n, len(g.Officers))
	}
	if n := len(g.Founders); n > maxFounders {
		return fmt.Errorf("founders: got %d, want at most %d", n, maxFounders)
	}
	return g.Rules.validate()
}

// GridTariff returns the grid's prices, nil when islanded.
func (r Rules) GridTariff() *market.Tariff {
	if r.Tariff == nil {
		return nil
	}
	t := market.Tariff(*r.Tariff)
	return &t
}

func (r Rules) validate() error {
	switch {
	case r.Rule != "uniform":
		return fmt.Errorf("rules.rule: got %q, want uniform (the only rule of this version)", r.Rule)
	case r.MaxAhead < 1 || r.MaxAhead > 10_000:
		return fmt.Errorf("rules.max_ahead: got %d, want 1 to 10000", r.MaxAhead)
	case r.ReportDeadlineS < 0 || r.CorrectionWindowS < r.ReportDeadlineS:
		return errors.New("rules.report_deadline_s: want 0 or more, and at most correction_window_s")
	case r.ReadingToleranceS < 1 || r.ReadingToleranceS >= r.IntervalS:
		return fmt.Errorf("rules.reading_tolerance_s: got %d, want 1 to less than the interval's %d", r.ReadingToleranceS, r.IntervalS)
	case r.PriceMin < -market.MaxPrice || r.PriceMax > market.MaxPrice || r.PriceMin > r.PriceMax:
		return fmt.Errorf("rules.price_min, price_max: got %d, %d, want rising and within 2^40", r.PriceMin, r.PriceMax)
	case r.MaxWattHours < 1 || r.MaxWattHours > 1<<40:
		return fmt.Errorf("rules.max_wh: got %d, want 1 to 2^40", r.MaxWattHours)
	case r.CommunityFee < 0 || r.CommunityFee > market.MaxPrice:
		return fmt.Errorf("rules.community_fee: got %d, want 0 to 2^40", r.CommunityFee)
	case r.CreditLimit < 0:
		return fmt.Errorf("rules.credit_limit: got %d, want 0 (none) or more", r.CreditLimit)
	}
	if r.Tariff != nil {
		if err := market.Tariff(*r.Tariff).Validate(); err != nil {
			return fmt.Errorf("rules.tariff: %w", err)
		}
	}
	return nil
}
