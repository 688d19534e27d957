package cli

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/household"
)

func newGrid(s streams) *cobra.Command {
	c := &cobra.Command{Use: "grid", Short: "The network: prices, flows, limits, and the grid operator's envelopes"}
	c.AddCommand(newGridBalance(s), newGridEnvelopes(s), newGridEnvelope(s))
	return c
}

func newGridBalance(s streams) *cobra.Command {
	var home, interval, output string
	c := &cobra.Command{
		Use:   "balance",
		Short: "What every node and every account came to in an interval",
		Long: `Shows for every node its price, the energy on the edge to its parent, the limit in
force and who set it; then whether the households' meters agree with what the supplier
is charged for (rule R7), and that all accounts add up to 0. Asks this home's running
agent, or, if there is none, reads the ledger in the home's folder.

Exit code 4 if something does not add up.`,
		Example: `  commonwatt grid balance --home demo-data/homes/home-1
  commonwatt grid balance --interval 1980242 --output csv`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			g, err := loadGrid(c.Context(), home, interval)
			if err != nil {
				return err
			}
			if err := printGrid(s.out, g, output); err != nil {
				return err
			}
			return checkGrid(g)
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the home's folder")
	c.Flags().StringVar(&interval, "interval", "latest", "index of the interval since the epoch, or latest")
	addOutput(c, &output, "table", "json", "csv")
	return c
}

func newGridEnvelopes(s streams) *cobra.Command {
	var home, output string
	c := &cobra.Command{
		Use:     "envelopes",
		Short:   "The grid operator's limits that bind now or will",
		Example: `  commonwatt grid envelopes --home demo-data/homes/home-1`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			g, err := loadGrid(c.Context(), home, latest)
			if err != nil {
				return err
			}
			return printEnvelopes(s.out, g.Envelopes, output)
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the home's folder")
	addOutput(c, &output, "table", "json", "csv")
	return c
}

const latest = "latest"

// loadGrid asks the running agent, or the folder if no agent answers.
func loadGrid(ctx context.Context, home, interval string) (*api.Grid, error) {
	path := "/api/grid"
	index := int64(-1)
	if interval != latest {
		var err error
		if index, err = strconv.ParseInt(interval, 10, 64); err != nil || index < 1 {
			return nil, usagef("--interval: got %q, want %s or the index of an interval", interval, latest)
		}
		path += "?interval=" + interval
	}
	cfg, err := household.LoadConfig(filepath.Join(home, household.ConfigFile))
	if err != nil {
		return nil, err
	}
	raw, err := ask(ctx, http.MethodGet, cfg, home, path, nil)
	if refused := (*refusal)(nil); errors.As(err, &refused) {
		return nil, &problem{code: exitFailed, err: err}
	}
	if p := (*problem)(nil); errors.As(err, &p) {
		return nil, p
	}
	if err != nil {
		return storedGrid(home, index, err)
	}
	g := new(api.Grid)
	if err := json.Unmarshal(raw, g); err != nil {
		return nil, fmt.Errorf("reading the agent's answer: %w", err)
	}
	return g, nil
}

// refusal is an agent's answer that it will not do what it was asked.
type refusal struct {
	status int
	detail string
}

func (r *refusal) Error() string { return r.detail }

// ask puts a question to the running agent of a home. A refusal is a *refusal; any other
// error means that no agent answered.
func ask(ctx context.Context, method string, cfg household.Config, home, path string, body []byte) ([]byte, error) {
	status, raw, err := call(ctx, method, cfg, home, path, body, maxGridBytes, 10*time.Second)
	if err != nil {
		return nil, err
	}
	if status/100 != 2 {
		var p struct{ Detail string }
		if json.Unmarshal(raw, &p) != nil || p.Detail == "" {
			p.Detail = fmt.Sprintf("%d %s", status, http.StatusText(status))
		}
		return nil, &refusal{status, p.Detail}
	}
	return raw, nil
}

// maxGridBytes bounds the answer: the largest network there may be is some 20 MB.
const maxGridBytes = 64 << 20

// checkGrid fails if the ledger does not add up.
func checkGrid(g *api.Grid) error {
	switch {
	case g.AccountsSum != 0:
		return &problem{code: exitDiffers, err: fmt.Errorf("all accounts add up to %d micro-units, want 0", g.AccountsSum)}
	case g.PhysicalOK != nil && !*g.PhysicalOK:
		return &problem{code: exitDiffers, err: fmt.Errorf("the households' meters say %d Wh, the supplier is charged for %d Wh",
			*g.ImportWh-*g.ExportWh, *g.SupplierWh)}
	}
	return nil
}

func printGrid(out io.Writer, g *api.Grid, output string) error {
	switch output {
	case "json":
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(g)
	case "csv":
		return csvGrid(out, g)
	}
	fmt.Fprintf(out, "interval %d, %s: %s%s\n\n", g.Interval, g.Start.Format("2006-01-02 15:04 MST"), g.State, clearingWords(g.Clearing))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "node\tper kWh\tretail\tfeed-in\timport\texport\tlimit\tset by\tload\tfees\trent\thomes\n")
	depth := map[string]int{}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		depth[n.ID] = depth[n.Parent] + 1
		limit, by := n.ImportLimitW, n.ImportLimitBy
		if n.ExportWh != nil && *n.ExportWh > 0 {
			limit, by = n.ExportLimitW, n.ExportLimitBy
		}
		if by == "" {
			by = "-"
		}
		fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", strings.Repeat("  ", max(0, depth[n.ID]-1)), n.ID,
			money(n.Price), money(n.ImportPrice), money(n.ExportPrice), flowWords(n.ImportWh, n.ImportW), flowWords(n.ExportWh, n.ExportW),
			with(limit, "W"), by, share(n.LoadingBp), money(n.FeesMicro), money(n.RentMicro), n.Homes)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return printTotals(out, g)
}

