package cli

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/marketfile"
	"github.com/commonwatt/commonwatt/market"
)

func newMarket(s streams) *cobra.Command {
	c := &cobra.Command{Use: "market", Short: "Check the market's rules yourself"}
	c.AddCommand(newMarketClear(s))
	return c
}

func newMarketClear(s streams) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use:   "clear FILE",
		Short: "Clear one interval from a file (- is standard input)",
		Long: `Clears one interval by the rules of docs/market-rules.md, so that anyone can check
them against another implementation. Prices are micro-units per kWh.

The file names the rule: uniform (on any network, with the limits and fees of its
edges), or on a network without limits and fees pay-as-bid, mcafee (orders of one
price) or sharing. Sharing may have "sharing": {"price": N, "keys": N}, and bids a
"key". By these three each order's answer has its amount in micro-units as well, and
mcafee's what is left over, the surplus.`,
		Example: `  commonwatt market clear configs/worked-example.json --output json`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			in := s.in
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return &problem{code: exitUsage, err: fmt.Errorf("reading market: %w", err)}
				}
				defer f.Close() //nolint:errcheck // only read from
				in = f
			}
			return clearFile(in, s.out, output)
		},
	}
	addOutput(c, &output, "table", "json")
	return c
}

func clearFile(in io.Reader, out io.Writer, output string) error {
	m, err := marketfile.Decode(in)
	if err != nil {
		return &problem{code: exitUsage, err: fmt.Errorf("reading market: %w", err)}
	}
	result, err := market.Clear(*m)
	if err != nil {
		return &problem{code: exitUsage, err: fmt.Errorf("clearing: %w", err)}
	}
	w := bufio.NewWriter(out)
	if output == "json" {
		err = marketfile.WriteAnswer(w, m, &result)
	} else {
		err = tableClearing(w, m, &result)
	}
	if err != nil {
		return err
	}
	return w.Flush()
}

func tableClearing(out io.Writer, m *market.Market, r *market.Clearing) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	head := "order\tside\tasked Wh\tgot Wh\tprice/kWh\t"
	amounts := m.Rule != "" && m.Rule != market.RuleUniform // where they do not follow from the price
	if amounts {
		head += "amount\t"
	}
	fmt.Fprintln(w, head)
	for _, a := range r.Allocations {
		o := &m.Orders[a.Order]
		asked := market.WattHours(0)
		for _, st := range o.Steps {
			asked += st.WattHours
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t", o.ID, o.Side, asked, a.WattHours, units(int64(a.Price)))
		if amounts {
			fmt.Fprintf(w, "%s\t", units(int64(a.Amount)))
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, p := range r.Prices {
		if _, err := fmt.Fprintf(out, "price at %s: %s\n", p.Node, units(int64(p.Price))); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "grid: %d Wh imported, %d Wh exported\nwelfare: %s\n", r.GridImport, r.GridExport, units(int64(r.Welfare)))
	if err == nil && m.Rule == market.RuleMcAfee {
		_, err = fmt.Fprintf(out, "surplus: %s\n", units(int64(r.Surplus)))
	}
	return err
}

// units writes micro-units as units with six places: 120000 is 0.120000.
func units(micro int64) string {
	sign := ""
	magnitude := uint64(micro) //nolint:gosec // negated below where negative
	if micro < 0 {
		sign, magnitude = "-", -magnitude
	}
	return fmt.Sprintf("%s%d.%06d", sign, magnitude/1_000_000, magnitude%1_000_000)
}
