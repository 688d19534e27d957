package cli

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/decision"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
)

type replaceOptions struct {
	home, out, submit, reason, from, key string
	epoch                                uint32
}

func newMeterReplace(s streams) *cobra.Command {
	var o replaceOptions
	c := &cobra.Command{
		Use:   "replace",
		Short: "Go on with another meter, or a counter that was reset, at the grid connection",
		Long: `The home is settled on the meter at its connection, so another one counts only with the
cooperative's approval. Its readings are set aside until then. Three steps:

  1. this command writes down what the home asks for, in a file;
  2. officers sign the file, with ` + "`commonwatt community approve`" + `;
  3. this command, with --submit, hands it to the ledger.

What flowed between the last reading of the old counter and the first of the new one is
proven by neither, and is settled on substitutes unless officers correct it. Other meters of
the home need no officer, see ` + "`commonwatt meter approve`" + `.`,
		Example: `  commonwatt meter replace --home my-home --reason "the old meter was broken" --out replacement.json
  commonwatt meter replace --home my-home --submit replacement.json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c, s) },
	}
	f := c.Flags()
	f.StringVar(&o.home, "home", ".", "the folder of the home, whose agent is running")
	f.StringVar(&o.out, "out", "replacement.json", "the file to write")
	f.StringVar(&o.submit, "submit", "", "hand over this file, with the officers' signatures")
	f.StringVar(&o.reason, "reason", "", "why, for the officers (required without --submit)")
	f.StringVar(&o.from, "from", "", "start of the first interval of the new counter (default: the next that begins)")
	f.StringVar(&o.key, "meter-key", "", "public key of a new meter that signs its readings, in hexadecimal")
	f.Uint32Var(&o.epoch, "epoch", 0, "epoch of the new counter's readings (default: one above the old one's; 0 for a new key)")
	return c
}

func (o *replaceOptions) run(c *cobra.Command, s streams) error {
	cfg, err := household.LoadConfig(filepath.Join(o.home, household.ConfigFile))
	if err != nil {
		return err
	}
	if o.submit != "" {
		for _, name := range []string{"reason", "from", "meter-key", "epoch", "out"} {
			if c.Flags().Changed(name) {
				return usagef("--%s: not with --submit, whose file says it", name)
			}
		}
		return o.submitFile(c.Context(), cfg, s)
	}
	if o.reason == "" {
		return usagef("--reason is missing, see `commonwatt meter replace --help`")
	}
	if _, err := os.Lstat(o.out); err == nil {
		return usagef("--out: %s is there already, want the name of a new file", o.out)
	}
	d, r, from, err := o.request(c, cfg)
	if err != nil {
		return err
	}
	if err := d.Write(o.out); err != nil {
		return &problem{code: exitFailed, err: err}
	}
	_, err = fmt.Fprintf(s.out, "%s: epoch %d of the meter begins at %s (interval %d)\n", o.out, r.Epoch, from.Format(time.RFC3339), r.From)
	fmt.Fprintf(s.err, "hint: officers sign it with `commonwatt community approve %s --key KEY`; then `commonwatt meter replace --home %s --submit %s`\n", o.out, o.home, o.out)
	return err
}

// request is what the home asks for, by the ledger's record of its meter.
func (o *replaceOptions) request(c *cobra.Command, cfg household.Config) (*decision.File, *decision.Replacement, time.Time, error) {
	fail := func(err error) (*decision.File, *decision.Replacement, time.Time, error) {
		return nil, nil, time.Time{}, err
	}
	_, g, err := community(o.home)
	if err != nil {
		return fail(err)
	}
	var now api.Registration
	raw, err := ask(c.Context(), http.MethodGet, cfg, o.home, "/api/meters/connection", nil)
	if err == nil {
		err = json.Unmarshal(raw, &now)
	}
	if err != nil {
		return fail(unanswered(cfg, o.home, err))
	}
	calendar := g.Calendar()
	k := max(market.Interval(now.FirstUnreported), calendar.At(g.Clock().Community(time.Now()))+1)
	k = min(k, market.Interval(now.NextGate))
	if o.from != "" {
		t, err := time.Parse(time.RFC3339, o.from)
		if err != nil {
			return fail(usagef("--from: got %q, want a time such as 2026-06-21T12:00:00Z", o.from))
		}
		if k = calendar.At(t); !calendar.Start(k).Equal(t) || int64(k) < now.FirstUnreported || int64(k) > now.NextGate {
			return fail(usagef("--from: got %s, want the start of an interval from %s, the first that is not reported, to %s", o.from,
				calendar.Start(market.Interval(now.FirstUnreported)).Format(time.RFC3339), calendar.Start(market.Interval(now.NextGate)).Format(time.RFC3339)))
		}
	}
	r := &decision.Replacement{
		Meter: now.Meter, From: k, Epoch: o.epoch, Key: now.Key, SignedBy: now.SignedBy, Definition: now.Definition, Reason: o.reason,
	}
	if !c.Flags().Changed("epoch") && o.key == "" {
		r.Epoch = 1
		if now.Epoch != nil {
			r.Epoch = *now.Epoch + 1
		}
	}
	if err := o.reads(r, cfg); err != nil {
		return fail(err)
	}
	id, err := market.ParseHouseholdID(now.Household)
	if err != nil {
		return fail(err)
	}
	d, err := decision.New(ledger.KindReplacement, now.Community, id, r)
	if err != nil {
		return fail(&problem{code: exitUsage, err: err})
	}
	return d, r, calendar.Start(k), nil
}

// reads says by which definition the new meter is read, as the configuration has it, and
// who signs.
func (o *replaceOptions) reads(r *decision.Replacement, cfg household.Config) error {
	for _, m := range cfg.Meters {
		if m.Role != household.RoleConnection {
			continue
		}
		definition, err := meter.FindDefinition("", m.Definition)
		if err != nil {
			return err
		}
		r.Definition, r.SignedBy = definition.Source(), definition.SignedBy
	}
	switch device := r.SignedBy == meter.SignedByDevice; {
	case o.key != "" && !device:
		return usagef("--meter-key: the agent signs for %s, want a definition in %s whose meter signs itself", r.Definition, household.ConfigFile)
	case o.key != "":
		r.Key = o.key
	case !device:
		keys, err := household.LoadKeys(o.home)
		if err != nil {
			return err
		}
		public := household.Public(keys.Meter)
		r.Key = hex.EncodeToString(public[:])
	}
	return nil
}

// submitFile makes the transaction of a file with the officers' signatures.
func (o *replaceOptions) submitFile(ctx context.Context, cfg household.Config, s streams) error {
	d, err := readDecision(o.submit)
	if err != nil {
		return err
	}
	matter, id, err := d.Matter()
	if err != nil {
		return err
	}
	r, ok := matter.(*decision.Replacement)
	if !ok {
		return usagef("--submit: %s decides on a %s, want a %s", o.submit, d.Kind, ledger.KindReplacement)
	}
	keys, err := household.LoadKeys(o.home)
	if err != nil {
		return err
	}
	if keys.ID() != id {
		return usagef("household: %s is of %s, this home is %s", o.submit, id, keys.ID())
	}
	transactions, err := d.Transactions(func(ledger.Kind) (decision.Signer, error) { return decision.Signer{Key: keys.Device}, nil })
	if err != nil {
		return &problem{code: exitUsage, err: err}
	}
	body, err := json.Marshal(api.Submission{Transaction: hex.EncodeToString(transactions[0])})
	if err != nil {
		return err
	}
	if _, err := ask(ctx, http.MethodPost, cfg, o.home, "/api/transactions", body); err != nil {
		if refused := (*refusal)(nil); errors.As(err, &refused) {
			return &problem{code: exitUsage, err: fmt.Errorf("the ledger refuses it: %w", err)}
		}
		return unanswered(cfg, o.home, err)
	}
	_, err = fmt.Fprintf(s.out, "epoch %d of the meter is handed to the ledger; the agent goes on with it from interval %d on\n", r.Epoch, r.From)
	return err
}

func newMeterApprove(s streams) *cobra.Command {
	var home, role, serial string
	c := &cobra.Command{
		Use:   "approve",
		Short: "Go on with another solar or battery meter",
		Long: `When another device answers in the place of a meter, its readings are set aside until a person
says that it is right. For solar and battery meters that is the homeowner, with this command;
for the one at the grid connection see ` + "`commonwatt meter replace`" + `.`,
		Example: `  commonwatt meter approve --home my-home --role solar --serial 20000002`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if role == "" {
				return usagef("--role is missing, want solar or battery")
			}
			cfg, err := household.LoadConfig(filepath.Join(home, household.ConfigFile))
			if err != nil {
				return err
			}
			body, err := json.Marshal(api.Approval{Serial: serial})
			if err != nil {
				return err
			}
			_, err = ask(c.Context(), http.MethodPost, cfg, home, "/api/meters/"+url.PathEscape(role)+"/approval", body)
			if refused := (*refusal)(nil); errors.As(err, &refused) {
				return &problem{code: exitUsage, err: err}
			}
			if err != nil {
				return unanswered(cfg, home, err)
			}
			_, err = fmt.Fprintf(s.out, "the %s meter that answers now is read from its next reading on\n", role)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&home, "home", ".", "the folder of the home, whose agent is running")
	f.StringVar(&role, "role", "", "solar or battery (required)")
	f.StringVar(&serial, "serial", "", "its serial number, as the page says it; empty if it says none")
	return c
}

// unanswered says that the agent of a home gave no usable answer.
func unanswered(cfg household.Config, home string, err error) error {
	if p := (*problem)(nil); errors.As(err, &p) {
		return p
	}
	if errors.As(err, new(*refusal)) || errors.As(err, new(*answer)) {
		return &problem{code: exitFailed, err: err}
	}
	err = fmt.Errorf("asking the agent of %s: %w", cfg.Name, err)
	if pid := agentPID(home); pid != 0 {
		return &problem{exitFailed, err, fmt.Sprintf("process %d seems to be it: it may be starting, or ending; try again, and look into its log", pid)}
	}
	return &problem{exitFailed, err, "is it running? start it with `commonwatt run --home " + home + "`"}
}
