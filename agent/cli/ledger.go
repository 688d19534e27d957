package cli

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/store"
)

func newLedger(s streams) *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "Check the ledger yourself, heal it, audit its validators, and export its books"}
	c.AddCommand(newLedgerCheck(s), newLedgerHeal(s), newLedgerExport(s), newLedgerGenesisHash(s), newLedgerAudit(s))
	return c
}

func newLedgerCheck(s streams) *cobra.Command {
	var output, trust string
	c := &cobra.Command{
		Use:   "check DIR | ARCHIVE...",
		Short: "Replay a ledger from its first block and list every difference",
		Long: `Reads the ledger of a stopped agent: every page and checksum of the file, the sum of
all accounts, each household's chain of settlements; then verifies the blocks with
the validators' signatures, replays them from the first one, and compares every
record. DIR is a home's folder, or that of a demonstration or of a community that was
founded here, all of whose homes are then checked. Of a home that has joined by a
snapshot, or has pruned its first blocks, it follows the blocks that are there.

ARCHIVE is a file of "commonwatt ledger export --archive": all its blocks are executed
from the genesis on, without any ledger beside it. Of a node that pruned, give all its
archives, the oldest first.

Exit code 0: all is well. 4: there are differences; each is named.`,
		Example: `  commonwatt ledger check demo-data/homes/home-1
  commonwatt ledger check demo-data --output json
  commonwatt ledger check 2026.archive 2027.archive --trust GENESIS-HASH`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if isArchive(args) {
				return checkArchives(args, trust, output, s)
			}
			if trust != "" {
				return usagef("--trust: it is for archives, a home has its own community")
			}
			return checkLedgers(args[0], output, s)
		},
	}
	c.Flags().StringVar(&trust, "trust", "", "the genesis hash that an archive must have")
	addOutput(c, &output, "table", "json")
	return c
}

// checked is what the check of one ledger says.
type checked struct {
	Dir         string   `json:"dir"`
	OK          bool     `json:"ok"`
	Height      int64    `json:"height"`
	AppHash     string   `json:"app_hash"`
	Households  int      `json:"households"`
	Records     int      `json:"records"`
	History     int      `json:"history"`
	Replayed    int64    `json:"blocks_replayed"`
	Followed    int64    `json:"blocks_followed"`
	Base        int64    `json:"first_block"`
	Differences []string `json:"differences"`
}

// allChecked is the answer of the command.
type allChecked struct {
	OK      bool      `json:"ok"`
	Ledgers []checked `json:"ledgers"`
}

// first is the first folder with differences.
func (a *allChecked) first() string {
	for _, c := range a.Ledgers {
		if !c.OK {
			return c.Dir
		}
	}
	return ""
}

func checkLedgers(dir, output string, s streams) error {
	dirs, err := ledgerFolders(dir)
	if err != nil {
		return err
	}
	answer := allChecked{OK: true}
	for _, d := range dirs {
		c, err := checkLedger(d, s)
		if errors.Is(err, store.ErrInUse) || errors.Is(err, consensus.ErrInUse) {
			return &problem{exitFailed, err, "its agent is running" + runningAs(d) + ": end it first"}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return &problem{exitFailed, fmt.Errorf("%s has no ledger yet", d), "it begins with `commonwatt run --home " + d + "`"}
		}
		if err != nil {
			return fmt.Errorf("checking %s: %w", d, err)
		}
		answer.OK = answer.OK && c.OK
		answer.Ledgers = append(answer.Ledgers, c)
	}
	if output == "json" {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		err = enc.Encode(answer)
	} else {
		err = printChecked(answer.Ledgers, s)
	}
	if err != nil {
		return err
	}
	if !answer.OK {
		return &problem{exitDiffers, errors.New("the ledger is not what its blocks say"), "if the agent was killed, or the disk was full, start it and end it once: that mends a record half written; else `commonwatt ledger heal --home " + answer.first() + "` gets the ledger from the other homes, and keeps this one"}
	}
	return nil
}

