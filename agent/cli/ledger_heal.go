package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/consensus"
)

func newLedgerHeal(s streams) *cobra.Command {
	var home, output, log string
	var restored bool
	var patience time.Duration
	c := &cobra.Command{
		Use:   "heal",
		Short: "Get the ledger from the other homes in place of a damaged one",
		Long: `Gets the ledger of a stopped home from the other homes, when its own is damaged: a
snapshot that the validators' signatures prove, or in a young community all blocks,
which "commonwatt run" then fetches. What is damaged is kept in a folder of its own,
named by date, and only after another home has answered. Keys, readings and reports stay as they are. It can
be interrupted, and run again.

What a validator has signed stays too, so that it never signs twice. If that is lost
itself, or with --restored because the whole folder came from a backup, the home follows
the ledger, and signs again from a block on that it cannot have signed before.`,
		Example: `  commonwatt ledger heal --home /var/lib/commonwatt
  commonwatt ledger heal --home /var/lib/commonwatt --restored`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if patience <= 0 || patience > time.Hour {
				return usagef("--patience: got %v, want more than 0 and at most 1h", patience)
			}
			l, err := newLog(s.err, log)
			if err != nil {
				return err
			}
			return heal(c.Context(), healing{dir: home, restored: restored, patience: patience, log: l}, output, s)
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the home's folder")
	c.Flags().BoolVar(&restored, "restored", false, "the folder came from a backup: what this validator signed since is not in it")
	c.Flags().DurationVar(&patience, "patience", time.Minute, "how long to wait until another home answers")
	c.Flags().StringVar(&log, "log", "warn", "debug, info, warn or error")
	addOutput(c, &output, "table", "json")
	return c
}

// healing is one run of the command.
type healing struct {
	dir      string
	restored bool
	patience time.Duration
	log      *slog.Logger
}

func heal(ctx context.Context, h healing, output string, s streams) error {
	cfg, err := household.LoadConfig(filepath.Join(h.dir, household.ConfigFile))
	if err != nil {
		return err
	}
	if cfg.Role == household.RoleLight {
		return &problem{exitUsage, fmt.Errorf("%s is a light home: it keeps no ledger", h.dir), "`commonwatt run --home " + h.dir + "` asks the other homes anew"}
	}
	idle, err := household.Claim(h.dir)
	if err != nil {
		return explain(err, cfg, h.dir)
	}
	defer idle() //nolint:errcheck // nothing was written
	done, err := h.run(ctx, cfg, s)
	if err != nil {
		return explain(err, cfg, h.dir)
	}
	if output == "json" {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		return enc.Encode(done)
	}
	return printHealed(done, h.dir, s)
}

func (h *healing) run(ctx context.Context, cfg household.Config, s streams) (done *consensus.Healed, err error) {
	keys, err := household.LoadKeys(h.dir)
	if err != nil {
		return nil, keysProblem(err)
	}
	genesis, err := os.ReadFile(filepath.Join(h.dir, household.CommunityFile))
	if err != nil {
		return nil, &problem{exitUsage, fmt.Errorf("reading the community: %w", err), "ask your cooperative for its " + household.CommunityFile}
	}
	if len(cfg.Peers.Bootstrap) == 0 && !cfg.Peers.MDNS {
		return nil, &problem{exitUsage, errors.New("agent.yaml names no other home"), "write the address of one that keeps the ledger under peers.bootstrap"}
	}
	host, err := askingHost(cfg, h.dir, keys, genesis, h.log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	_, state := household.ValidatorKeyFiles(h.dir)
	w := &healWatch{s: s}
	j := consensus.Join{
		Home: filepath.Join(h.dir, household.EngineFolder), Genesis: genesis, Retention: cfg.KeptFor(), Patience: h.patience,
		Progress: w.note, Log: h.log.With("room", "consensus"),
	}
	askOver(&j, host)
	return consensus.Heal{Join: j, StateFile: state, Restored: h.restored}.Run(ctx)
}

// healWatch tells a person how far it is, a line for each step and each trouble.
type healWatch struct {
	s    streams
	said string
}

func (w *healWatch) note(p consensus.JoinProgress) {
	text := p.Step
	if p.Height > 0 {
		text += fmt.Sprintf(" (block %d of %d)", p.Height, p.Newest)
	}
	if p.Trouble != "" {
		text += ": " + p.Trouble
	}
	if text != w.said {
		w.said = text
		fmt.Fprintln(w.s.err, text)
	}
}

func printHealed(d *consensus.Healed, dir string, s streams) error {
	text := ""
	if d.Height > 0 {
		text = fmt.Sprintf("the ledger is that of block %d, from the other homes (%d bytes); the newest is %d\n", d.Height, d.Bytes, d.Newest)
	} else {
		text = fmt.Sprintf("the ledger will be fetched from its first block on; the newest is %d\n", d.Newest)
	}
	if d.Kept != "" {
		text += fmt.Sprintf("the damaged one is kept in %s; it may go when all is well\n", d.Kept)
	}
	if d.Unsigned {
		text += "what this validator had signed is not known: it signs again from a later block on\n"
	}
	_, err := fmt.Fprintf(s.out, "%s`commonwatt run --home %s` goes on\n", text, dir)
	return err
}
