package ledger

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/market"
)

// Tariff is market.Tariff as a genesis document has it: micro-units per kWh.
type Tariff struct {
	_           struct{}     `cbor:",toarray"`
	ImportPrice market.Price `json:"import_price"`
	ExportPrice market.Price `json:"export_price"`
}

// The ways to clear an interval (R6).
const (
	ClearingForward = "forward" // on orders, before delivery
	ClearingMetered = "metered" // on meter reports, after it
)

// Who gets the congestion rent.
const (
	RentToCooperative  = "cooperative"
	RentToGridOperator = "grid-operator"
)

// Rules are what a community decided about its market. Durations are seconds
// of community time. They change by decision, from a named Interval on; all but
// IntervalS and LeadS, which the ledger counts time by.
type Rules struct {
	_                 struct{}         `cbor:",toarray"`
	Rule              string           `json:"rule"`                    // one of market.Rules (R3, R4)
	Clearing          string           `json:"clearing"`                // "forward" or "metered" (R6)
	Tariff            *Tariff          `json:"tariff"`                  // the grid's prices; null is islanded
	IslandTariff      *Tariff          `json:"island_tariff,omitempty"` // prices of imbalance when islanded; null: the node's own price
	SharingPrice      *market.Price    `json:"sharing_price,omitempty"` // of the rule "sharing"; null: the middle of feed-in and retail
	CommunityFee      market.Price     `json:"community_fee"`           // micro-units per kWh bought in the market
	RentTo            string           `json:"rent_to"`                 // congestion rent: "cooperative" or "grid-operator"
	ImportFloorW      int64            `json:"import_floor_w"`          // no envelope takes a household's import below this
	MaxAhead          int64            `json:"max_ahead"`               // intervals ahead of the next gate for which orders are taken
	ReportDeadlineS   int64            `json:"report_deadline_s"`       // after the end of the interval; then R8 substitutes
	CorrectionWindowS int64            `json:"correction_window_s"`     // after the end of the interval (R5)
	ReadingToleranceS int64            `json:"reading_tolerance_s"`     // a boundary reading may be this much later than the boundary
	PriceMin          market.Price     `json:"price_min"`               // bounds for order steps and preferences
	PriceMax          market.Price     `json:"price_max"`               //
	MaxWattHours      market.WattHours `json:"max_wh"`                  // per order, and per interval and counter of a report (the fuse)
	CreditLimit       market.Money     `json:"credit_limit"`            // a balance below its negative may not bid; 0 is no limit
	ApprovalsNeeded   int              `json:"approvals_needed"`        // officers that must sign an admission or a decision
	IntervalS         int64            `json:"interval_s"`              //
	LeadS             int64            `json:"lead_s"`                  // gate closure is this long before the start; with 0 no interval is cleared before it begins, so all are metered
	Timezone          string           `json:"timezone"`                // of days and months, as a POSIX rule, see market.ParseZone
}

// DefaultRules are those of a new community: quarter hours, gate five minutes
// before, prices of the worked example of the market rules, Dutch time, and the
// 4.2 kW that European law leaves a household.
func DefaultRules() Rules {
	return Rules{
		Rule:              market.RuleUniform,
		Clearing:          ClearingForward,
		Tariff:            &Tariff{ImportPrice: 300_000, ExportPrice: 80_000},
		RentTo:            RentToCooperative,
		ImportFloorW:      4200,
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
		Timezone:          "CET-1CEST,M3.5.0,M10.5.0/3",
	}
}

// GridTariff returns the grid's prices, nil when islanded.
func (r *Rules) GridTariff() *market.Tariff {
	if r.Tariff == nil {
		return nil
	}
	return &market.Tariff{ImportPrice: r.Tariff.ImportPrice, ExportPrice: r.Tariff.ExportPrice}
}

// Zone returns the community's time zone. The rules must be valid.
func (r *Rules) Zone() *time.Location {
	zone, err := market.ParseZone(r.Timezone)
	if err != nil {
		return time.UTC // rules are validated before they are anyone's
	}
	return zone
}

// rentAccount is where congestion rent goes.
func (r *Rules) rentAccount() market.Account {
	if r.RentTo == RentToGridOperator {
		return market.AccountGridOperator
	}
	return market.AccountCooperative
}

func (r *Rules) calendar() market.Calendar {
	return market.Calendar{Length: time.Duration(r.IntervalS) * time.Second, Lead: time.Duration(r.LeadS) * time.Second}
}

