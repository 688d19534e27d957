package ledger

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"math/big"
	"strconv"
	"strings"
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
	maxOfficers  = 64
	maxFounders  = 1024
	maxNameBytes = 50
	maxYear      = 9999
	maxWindowS   = 2 * 366 * 24 * 3600 // what can be corrected is kept by everyone

	// maxLine bounds what one line of a settlement can come to, so that an account
	// does not overflow before some 2^23 lines of the highest amount.
	maxLine market.Money = 1 << 40
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
	if err := validateName(g.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	// Intervals count from 1970 and are never negative on the ledger.
	if g.Epoch.Unix() < 0 || g.Epoch.Year() > maxYear {
		return fmt.Errorf("epoch: got %v, want a time from 1970 to %d", g.Epoch, maxYear)
	}
	if err := g.Clock().Validate(g.Name); err != nil {
		return fmt.Errorf("rate: %w", err)
	}
	if err := validateKeys(g.Officers, maxOfficers); err != nil {
		return fmt.Errorf("officers: %w", err)
	}
	if err := validateKeys(g.Founders, maxFounders); err != nil {
		return fmt.Errorf("founders: %w", err)
	}
	if n := g.Rules.ApprovalsNeeded; n < 1 || n > len(g.Officers) {
		return fmt.Errorf("rules.approvals_needed: got %d, want 1 to the %d officers", n, len(g.Officers))
	}
	return g.Rules.validate()
}

// validateName judges names that stand in signed bytes and on screens.
func validateName(name string) error {
	if name == "" || len(name) > maxNameBytes {
		return fmt.Errorf("got %d bytes, want 1 to %d", len(name), maxNameBytes)
	}
	for _, r := range name {
		if r == '\uFFFD' || !strconv.IsPrint(r) {
			return fmt.Errorf("got %q, want printable characters only", name)
		}
	}
	return nil
}

// validateKeys refuses a key that is there twice: one officer would count for two.
func validateKeys(keys []Key, most int) error {
	if len(keys) > most {
		return fmt.Errorf("got %d, want at most %d", len(keys), most)
	}
	seen := make(map[Key]bool, len(keys))
	for i, k := range keys {
		if seen[k] {
			return fmt.Errorf("[%d]: key %s is there twice", i, k)
		}
		seen[k] = true
	}
	return nil
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
	case r.Rule != market.RuleUniform:
		return fmt.Errorf("rules.rule: got %q, want %q (the only rule of this version)", r.Rule, market.RuleUniform)
	// Seconds are bounded before they become a time.Duration, which could wrap.
	case r.IntervalS < 1 || r.IntervalS > 3600:
		return fmt.Errorf("rules.interval_s: got %d, want 60, 300, 900, 1800 or 3600", r.IntervalS)
	case r.LeadS < 0 || r.LeadS > 24*3600:
		return fmt.Errorf("rules.lead_s: got %d, want 0 to 86400", r.LeadS)
	case r.MaxAhead < 1 || r.MaxAhead > 10_000:
		return fmt.Errorf("rules.max_ahead: got %d, want 1 to 10000", r.MaxAhead)
	case r.ReportDeadlineS < 0 || r.CorrectionWindowS < r.ReportDeadlineS || r.CorrectionWindowS > maxWindowS:
		return fmt.Errorf("rules.report_deadline_s, correction_window_s: got %d, %d, want 0 or more, rising, at most %d",
			r.ReportDeadlineS, r.CorrectionWindowS, maxWindowS)
	case r.ReadingToleranceS < 1 || r.ReadingToleranceS >= r.IntervalS:
		return fmt.Errorf("rules.reading_tolerance_s: got %d, want 1 to less than the interval's %d", r.ReadingToleranceS, r.IntervalS)
	case r.CreditLimit < 0:
		return fmt.Errorf("rules.credit_limit: got %d, want 0 (none) or more", r.CreditLimit)
	}
	calendar := market.Calendar{Length: time.Duration(r.IntervalS) * time.Second, Lead: time.Duration(r.LeadS) * time.Second}
	if err := calendar.Validate(); err != nil {
		return fmt.Errorf("rules.interval_s, lead_s: %w", err)
	}
	return r.validatePrices()
}

func (r Rules) validatePrices() error {
	switch {
	case r.PriceMin < -market.MaxPrice || r.PriceMax > market.MaxPrice || r.PriceMin > r.PriceMax:
		return fmt.Errorf("rules.price_min, price_max: got %d, %d, want rising and within 2^40", r.PriceMin, r.PriceMax)
	case r.MaxWattHours < 1 || r.MaxWattHours > 1<<40:
		return fmt.Errorf("rules.max_wh: got %d, want 1 to 2^40", r.MaxWattHours)
	case r.CommunityFee < 0 || r.CommunityFee > market.MaxPrice:
		return fmt.Errorf("rules.community_fee: got %d, want 0 to 2^40", r.CommunityFee)
	}
	prices := []market.Price{r.PriceMin, r.PriceMax, r.CommunityFee}
	if t := r.GridTariff(); t != nil {
		if err := t.Validate(); err != nil {
			return fmt.Errorf("rules.tariff: %w", err)
		}
		if t.ExportPrice < r.PriceMin || t.ImportPrice > r.PriceMax {
			return fmt.Errorf("rules.tariff: got %d to %d, want within price_min %d and price_max %d, or nobody could order at its prices",
				t.ExportPrice, t.ImportPrice, r.PriceMin, r.PriceMax)
		}
		prices = append(prices, t.ImportPrice, t.ExportPrice)
	}
	for _, p := range prices {
		most := new(big.Int).Mul(big.NewInt(int64(p)), big.NewInt(int64(r.MaxWattHours)))
		if most.Quo(most, big.NewInt(1000)).CmpAbs(big.NewInt(int64(maxLine))) > 0 {
			return fmt.Errorf("rules.max_wh: got %d, at the price %d that is more than 2^40 micro-units a line: want smaller units or quantities",
				r.MaxWattHours, p)
		}
	}
	return nil
}

// encodeGenesis is the genesis as the AppHash commits to it: fields in words, so
// that no encoder's version can change it.
func encodeGenesis(chainID string, g Genesis) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "chain %q\nname %q\nepoch %d\nstart %d\nrate %d\nrules %s\n",
		chainID, g.Name, g.Epoch.UnixNano(), g.Start.UnixNano(), g.Rate, g.Rules.text())
	for _, k := range g.Officers {
		fmt.Fprintf(&b, "officer %s\n", k)
	}
	for _, k := range g.Founders {
		fmt.Fprintf(&b, "founder %s\n", k)
	}
	return []byte(b.String())
}

func (r Rules) text() string {
	tariff := "islanded"
	if r.Tariff != nil {
		tariff = fmt.Sprintf("%d/%d", r.Tariff.ImportPrice, r.Tariff.ExportPrice)
	}
	return fmt.Sprintf("%s %s fee=%d ahead=%d deadline=%d window=%d tolerance=%d price=%d..%d wh=%d credit=%d approvals=%d interval=%d lead=%d",
		r.Rule, tariff, r.CommunityFee, r.MaxAhead, r.ReportDeadlineS, r.CorrectionWindowS, r.ReadingToleranceS,
		r.PriceMin, r.PriceMax, r.MaxWattHours, r.CreditLimit, r.ApprovalsNeeded, r.IntervalS, r.LeadS)
}
