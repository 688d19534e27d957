package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/household"
)

const maxStatusBytes = 1 << 20

// fetchWithin is more than an agent takes for any answer.
const fetchWithin = 20 * time.Second

// answer is what an agent says when it does not do what it was asked.
type answer struct {
	status int
	text   string
}

func (a *answer) Error() string { return a.text }

func newStatus(s streams) *cobra.Command {
	var home, output string
	c := &cobra.Command{
		Use:     "status",
		Short:   "Ask this home's running agent how it is",
		Example: `  commonwatt status --home /var/lib/commonwatt --output json`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := household.LoadConfig(filepath.Join(home, household.ConfigFile))
			if err != nil {
				return err
			}
			raw, err := fetch(c.Context(), cfg, home, "/api/status", maxStatusBytes)
			if err != nil {
				if raw, v := joiningNow(home); v != nil {
					return printJoining(s, output, raw, v)
				}
				return unanswered(cfg, home, err)
			}
			if output == "json" {
				_, err := s.out.Write(raw)
				return err
			}
			trust, err := genesisHash(home)
			if err != nil {
				return err
			}
			nagWords(s.out, home)
			return printStatus(s.out, raw, trust, pageRows(cfg, home))
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the home's folder")
	addOutput(c, &output, "table", "json")
	return c
}

// fetch gets a bounded document from the agent of a home on this machine.
func fetch(ctx context.Context, cfg household.Config, home, path string, most int64) ([]byte, error) {
	status, raw, err := call(ctx, http.MethodGet, cfg, home, path, nil, most, fetchWithin)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		var refused struct{ Detail string }
		if json.Unmarshal(raw, &refused) == nil && refused.Detail != "" {
			return nil, &answer{status: status, text: refused.Detail}
		}
		return nil, &answer{status: status, text: fmt.Sprintf("%s answered %d %s", path, status, http.StatusText(status))}
	}
	return raw, nil
}

func printStatus(out io.Writer, raw []byte, trust string, page [][2]string) error {
	var v api.Snapshot
	if err := json.Unmarshal(raw, &v); err != nil {
		return fmt.Errorf("reading the agent's answer: %w", err)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", args...) }
	row("home", "%s (%s)", v.Home.Name, v.Home.ID)
	row("community", "%s, %s", v.Home.Community, v.Home.Role)
	row("genesis", "%s", trust)
	for _, r := range page {
		row(r[0], "%s", r[1])
	}
	row("time", "%s", v.At.Format(time.RFC3339))
	row("ledger", "block %s, %d peers, validators %s of %s connected", orUnknown(v.Ledger.Height), len(v.Ledger.Peers),
		orUnknown(v.Ledger.ValidatorsUp), orUnknown(v.Ledger.ValidatorsTotal))
	if v.Ledger.WaitingFor != "" {
		row("", "%s", v.Ledger.WaitingFor)
	}
	for _, p := range v.Ledger.Peers {
		row("peer", "%s", peerText(p))
	}
	row("reached", "%s", reachedText(v.Ledger.Reached))
	for _, p := range v.Ledger.Providers {
		row("provider", "%s", providerText(p))
	}
	row("clock", "%s, at most %s ms off", v.Clock.State, orUnknown(v.Clock.ErrorMs))
	for _, m := range v.Meters {
		state := string(m.State)
		if m.SetAside {
			state = "set aside until the old one answers or this one is approved"
		}
		row("meter", "%s: %s, import %s Wh, export %s Wh, %s W", m.Role, state, orUnknown(m.ImportWh), orUnknown(m.ExportWh), orUnknown(m.PowerW))
		row("", "%s", meterCounts(m))
	}
	for _, p := range v.Problems {
		row("problem", "%s", p.Text)
		if p.Hint != "" {
			row("", "%s", p.Hint)
		}
	}
	return w.Flush()
}

// reachedText says whether others come in from outside by themselves.
func reachedText(yes *bool) string {
	switch {
	case yes == nil:
		return "no home outside this network has tried yet"
	case *yes:
		return "from outside, by other homes"
	default:
		return "from outside only through holes in the router, or a third home"
	}
}

// providerText says whom a light home asks, and what it thinks of them.
func providerText(p api.LedgerProvider) string {
	text := p.ID
	if p.Name != "" {
		text = p.Name + ", " + p.ID
	}
	text += ", block " + orUnknown(p.Height)
	switch {
	case p.Accused != "":
		text += ", lied and is not asked any more: " + p.Accused
	case p.Withholds:
		text += ", withholds blocks that others have"
	}
	return text
}

// peerText says who a peer is and how bytes get there.
func peerText(p api.Peer) string {
	text := p.ID
	if p.Name != "" {
		text = p.Name + ", " + p.ID
	}
	if p.Path != "" {
		text += ", " + p.Path
	}
	if p.Via != "" {
		text += " by " + p.Via
	}
	return text + ", " + p.Address
}

// meterCounts says who signs for a meter and what became of its samples.
func meterCounts(m api.Meter) string {
	text := fmt.Sprintf("signed by the %s, %d readings", m.SignedBy, m.Readings)
	if m.SignedBy == "agent" {
		text = fmt.Sprintf("signed by this gateway, %d readings", m.Readings)
	}
	for _, key := range slices.Sorted(maps.Keys(m.Others)) {
		text += fmt.Sprintf(", %d %s", m.Others[key], key)
	}
	return text
}

func orUnknown(v *int64) string {
	if v == nil {
		return "unknown"
	}
	return fmt.Sprint(*v)
}
