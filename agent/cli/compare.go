package cli

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/commonwatt/commonwatt/agent/demo"
)

// runComparison runs the street with batteries that follow and without.
func runComparison(ctx context.Context, o demo.Options, output string, s streams) error {
	if err := findPrograms(&o); err != nil {
		return err
	}
	o.Say = s.err
	c, err := demo.Compare(ctx, o)
	if errors.Is(err, demo.ErrUsage) {
		return &problem{code: exitUsage, err: err}
	}
	if err != nil {
		return err
	}
	if output == "json" {
		err = c.Write(s.out)
	} else {
		err = printComparison(c, s)
	}
	if err != nil {
		return err
	}
	for _, r := range []*demo.Report{c.Own, c.Follow} {
		if len(r.Errors) > 0 {
			return fmt.Errorf("the demonstration in %s went wrong: %s", r.Data, r.Errors[0])
		}
	}
	return nil
}

func printComparison(c *demo.Comparison, s streams) error {
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "battery home\tintervals\toff Wh, own mode\tfollow\tits cost, own mode\tfollow\tbalance, own mode\tfollow\t\n")
	var own, follow demo.HouseholdLine
	for _, h := range c.Homes() {
		fmt.Fprintf(w, "%s\t%d, %d\t%d\t%d\t%s\t%s\t%s\t%s\t\n", h.Own.Name, h.Own.Intervals, h.Follow.Intervals, h.Own.OffWh, h.Follow.OffWh,
			units(h.Own.OffCost), units(h.Follow.OffCost), units(int64(h.Own.Balance)), units(int64(h.Follow.Balance)))
		own.OffWh, follow.OffWh = own.OffWh+h.Own.OffWh, follow.OffWh+h.Follow.OffWh
		own.OffCost, follow.OffCost = own.OffCost+h.Own.OffCost, follow.OffCost+h.Follow.OffCost
	}
	fmt.Fprintf(w, "together\t\t%d\t%d\t%s\t%s\t\t\t\n", own.OffWh, follow.OffWh, units(own.OffCost), units(follow.OffCost))
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(s.out, "off is the sum of what each interval's metered energy differs from what was bought and sold\n")
	return err
}
