package cli

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/store"
)

// envelopeFlags are what a grid operator says.
type envelopeFlags struct {
	home, key, node, from, until, reason string
	importW, exportW                     int64
	lift                                 bool
}

func newGridEnvelope(s streams) *cobra.Command {
	var f envelopeFlags
	c := &cobra.Command{
		Use:   "envelope",
		Short: "Set a limit on a node, as the grid operator",
		Long: `Signs a limit with the grid operator's key and hands it to the ledger by this home's
running agent. It binds from the next gate on at the earliest, and stands in the place of
the node's own limits while it is in force. Times are the community's.`,
		Example: `  commonwatt grid envelope --home demo-data/homes/home-1 --key demo-data/cooperative/grid-operator.key \
    --node feeder-1 --export-w 500 --until 2026-06-21T14:00:00Z --reason "voltage at the end of the line"`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for _, name := range []string{"key", "node", "until", "reason"} {
				if !c.Flags().Changed(name) {
					return usagef("--%s is missing, see `commonwatt grid envelope --help`", name)
				}
			}
			e := ledger.Envelope{Node: f.node, Lift: f.lift, Reason: f.reason}
			if c.Flags().Changed("import-w") {
				e.ImportW = &f.importW
			}
			if c.Flags().Changed("export-w") {
				e.ExportW = &f.exportW
			}
			return setEnvelope(c.Context(), f, e, s)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.home, "home", ".", "the folder of a home whose agent is running")
	fl.StringVar(&f.key, "key", "", "file with the grid operator's key (required)")
	fl.StringVar(&f.node, "node", "", "node of the network (required)")
	fl.Int64Var(&f.importW, "import-w", 0, "at most so many W towards the node")
	fl.Int64Var(&f.exportW, "export-w", 0, "at most so many W away from the node")
	fl.BoolVar(&f.lift, "lift", false, "end earlier envelopes for the node and time: its own limits again")
	fl.StringVar(&f.from, "from", "", "first instant, such as 2026-06-21T12:00:00Z (default: as soon as it can bind)")
	fl.StringVar(&f.until, "until", "", "instant of its end (required)")
	fl.StringVar(&f.reason, "reason", "", "why, for the people behind the node (required)")
	return c
}

func setEnvelope(ctx context.Context, f envelopeFlags, e ledger.Envelope, s streams) error {
	cfg, err := household.LoadConfig(filepath.Join(f.home, household.ConfigFile))
	if err != nil {
		return err
	}
	key, err := household.LoadKey(f.key)
	if err != nil {
		return &problem{code: exitUsage, err: fmt.Errorf("--key: %w", err)}
	}
	chain, g, err := community(f.home)
	if err != nil {
		return err
	}
	operator := slices.Index(g.Operators, household.Public(key))
	if operator < 0 {
		return usagef("--key: %s is not the key of one of the %d grid operators of %s", f.key, len(g.Operators), chain)
	}
	now := time.Now()
	if err := f.span(&e, g, now); err != nil {
		return err
	}
	// The wall clock's milliseconds, as for orders: later is higher.
	e.Seq = uint64(max(1, now.UnixMilli()))
	tx := (&ledger.SetEnvelope{Operator: uint64(operator), Envelope: e}).Sign(chain, key)
	body, err := json.Marshal(api.Submission{Transaction: hex.EncodeToString(tx)})
	if err != nil {
		return err
	}
	if _, err := ask(ctx, http.MethodPost, cfg, f.home, "/api/transactions", body); err != nil {
		if refused := (*refusal)(nil); errors.As(err, &refused) {
			return &problem{code: exitUsage, err: fmt.Errorf("the ledger refuses it: %w", err)}
		}
		return unanswered(cfg, f.home, err)
	}
	calendar := g.Calendar()
	_, err = fmt.Fprintf(s.out, "%s: from %s (interval %d) until %s (interval %d); it waits for the next block\n", e.Node,
		calendar.Start(e.From).Format(time.RFC3339), e.From, calendar.Start(e.Until).Format(time.RFC3339), e.Until)
	return err
}

// span turns the times into intervals: whole ones, within what was asked for.
func (f *envelopeFlags) span(e *ledger.Envelope, g ledger.Genesis, now time.Time) error {
	calendar := g.Calendar()
	at := func(flag, text string) (market.Interval, error) {
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return 0, usagef("--%s: got %q, want a time such as 2026-06-21T12:00:00Z", flag, text)
		}
		k := calendar.At(t)
		if !calendar.Start(k).Equal(t) {
			return 0, usagef("--%s: got %s, want the start of an interval of %v, such as %s", flag, text, calendar.Length, calendar.Start(k).Format(time.RFC3339))
		}
		return k, nil
	}
	var err error
	// By the time that it is in a block the next gate may have closed.
	e.From = calendar.NextGate(g.Clock().Community(now)) + 1
	if f.from != "" {
		if e.From, err = at("from", f.from); err != nil {
			return err
		}
	}
	if e.Until, err = at("until", f.until); err != nil {
		return err
	}
	if e.Until <= e.From {
		return usagef("--until: got %s, want after %s", f.until, calendar.Start(e.From).Format(time.RFC3339))
	}
	return nil
}

// community reads the genesis document of a home.
func community(home string) (chain string, g ledger.Genesis, err error) {
	raw, err := os.ReadFile(filepath.Join(home, household.CommunityFile)) //nolint:gosec // the person's own folder
	if err != nil {
		return "", g, &problem{exitUsage, fmt.Errorf("reading the community: %w", err), "ask your cooperative for its " + household.CommunityFile}
	}
	if chain, g, err = consensus.ParseGenesis(raw); err != nil {
		return "", g, &problem{code: exitUsage, err: err}
	}
	return chain, g, nil
}

// storedGrid reads the ledger of an agent that is not running; why is what it did not
// answer with. A negative index is the newest interval that is settled.
func storedGrid(home string, index int64, why error) (*api.Grid, error) {
	chain, genesis, err := community(home)
	if err != nil {
		return nil, err
	}
	st, err := store.Open(consensus.LedgerFile(filepath.Join(home, household.EngineFolder)), chain, genesis)
	if err != nil {
		return nil, &problem{code: exitFailed, err: fmt.Errorf("the agent of %s does not answer (%w), and its ledger: %w", home, why, err)}
	}
	defer st.Close() //nolint:errcheck // only read from
	keys, err := household.LoadKeys(home)
	if err != nil {
		return nil, err
	}
	var result *ledger.MarketResult
	from := market.Interval(max(index, 0))
	if index < 0 {
		from = max(0, st.State().Next()-newestWithin)
	}
	err = st.Results(from, func(r *ledger.MarketResult) bool {
		if index < 0 || int64(r.Interval) == index {
			result = r
		}
		return index < 0
	})
	if err != nil {
		return nil, err
	}
	if index < 0 && result != nil {
		index = int64(result.Interval)
	}
	g, ok, err := household.GridOf(st.State(), keys.ID(), market.Interval(max(index, 0)), result)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &problem{code: exitFailed, err: fmt.Errorf("the ledger of %s knows nothing of such an interval", home)}
	}
	return &g, nil
}

// newestWithin is how many intervals before the next gate the newest settled one is
// looked for.
const newestWithin = 10_000
