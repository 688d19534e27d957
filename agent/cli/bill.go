package cli

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/bill"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/store"
)

// billFlags are what a person says about a bill.
type billFlags struct {
	home, household, month, output, proof string
	lines, final                          bool
}

func newBill(s streams) *cobra.Command {
	var f billFlags
	c := &cobra.Command{
		Use:   "bill",
		Short: "Show a month's bill, with its proof if you like",
		Long: `Shows what a household bought, sold, metered, paid and saved in a month. Every line
follows from the ledger: from orders, meter readings and the market's rules. It works
with the agent running or not; other households' bills can be shown where this home
keeps the whole ledger.

table   for people: totals first, then days, with --lines every interval
json    all of it; energy in Wh, money in micro-units
csv     a row for each line
hledger, beancount   a journal of the household's own books, which
        "hledger check" and "bean-check" accept; it ends with the ledger's balance

With --proof the bill is also written to a file together with all that proves it. Whoever
gets the file can check it without network, see "commonwatt verify --help".`,
		Example: `  commonwatt bill --home /var/lib/commonwatt
  commonwatt bill --month 2026-06 --lines
  commonwatt bill --month 2026-06 --output beancount > june.beancount
  commonwatt bill --month 2026-06 --proof june.proof.json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return showBill(c.Context(), f, s) },
	}
	c.Flags().StringVar(&f.home, "home", ".", "the home's folder")
	c.Flags().StringVar(&f.household, "household", "", "another household, by its 32 hexadecimal digits (default: this home's)")
	c.Flags().StringVar(&f.month, "month", "", "as 2026-06 (default: the newest)")
	c.Flags().BoolVar(&f.lines, "lines", false, "in the table, show every interval too")
	c.Flags().StringVar(&f.proof, "proof", "", "also write a proof of it to this file")
	c.Flags().BoolVar(&f.final, "final", false, "fail unless nothing can change this bill any more")
	addOutput(c, &f.output, "table", "json", "csv", "hledger", "beancount")
	return c
}

// biller makes bills: of a folder, or by asking the agent that uses it.
type biller interface {
	bill(ctx context.Context, household, month string) (*bill.Statement, error)
	proof(ctx context.Context, household, month string) ([]byte, error)
}

func showBill(ctx context.Context, f billFlags, s streams) (err error) {
	b, done, err := openBiller(f.home)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	st, err := b.bill(ctx, f.household, f.month)
	if err != nil {
		return billProblem(err)
	}
	if f.proof != "" {
		if st, err = writeProof(ctx, b, f, st, s); err != nil {
			return err
		}
	}
	if err := printBill(s.out, st, f); err != nil {
		return err
	}
	if f.final && !st.Final {
		return &problem{
			exitFailed, fmt.Errorf("the bill of %s is not final: late reports and corrections can still change it", st.Month),
			"it is when the month is over and its correction window has passed",
		}
	}
	return nil
}

// writeProof writes the proof and returns the Statement that it proves, which may be newer
// than the first. The blocks are the first's: no proof speaks of them.
func writeProof(ctx context.Context, b biller, f billFlags, st *bill.Statement, s streams) (*bill.Statement, error) {
	raw, err := b.proof(ctx, f.household, st.Month.String())
	if err != nil {
		return nil, billProblem(err)
	}
	trust, err := genesisHash(f.home)
	if err != nil {
		return nil, err
	}
	hash, err := parseTrust(trust)
	if err != nil {
		return nil, err
	}
	// An agent of another version could have written it: see that this one accepts it.
	v, err := bill.Verify(raw, hash, nil)
	if err != nil {
		return nil, fmt.Errorf("checking the proof: %w", err)
	}
	if err := os.WriteFile(f.proof, raw, 0o644); err != nil { //nolint:gosec // made to be given away
		return nil, &problem{code: exitUsage, err: fmt.Errorf("writing the proof: %w", err)}
	}
	fmt.Fprintf(s.err, "proof written to %s; whoever knows your community's genesis hash can check it:\n  commonwatt verify %s --trust %s\n", f.proof, f.proof, trust)
	v.Statement.TakeBlocks(st)
	return v.Statement, nil
}

func printBill(out io.Writer, st *bill.Statement, f billFlags) error {
	switch f.output {
	case "json":
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(st)
	case "csv":
		return st.WriteCSV(out)
	case "table":
		return st.WriteTable(out, f.lines)
	default:
		return st.WriteJournal(out, bill.Format(f.output))
	}
}

// billProblem says whose fault it is.
func billProblem(err error) error {
	switch {
	case errors.Is(err, bill.ErrInput), errors.Is(err, bill.ErrUnknown):
		return &problem{code: exitUsage, err: err}
	case errors.Is(err, bill.ErrNothing):
		return &problem{exitFailed, err, "an interval is settled when all homes have reported it, or a day later"}
	}
	if a := (*answer)(nil); errors.As(err, &a) && a.status == http.StatusUnprocessableEntity {
		return &problem{code: exitUsage, err: err}
	}
	return err
}

// openBiller reads the folder if nobody uses it, else asks who does.
func openBiller(dir string) (b biller, done func() error, err error) {
	genesis, err := readGenesis(dir)
	if err != nil {
		return nil, nil, err
	}
	if cfg, err := household.LoadConfig(filepath.Join(dir, household.ConfigFile)); err == nil && cfg.Role == household.RoleLight {
		return &remoteBiller{cfg: cfg, home: dir}, func() error { return nil }, nil // it has no ledger in its folder
	}
	stored, err := bill.OpenStored(filepath.Join(dir, household.EngineFolder), genesis)
	switch {
	case errors.Is(err, store.ErrInUse):
		cfg, err := household.LoadConfig(filepath.Join(dir, household.ConfigFile))
		if err != nil {
			return nil, nil, err
		}
		return &remoteBiller{cfg: cfg, home: dir}, func() error { return nil }, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, &problem{exitFailed, fmt.Errorf("%s has no ledger yet", dir), "it begins with `commonwatt run --home " + dir + "`"}
	case err != nil:
		return nil, nil, err
	}
	desk := &bill.Desk{Source: stored, Genesis: genesis}
	if keys, err := household.LoadKeys(dir); err == nil { // a cooperative's copy has none
		desk.Own = keys.ID()
	}
	return localBiller{desk}, stored.Close, nil
}

type localBiller struct{ desk *bill.Desk }

func (l localBiller) bill(_ context.Context, household, month string) (*bill.Statement, error) {
	return l.desk.Bill(household, month)
}

func (l localBiller) proof(ctx context.Context, household, month string) ([]byte, error) {
	return l.desk.Proof(ctx, household, month)
}

// remoteBiller asks the agent.
type remoteBiller struct {
	cfg  household.Config
	home string
}

func (r *remoteBiller) ask(ctx context.Context, path, household, month string) ([]byte, error) {
	q := url.Values{}
	if household != "" {
		q.Set("household", household)
	}
	if month != "" {
		q.Set("month", month)
	}
	raw, err := fetch(ctx, r.cfg, r.home, path+"?"+q.Encode(), bill.MaxProofBytes)
	if a := (*answer)(nil); err != nil && !errors.As(err, &a) {
		return nil, unanswered(r.cfg, r.home, err)
	}
	return raw, err
}

func (r *remoteBiller) bill(ctx context.Context, household, month string) (*bill.Statement, error) {
	raw, err := r.ask(ctx, "/api/bill", household, month)
	if err != nil {
		return nil, err
	}
	st := new(bill.Statement)
	if err := json.Unmarshal(raw, st); err != nil {
		return nil, fmt.Errorf("reading the agent's answer: %w", err)
	}
	return st, nil
}

func (r *remoteBiller) proof(ctx context.Context, household, month string) ([]byte, error) {
	return r.ask(ctx, "/api/bill/proof", household, month)
}

// readGenesis reads the community that a home belongs to.
func readGenesis(dir string) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(dir, household.CommunityFile)) //nolint:gosec // the person named the folder
	if err != nil {
		return nil, &problem{exitUsage, fmt.Errorf("reading the community: %w", err), "name a home's folder, made by `commonwatt init`"}
	}
	return raw, nil
}

// genesisHash is the hash of a home's community, as verify wants it.
func genesisHash(dir string) (string, error) {
	raw, err := readGenesis(dir)
	if err != nil {
		return "", err
	}
	hash, err := consensus.GenesisHash(raw)
	if err != nil {
		return "", &problem{code: exitUsage, err: err}
	}
	return hex.EncodeToString(hash[:]), nil
}

// parseTrust reads a genesis hash.
func parseTrust(text string) (hash [32]byte, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(hash) {
		return hash, &problem{
			exitUsage, fmt.Errorf("--trust: got %.100q, want the %d hexadecimal digits of a genesis hash", text, 2*len(hash)),
			"`commonwatt ledger genesis-hash` in your own home's folder prints it",
		}
	}
	return [32]byte(raw), nil
}