func printTotals(out io.Writer, g *api.Grid) error {
	fmt.Fprintf(out, "\nbought %s, sold %s; from the outside grid %s, to it %s\n",
		with(g.BoughtWh, "Wh"), with(g.SoldWh, "Wh"), with(g.GridImportWh, "Wh"), with(g.GridExportWh, "Wh"))
	fmt.Fprintf(out, "fees to the grid operator %s, congestion rent %s\n", money(g.FeesMicro), money(g.RentMicro))
	if g.PhysicalOK != nil {
		agree := "the two agree"
		if !*g.PhysicalOK {
			agree = "the two DIFFER"
		}
		fmt.Fprintf(out, "metered: import %d Wh, export %d Wh, difference %d Wh; the supplier is charged for %d Wh: %s\n",
			*g.ImportWh, *g.ExportWh, *g.ImportWh-*g.ExportWh, *g.SupplierWh, agree)
	}
	fmt.Fprint(out, "\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, a := range g.Accounts {
		fmt.Fprintf(w, "%s\t%s\t\n", a.Account, units(a.Balance))
	}
	fmt.Fprintf(w, "all accounts\t%s\t\n", units(g.AccountsSum))
	if err := w.Flush(); err != nil {
		return err
	}
	if len(g.Envelopes) == 0 {
		return nil
	}
	fmt.Fprint(out, "\n")
	return printEnvelopes(out, g.Envelopes, "table")
}

func csvGrid(out io.Writer, g *api.Grid) error {
	w := csv.NewWriter(out)
	_ = w.Write([]string{
		"interval", "node", "parent", "price_micro_per_kwh", "retail_micro_per_kwh", "feed_in_micro_per_kwh", "import_wh", "export_wh",
		"import_w", "export_w", "import_limit_w", "import_limit_by", "export_limit_w", "export_limit_by", "loading_bp", "fees_micro", "rent_micro", "homes",
	}) // errors stay with the writer until the end
	for i := range g.Nodes {
		n := &g.Nodes[i]
		_ = w.Write([]string{
			strconv.FormatInt(g.Interval, 10), n.ID, n.Parent, cell(n.Price), cell(n.ImportPrice), cell(n.ExportPrice), cell(n.ImportWh), cell(n.ExportWh),
			cell(n.ImportW), cell(n.ExportW), cell(n.ImportLimitW), n.ImportLimitBy, cell(n.ExportLimitW), n.ExportLimitBy, cell(n.LoadingBp),
			cell(n.FeesMicro), cell(n.RentMicro), strconv.FormatInt(n.Homes, 10),
		})
	}
	w.Flush()
	return w.Error()
}

func printEnvelopes(out io.Writer, list []api.GridEnvelope, output string) error {
	switch output {
	case "json":
		if list == nil {
			list = []api.GridEnvelope{}
		}
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(list)
	case "csv":
		w := csv.NewWriter(out)
		_ = w.Write([]string{"node", "import_w", "export_w", "lift", "from", "until", "in_force", "operator", "seq", "reason"})
		for _, e := range list {
			_ = w.Write([]string{
				e.Node, cell(e.ImportW), cell(e.ExportW), strconv.FormatBool(e.Lift), e.From.Format(time.RFC3339), e.Until.Format(time.RFC3339),
				strconv.FormatBool(e.InForce), strconv.FormatInt(e.Operator, 10), strconv.FormatInt(e.Seq, 10), e.Reason,
			})
		}
		w.Flush()
		return w.Error()
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(out, "no envelope: the limits of the network hold")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "node\timport\texport\tfrom\tuntil\tin force\treason\n")
	for _, e := range list {
		imports, exports, state := with(e.ImportW, "W"), with(e.ExportW, "W"), "later"
		if e.Lift {
			imports, exports = "lifted", "lifted"
		}
		if e.InForce {
			state = "now"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.Node, imports, exports,
			e.From.Format("2006-01-02 15:04"), e.Until.Format("2006-01-02 15:04 MST"), state, e.Reason)
	}
	return w.Flush()
}

func clearingWords(clearing string) string {
	switch clearing {
	case "forward":
		return ", decided on orders before delivery"
	case "metered":
		return ", decided by the meters after delivery"
	}
	return ""
}

// money writes micro-units with all their places; a dash if they are unknown.
func money(v *int64) string {
	if v == nil {
		return "-"
	}
	return units(*v)
}

func flowWords(wh, w *int64) string {
	if wh == nil || w == nil {
		return "-"
	}
	return fmt.Sprintf("%d Wh %d W", *wh, *w)
}

func with(v *int64, unit string) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%d %s", *v, unit)
}

func share(bp *int64) string {
	if bp == nil {
		return "-"
	}
	return fmt.Sprintf("%d.%d %%", *bp/100, *bp%100/10)
}

// cell is empty if the value is unknown.
func cell(v *int64) string {
	if v == nil {
		return ""
	}
	return strconv.FormatInt(*v, 10)
}
