package cli

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

type leaveOptions struct {
	home, reason string
	sure         bool
}

func newLeave(s streams) *cobra.Command {
	var o leaveOptions
	c := &cobra.Command{
		Use:   "leave",
		Short: "End this household's membership",
		Long: `From the interval after the next gate on the home takes no part. What it metered until then
is settled to the end, corrections included; let the agent run until its reports are in. Its
last month's bill is the final one when nothing can change it any more: see
` + "`commonwatt bill --final`" + `. Who comes back later comes as another household.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c, s) },
	}
	c.Flags().StringVar(&o.home, "home", ".", "the folder of the home, whose agent is running")
	c.Flags().StringVar(&o.reason, "reason", "", "why, if you like")
	c.Flags().BoolVar(&o.sure, "yes", false, "do not ask whether it is meant")
	return c
}

func (o *leaveOptions) run(c *cobra.Command, s streams) error {
	cfg, err := household.LoadConfig(filepath.Join(o.home, household.ConfigFile))
	if err != nil {
		return err
	}
	chain, g, err := community(o.home)
	if err != nil {
		return err
	}
	keys, err := household.LoadKeys(o.home)
	if err != nil {
		return &problem{code: exitUsage, err: err}
	}
	if !o.sure {
		answer, err := newDialogue(s).ask(c.Context(), fmt.Sprintf("household %s leaves %s for good; type the community's name: ", keys.ID(), chain))
		if err != nil && !errors.Is(err, errNoAnswer) {
			return err
		}
		if answer != chain {
			return usagef("got %.60q, want %q: the household stays", answer, chain)
		}
	}
	var now api.Registration
	raw, err := ask(c.Context(), http.MethodGet, cfg, o.home, "/api/meters/connection", nil)
	if err == nil {
		err = json.Unmarshal(raw, &now)
	}
	if err != nil {
		return unanswered(cfg, o.home, err)
	}
	// The next gate may close meanwhile.
	from := market.Interval(now.NextGate) + 1
	tx := (&ledger.Depart{From: from, By: ledger.DepartByDevice, Reason: o.reason}).Sign(chain, keys.ID(), keys.Device)
	body, err := json.Marshal(api.Submission{Transaction: hex.EncodeToString(tx)})
	if err != nil {
		return err
	}
	if _, err := ask(c.Context(), http.MethodPost, cfg, o.home, "/api/transactions", body); err != nil {
		if refused := (*refusal)(nil); errors.As(err, &refused) {
			return &problem{code: exitUsage, err: fmt.Errorf("the ledger refuses it: %w", err)}
		}
		return unanswered(cfg, o.home, err)
	}
	_, err = fmt.Fprintf(s.out, "household %s leaves %s at %s (interval %d)\n", keys.ID(), chain, g.Calendar().Start(from).Format(time.RFC3339), from)
	fmt.Fprintf(s.err, "hint: let the agent run until its last reports are in; `commonwatt bill --home %s --final` says when the last bill is final\n", o.home)
	return err
}
