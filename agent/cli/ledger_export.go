package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/bill"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/store"
)

func newLedgerExport(s streams) *cobra.Command {
	var format, out, archive string
	c := &cobra.Command{
		Use:   "export DIR",
		Short: "Write every transfer of every account, for the cooperative's books",
		Long: `Writes all transfers of a stopped agent's ledger in double entry, in the order of
intervals: households, market, supplier, grid operator, cooperative and rounding. All
accounts together come to zero. The journals end with the ledger's balances, and
"hledger check" and "bean-check" accept them. DIR is a home's folder.

With --archive it writes everything instead: the genesis document, all blocks that are
kept with their signatures, and the history, and prints the file's SHA-256.
"commonwatt ledger check FILE" executes it again anywhere. Write one before you shorten
retention, and another one from time to time: together they are the whole history.`,
		Example: `  commonwatt ledger export /var/lib/commonwatt --format hledger --out street.journal
  commonwatt ledger export /var/lib/commonwatt --format csv | head
  commonwatt ledger export /var/lib/commonwatt --archive 2026.archive`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if archive == "" {
				return exportLedger(args[0], format, out, s)
			}
			if c.Flags().Changed("format") || out != "" {
				return usagef("--archive: it is a file of its own kind, give it without --format and --out")
			}
			return exportArchive(args[0], archive, s)
		},
	}
	c.Flags().StringVar(&archive, "archive", "", "write everything to this file")
	c.Flags().StringVar(&format, "format", "csv", "one of "+strings.Join(bill.Formats(), ", "))
	c.Flags().StringVar(&out, "out", "", "write to this file (default: standard output)")
	return c
}

func exportLedger(dir, format, file string, s streams) (err error) {
	if !slices.Contains(bill.Formats(), format) {
		return usagef("--format: got %q, want one of %s", format, strings.Join(bill.Formats(), ", "))
	}
	genesis, err := readGenesis(dir)
	if err != nil {
		return err
	}
	stored, err := bill.OpenStored(filepath.Join(dir, household.EngineFolder), genesis)
	switch {
	case errors.Is(err, store.ErrInUse):
		return &problem{exitFailed, err, "its agent is running" + runningAs(dir) + ": end it first"}
	case errors.Is(err, fs.ErrNotExist):
		return &problem{exitFailed, fmt.Errorf("%s has no ledger yet", dir), "it begins with `commonwatt run --home " + dir + "`"}
	case err != nil:
		return err
	}
	defer func() { err = errors.Join(err, stored.Close()) }()
	to := s.out
	if file != "" {
		f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*")
		if err != nil {
			return &problem{code: exitUsage, err: fmt.Errorf("writing the export: %w", err)}
		}
		defer os.Remove(f.Name()) //nolint:errcheck // gone already if all went well
		n, err := writeExport(f, format, stored.State(), stored, s, true)
		err = errors.Join(err, f.Chmod(0o644), f.Close())
		if err == nil {
			err = os.Rename(f.Name(), file)
		}
		if err != nil {
			return fmt.Errorf("writing %s: %w", file, err)
		}
		fmt.Fprintf(s.err, "%d transfers written to %s\n", n, file)
		return nil
	}
	_, err = writeExport(to, format, stored.State(), stored, s, false)
	return err
}

// writeExport shows a bar if the data does not go to the same terminal.
func writeExport(out io.Writer, format string, state *ledger.State, history bill.Results, s streams, bar bool) (int, error) {
	b := progressbar.NewOptions64(-1, progressbar.OptionSetWriter(s.err), progressbar.OptionSetDescription("exporting"),
		progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionSetVisibility(bar && visible(s)))
	n, err := bill.Export(out, bill.Format(format), state, history, func(int) { _ = b.Add(1) })
	_ = b.Finish()
	return n, err
}

func newLedgerGenesisHash(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "genesis-hash [DIR]",
		Short: "Print the hash that stands for your community, for verify --trust",
		Long: `Prints the SHA-256 of the community's genesis document without its white space. It names
the validators, and so whoever has it from somebody they trust can check bills with
"commonwatt verify". DIR is a home's folder, by default this one.`,
		Example: `  commonwatt ledger genesis-hash /var/lib/commonwatt`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := "."
			if len(args) > 0 {
				dir = args[0]
			}
			hash, err := genesisHash(dir)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.out, hash)
			return err
		},
	}
}