// Validate names the first rule that cannot be right.
func (r *Rules) Validate() error {
	switch {
	case !slices.Contains(market.Rules(), r.Rule):
		return fmt.Errorf("rules.rule: got %q, want one of %s", r.Rule, strings.Join(market.Rules(), ", "))
	case r.Clearing != ClearingForward && r.Clearing != ClearingMetered:
		return fmt.Errorf("rules.clearing: got %q, want %q or %q", r.Clearing, ClearingForward, ClearingMetered)
	case r.RentTo != RentToCooperative && r.RentTo != RentToGridOperator:
		return fmt.Errorf("rules.rent_to: got %q, want %q or %q", r.RentTo, RentToCooperative, RentToGridOperator)
	case r.ImportFloorW < 0 || r.ImportFloorW > maxLimitW:
		return fmt.Errorf("rules.import_floor_w: got %d, want 0 to %d", r.ImportFloorW, int64(maxLimitW))
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
	case r.ApprovalsNeeded < 1 || r.ApprovalsNeeded > maxOfficers:
		return fmt.Errorf("rules.approvals_needed: got %d, want 1 to %d", r.ApprovalsNeeded, maxOfficers)
	}
	calendar := r.calendar()
	if err := calendar.Validate(); err != nil {
		return fmt.Errorf("rules.interval_s, lead_s: %w", err)
	}
	if _, err := market.ParseZone(r.Timezone); err != nil {
		return fmt.Errorf("rules.timezone: %w", err)
	}
	return r.validatePrices()
}

func (r *Rules) validatePrices() error {
	switch {
	case r.PriceMin < -market.MaxPrice || r.PriceMax > market.MaxPrice || r.PriceMin > r.PriceMax:
		return fmt.Errorf("rules.price_min, price_max: got %d, %d, want rising and within 2^40", r.PriceMin, r.PriceMax)
	case r.MaxWattHours < 1 || r.MaxWattHours > 1<<40:
		return fmt.Errorf("rules.max_wh: got %d, want 1 to 2^40", r.MaxWattHours)
	case r.CommunityFee < 0 || r.CommunityFee > market.MaxPrice:
		return fmt.Errorf("rules.community_fee: got %d, want 0 to 2^40", r.CommunityFee)
	case r.Tariff != nil && r.IslandTariff != nil:
		return fmt.Errorf("rules.island_tariff: got one beside a tariff, want it only when islanded")
	}
	for _, t := range []struct {
		name   string
		tariff *Tariff
	}{{"tariff", r.Tariff}, {"island_tariff", r.IslandTariff}} {
		if t.tariff == nil {
			continue
		}
		if err := (market.Tariff{ImportPrice: t.tariff.ImportPrice, ExportPrice: t.tariff.ExportPrice}).Validate(); err != nil {
			return fmt.Errorf("rules.%s: %w", t.name, err)
		}
	}
	if r.Rule == market.RuleSharing && r.Tariff == nil && r.SharingPrice == nil {
		return fmt.Errorf("rules.sharing_price: got none on an island, want one: there is no tariff to take the middle of")
	}
	if p := r.SharingPrice; p != nil && (*p < r.PriceMin || *p > r.PriceMax) {
		return fmt.Errorf("rules.sharing_price: got %d, want %d to %d", *p, r.PriceMin, r.PriceMax)
	}
	return nil
}

// fits judges the rules on a network: that the rule knows its limits and fees, that
// there are orders at every node's prices, and that no line of a settlement is so long
// that an account could overflow (L8).
func (r *Rules) fits(n *Network) error {
	if r.Rule != market.RuleUniform && !n.bare {
		return fmt.Errorf("rules.rule: got %q, want %q on a network with limits or fees", r.Rule, market.RuleUniform)
	}
	prices := []market.Price{r.PriceMin, r.PriceMax, r.CommunityFee}
	tariff := r.Tariff
	if tariff == nil {
		tariff = r.IslandTariff
	}
	if tariff != nil {
		feedIn, retail := tariff.ExportPrice-n.maxExportFees, tariff.ImportPrice+n.maxImportFees
		if feedIn < r.PriceMin || retail > r.PriceMax {
			return fmt.Errorf("rules.tariff: got %d to %d with the fees of the network, want within price_min %d and price_max %d, or nobody could order at its prices",
				feedIn, retail, r.PriceMin, r.PriceMax)
		}
		prices = append(prices, feedIn, retail)
	}
	// A node's price is at most so far from some order's or the grid's.
	prices = append(prices, r.PriceMin-n.maxExportFees-n.maxImportFees, r.PriceMax+n.maxExportFees+n.maxImportFees)
	for _, p := range prices {
		most := new(big.Int).Mul(big.NewInt(int64(p)), big.NewInt(int64(r.MaxWattHours)))
		if most.Quo(most, big.NewInt(1000)).CmpAbs(big.NewInt(int64(maxLine))) > 0 {
			return fmt.Errorf("rules.max_wh: got %d, at the price %d that is more than 2^40 micro-units a line: want smaller units or quantities",
				r.MaxWattHours, p)
		}
	}
	return nil
}