// ledgerFolders finds the homes that DIR stands for.
func ledgerFolders(dir string) ([]string, error) {
	has := func(d, name string) bool {
		_, err := os.Stat(filepath.Join(d, name))
		return err == nil
	}
	// The folder that community create made has the genesis document too, beside its homes.
	isHome := func(d string) bool {
		return has(d, household.CommunityFile) && (has(d, household.ConfigFile) || has(d, household.EngineFolder))
	}
	isLight := func(d string) bool {
		cfg, err := household.LoadConfig(filepath.Join(d, household.ConfigFile))
		return err == nil && cfg.Role == household.RoleLight
	}
	if isHome(dir) && isLight(dir) {
		return nil, &problem{
			exitUsage, fmt.Errorf("%s is a light home: it keeps no ledger", dir),
			"`commonwatt bill --proof` has it prove its account; the ledger is checked in the folder of a validator or replica",
		}
	}
	if isHome(dir) {
		return []string{dir}, nil
	}
	for _, pattern := range []string{"homes/*", "*"} {
		all, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, usagef("%s: %w", dir, err)
		}
		if homes := slices.DeleteFunc(all, func(d string) bool { return !isHome(d) || isLight(d) }); len(homes) > 0 {
			return homes, nil
		}
	}
	return nil, &problem{
		exitUsage, fmt.Errorf("%s: there is no ledger: it is no home, and there is none in it", dir),
		"name a home's folder, that of a community founded here, or the data folder of a demonstration",
	}
}

func checkLedger(dir string, s streams) (checked, error) {
	raw, err := os.ReadFile(filepath.Join(dir, household.CommunityFile)) //nolint:gosec // the person named the folder
	if err != nil {
		return checked{}, err
	}
	chain, g, err := consensus.ParseGenesis(raw)
	if err != nil {
		return checked{}, err
	}
	engine := filepath.Join(dir, household.EngineFolder)
	bar := progressbar.NewOptions64(-1, progressbar.OptionSetWriter(s.err), progressbar.OptionSetDescription("replaying "+filepath.Base(dir)),
		progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionSetVisibility(visible(s)))
	var broken []error
	report, err := store.Check(consensus.LedgerFile(engine), chain, g, func(yield func(store.Committed, error) bool) {
		for b, err := range consensus.Blocks(engine) {
			if err != nil {
				broken = append(broken, err)
				continue
			}
			_ = bar.Add(1)
			if !yield(store.Committed{Height: b.Height, Block: b.Block, AppHash: b.AppHash}, nil) {
				return
			}
		}
	})
	_ = bar.Finish()
	if err != nil {
		return checked{}, err
	}
	c := checked{
		Dir: dir, Height: report.Height, AppHash: hex.EncodeToString(report.AppHash), Households: report.Households,
		Records: report.Records, History: report.History, Replayed: report.Replayed, Followed: report.Followed, Base: report.Base, Differences: []string{},
	}
	for _, err := range broken { // first: what the ledger lacks often follows from them
		if errors.Is(err, consensus.ErrInUse) {
			return checked{}, err
		}
		c.Differences = append(c.Differences, err.Error())
	}
	for _, err := range consensus.CheckChanges(engine, raw, &report) {
		c.Differences = append(c.Differences, err.Error())
	}
	for _, d := range report.Differences {
		c.Differences = append(c.Differences, d.String())
	}
	c.OK = len(c.Differences) == 0
	return c, nil
}

// visible says whether a person watches stderr.
func visible(s streams) bool {
	f, ok := s.err.(*os.File)
	return ok && isTerminal(f)
}

func printChecked(all []checked, s streams) error {
	for _, c := range all {
		if c.OK {
			blocks := fmt.Sprintf("%d blocks replayed", c.Replayed)
			if c.Followed > 0 {
				blocks = fmt.Sprintf("%d blocks followed (those before are not kept here, an archive may have them)", c.Followed)
			}
			_, err := fmt.Fprintf(s.out, "%s: ok: %s, %d households, %d records, %d lines of history, hash %.16s\n",
				c.Dir, blocks, c.Households, c.Records, c.History, c.AppHash)
			if err != nil {
				return err
			}
			continue
		}
		fmt.Fprintf(s.out, "%s: %d differences\n", c.Dir, len(c.Differences))
		for _, d := range c.Differences {
			if _, err := fmt.Fprintf(s.out, "  %s\n", d); err != nil {
				return err
			}
		}
	}
	return nil
}
