package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/bill"
)

func newVerify(s streams) *cobra.Command {
	var trust, output string
	c := &cobra.Command{
		Use:   "verify FILE",
		Short: "Check a bill by its proof file, without network",
		Long: `Checks the file that "commonwatt bill --proof FILE" writes, without network and without
trusting who wrote it: that the genesis document in it is the one you trust, that its
validators signed the header in it, that the header's hash leads to the household's
record, the record to the month, the month to every line, and that the amount of every
line follows from its energy and prices by the market's rules, to the micro-unit.

--trust says which community is yours: the hash of its genesis document, which names the
validators. "commonwatt status" and "commonwatt ledger genesis-hash" print it in your own
home's folder, and your cooperative publishes it. Never take it from whoever gave you the file.

Exit code 0: the bill is right. 4: it is not; the first place is named. 2: the file is no
proof file.`,
		Example: `  commonwatt verify june.proof.json --trust 4b4f8a3c...
  commonwatt verify june.proof.json --trust "$(commonwatt ledger genesis-hash my-home)" --output json`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return verifyFile(args[0], trust, output, s) },
	}
	c.Flags().StringVar(&trust, "trust", "", "genesis hash of your community, 64 hexadecimal digits (needed)")
	addOutput(c, &output, "table", "json")
	return c
}

func verifyFile(file, trust, output string, s streams) error {
	hash, err := parseTrust(trust)
	if err != nil {
		return err
	}
	raw, err := readBounded(file, bill.MaxProofBytes)
	if err != nil {
		return &problem{code: exitUsage, err: err}
	}
	bar := progressbar.NewOptions(-1, progressbar.OptionSetWriter(s.err), progressbar.OptionSetDescription("checking "+filepath.Base(file)),
		progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionSetVisibility(visible(s)))
	v, err := bill.Verify(raw, hash, func(done, of int) {
		bar.ChangeMax(of)
		_ = bar.Set(done)
	})
	_ = bar.Finish()
	var wrong *bill.Mismatch
	switch {
	case errors.As(err, &wrong):
		if output == "json" {
			if err := printVerdict(s.out, false, nil, wrong); err != nil {
				return err
			}
		} else {
			fmt.Fprintf(s.out, "%s: does not verify\n", file)
		}
		return &problem{exitDiffers, wrong, "do not rely on this bill: it has been changed, or is of another community than the one you trust"}
	case err != nil:
		return &problem{exitUsage, fmt.Errorf("%s: %w", file, err), "`commonwatt bill --proof FILE` writes one"}
	case output == "json":
		return printVerdict(s.out, true, v, nil)
	default:
		return explainVerdict(s.out, file, v)
	}
}

// readBounded reads a file of at most so many bytes.
func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the person named it
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(raw)) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return raw, err
}

func printVerdict(out io.Writer, ok bool, v *bill.Verdict, wrong *bill.Mismatch) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(struct {
		OK bool `json:"ok"`
		*bill.Verdict
		Wrong *bill.Mismatch `json:"wrong,omitempty"`
	}{ok, v, wrong})
}

// explainVerdict says what has been checked.
func explainVerdict(out io.Writer, file string, v *bill.Verdict) error {
	st, t := v.Statement, &v.Statement.Totals
	fmt.Fprintf(out, "%s: verified: the bill of household %s for %s %d in %s\n",
		file, st.Household, st.From.Month(), st.From.Year(), st.Community)
	fmt.Fprintf(out, "  genesis     it is the community that you trust\n")
	fmt.Fprintf(out, "  signatures  %d of its %d validators signed block %d, %s\n", v.Votes, v.Of, v.Height, v.Signed.Format(time.RFC3339))
	if v.Changes > 0 {
		fmt.Fprintf(out, "  validators  changed %d times since the genesis; each change is signed by those before it\n", v.Changes)
	}
	fmt.Fprintf(out, "  record      the state that they signed has this household with this month\n")
	if st.Pruned {
		fmt.Fprintf(out, "  lines       no longer kept: only the totals are proven\n")
	} else {
		fmt.Fprintf(out, "  lines       %d, none missing or added; each amount follows from its energy and prices by the market's rules\n", t.Lines)
	}
	if v.Decisions > 0 {
		fmt.Fprintf(out, "  rules       changed %d times since the genesis: retail, feed-in and fee are as the validators signed them\n", v.Decisions)
	}
	word := "paid"
	amount := -t.Net
	if t.Net > 0 {
		word, amount = "received", t.Net
	}
	_, err := fmt.Fprintf(out, "  result      bought %s kWh, sold %s kWh, %s %s %s, saved %s %s; the balance is %s %s\n",
		bill.KWh(t.Bought), bill.KWh(t.Sold), word, bill.Exact(amount), st.Currency, bill.Exact(t.Saved), st.Currency, bill.Exact(t.Closing), st.Currency)
	return err
}
