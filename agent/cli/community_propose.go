package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/decision"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// proposal is what all `community propose` commands have.
type proposal struct {
	home, out, from, reason string
}

func newCommunityPropose(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "propose",
		Short: "Write down a decision for the officers to sign",
		Long: `Writes a file that says what is to be decided. Three steps, as for all that the cooperative
decides:

  1. one of these commands writes the file;
  2. officers sign it, each on their own machine: ` + "`commonwatt community approve FILE --key KEY`" + `;
  3. ` + "`commonwatt community submit FILE`" + ` hands it to the ledger.`,
		Example: `  commonwatt community propose rules rules.json --from 2027-01-01T00:00:00+01:00
  commonwatt community propose validator --home my-home`,
	}
	c.AddCommand(newProposeRules(s), newProposeNetwork(s), newProposeMembership(s), newProposeValidator(s), newProposeCorrection(s), newProposeExclusion(s))
	return c
}

// flags adds what the command needs of the common ones.
func (p *proposal) flags(c *cobra.Command, names ...string) *cobra.Command {
	f := c.Flags()
	f.StringVar(&p.home, "home", ".", "the folder of a home whose agent is running")
	f.StringVar(&p.out, "out", "decision.json", "the file to write")
	if slices.Contains(names, "from") {
		f.StringVar(&p.from, "from", "", "start of the first interval for which it holds (default: the first possible one)")
	}
	if slices.Contains(names, "reason") {
		f.StringVar(&p.reason, "reason", "", "why, for the officers and the record (required)")
	}
	return c
}

// office asks the running agent what the ledger knows, before anything is written.
func (p *proposal) office(c *cobra.Command) (household.Config, api.Community, ledger.Genesis, error) {
	var now api.Community
	if _, err := os.Lstat(p.out); err == nil {
		return household.Config{}, now, ledger.Genesis{}, usagef("--out: %s is there already, want the name of a new file", p.out)
	}
	cfg, err := household.LoadConfig(filepath.Join(p.home, household.ConfigFile))
	if err != nil {
		return cfg, now, ledger.Genesis{}, err
	}
	_, g, err := community(p.home)
	if err != nil {
		return cfg, now, g, err
	}
	now, err = askCommunity(c, cfg, p.home)
	return cfg, now, g, err
}

func askCommunity(c *cobra.Command, cfg household.Config, home string) (now api.Community, err error) {
	raw, err := ask(c.Context(), http.MethodGet, cfg, home, "/api/community", nil)
	if err == nil {
		err = json.Unmarshal(raw, &now)
	}
	if err != nil {
		return now, unanswered(cfg, home, err)
	}
	return now, nil
}

// interval reads --from: the start of an interval that is not gated yet.
func (p *proposal) interval(now api.Community, g ledger.Genesis) (market.Interval, error) {
	if p.from == "" {
		return market.Interval(now.NextGate) + 1, nil
	}
	t, err := time.Parse(time.RFC3339, p.from)
	if err != nil {
		return 0, usagef("--from: got %q, want a time such as 2027-01-01T00:00:00+01:00", p.from)
	}
	k := g.Calendar().At(t)
	if !g.Calendar().Start(k).Equal(t) {
		return 0, usagef("--from: got %s, want the start of an interval, such as %s", p.from, g.Calendar().Start(k+1).Format(time.RFC3339))
	}
	if int64(k) < now.NextGate {
		return 0, usagef("--from: got %s, want %s or later: before that the gates have closed", p.from, g.Calendar().Start(market.Interval(now.NextGate)).Format(time.RFC3339))
	}
	return k, nil
}

// write writes the file and says what comes next.
func (p *proposal) write(s streams, kind ledger.Kind, chain string, g ledger.Genesis, id market.HouseholdID, m decision.Matter) error {
	d, err := decision.New(kind, chain, id, m)
	if err != nil {
		return &problem{code: exitUsage, err: err}
	}
	if err := d.Write(p.out); err != nil {
		return &problem{code: exitFailed, err: err}
	}
	_, err = fmt.Fprintf(s.out, "%s: %s", p.out, m.Words(id, g))
	fmt.Fprintf(s.err, "hint: %d officers sign it with `commonwatt community approve %s --key KEY`; then `commonwatt community submit %s`\n",
		g.Rules.ApprovalsNeeded, p.out, p.out)
	return err
}

func newProposeRules(s streams) *cobra.Command {
	var p proposal
	return p.flags(&cobra.Command{
		Use:   "rules FILE",
		Short: "Other rules, or another tariff, from an interval on",
		Long: `FILE has all rules as JSON. Begin with those that hold: ` + "`commonwatt community rules --output json`" + `,
change what is to change, and propose the file. Prices are micro-units of the currency per kWh.`,
		Example: `  commonwatt community rules --home my-home --output json > rules.json
  commonwatt community propose rules rules.json --home my-home --from 2027-01-01T00:00:00+01:00`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			rules := new(ledger.Rules)
			if err := readJSON(args[0], rules); err != nil {
				return err
			}
			_, now, g, err := p.office(c)
			if err != nil {
				return err
			}
			k, err := p.interval(now, g)
			if err != nil {
				return err
			}
			return p.write(s, ledger.KindRules, now.Name, g, market.HouseholdID{}, &decision.Rules{Number: now.Decisions + 1, From: k, Rules: rules})
		},
	}, "from")
}

func newProposeNetwork(s streams) *cobra.Command {
	var p proposal
	var remove []string
	return func() *cobra.Command {
		c := p.flags(&cobra.Command{
			Use:   "network [FILE]",
			Short: "Other feeders, limits or fees, from an interval on",
			Long: `FILE has a list of nodes as JSON: new ones, and those that change, as ` + "`commonwatt community network`" + `
shows them with --output json. Nodes that it does not name stay as they are.`,
			Example: `  commonwatt community propose network feeders.json --home my-home
  commonwatt community propose network --remove feeder-3`,
			Args: cobra.MaximumNArgs(1),
			RunE: func(c *cobra.Command, args []string) error {
				m := &decision.Network{Nodes: []ledger.Node{}, Remove: slices.Sorted(slices.Values(remove))}
				if len(args) == 1 {
					if err := readJSON(args[0], &m.Nodes); err != nil {
						return err
					}
				}
				_, now, g, err := p.office(c)
				if err != nil {
					return err
				}
				if m.From, err = p.interval(now, g); err != nil {
					return err
				}
				m.Number = now.Decisions + 1
				return p.write(s, ledger.KindNetwork, now.Name, g, market.HouseholdID{}, m)
			},
		}, "from")
		c.Flags().StringSliceVar(&remove, "remove", nil, "nodes that go")
		return c
	}()
}

// maxDocument bounds a file that a person gives: the largest network has some 3 MB.
const maxDocument = 8 << 20

// readJSON reads a file strictly.
func readJSON(path string, into any) error {
	f, err := os.Open(path) //nolint:gosec // the person named it
	if err != nil {
		return &problem{code: exitUsage, err: err}
	}
	defer f.Close() //nolint:errcheck // only read from
	dec := json.NewDecoder(io.LimitReader(f, maxDocument))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return usagef("reading %s: %v", path, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return usagef("reading %s: got more after the JSON", path)
	}
	return nil
}
