package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// imbalance adds what an interval was off by, and what that cost: energy that was not ordered was bought at the retail
// price or sold at the feed-in price instead of the community's, and what was ordered and did not come the other way round.
func (l *HouseholdLine) imbalance(x *ledger.Settlement, p gridPrices) {
	if x.Quality == ledger.QualitySubstitute {
		return
	}
	off := market.Position{Bought: x.Bought, Sold: x.Sold, MeteredImport: x.Import, MeteredExport: x.Export}.Imbalance()
	l.OffWh += off.Import + off.Surplus + off.Export + off.Shortfall
	price := int64(x.Price)
	dear, cheap := p.retail-price, price-p.feedIn
	if p.islanded {
		return
	}
	l.OffCost += times(dear, int64(off.Import+off.Shortfall)) + times(cheap, int64(off.Surplus+off.Export))
}

// Comparison is the same street twice: its batteries follow, and they do not.
type Comparison struct {
	Follow *Report `json:"follow"`
	Own    *Report `json:"own"`
}

// Compare runs the street of o twice, one after the other, each in a folder of its own under o.Dir. Weather and people are
// the same in both.
func Compare(ctx context.Context, o Options) (*Comparison, error) {
	if o.Span <= 0 {
		return nil, fmt.Errorf("%w: --compare: want a --span, such as 12h", ErrUsage)
	}
	if o.From.IsZero() {
		o.From = time.Date(2026, time.June, 21, 10, 0, 0, 0, time.UTC)
	}
	o.Fresh = true
	var c Comparison
	for _, run := range []struct {
		battery string
		into    **Report
	}{{household.LeadSelfConsumption, &c.Own}, {household.LeadFollow, &c.Follow}} {
		own := o
		own.Battery, own.Dir = run.battery, filepath.Join(o.Dir, run.battery)
		report, err := Run(ctx, own)
		if err != nil {
			return nil, fmt.Errorf("a street with batteries in %s: %w", run.battery, err)
		}
		*run.into = report
	}
	return &c, nil
}

// Write writes the comparison as JSON.
func (c *Comparison) Write(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(c)
}

// Compared is one home with a battery in both streets.
type Compared struct {
	Own, Follow HouseholdLine
}

// Homes are those with a battery.
func (c *Comparison) Homes() (list []Compared) {
	for i, own := range c.Own.Households {
		if own.Battery && i < len(c.Follow.Households) {
			list = append(list, Compared{own, c.Follow.Households[i]})
		}
	}
	return list
}
