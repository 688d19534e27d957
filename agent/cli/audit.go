package cli

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/access"
)

// maxAuditLines is more than the log keeps.
const maxAuditLines = 1_000_000

func newAudit(s streams) *cobra.Command {
	var home, output string
	var limit int
	c := &cobra.Command{
		Use:   "audit",
		Short: "Show who did what at this home's gateway, and check the log",
		Long: `Each line of the log carries the hash of the line before, so that a line that was changed,
taken out or put in is found. Lines cut off at the end are not: note the head that this
command prints somewhere else now and then. Exit code 4: the log was changed.`,
		Example: `  commonwatt audit --home my-home --limit 20`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if limit < 0 || limit > maxAuditLines {
				return usagef("--limit: got %d, want 0 to %d", limit, maxAuditLines)
			}
			f, _, err := openFolder(home)
			if err != nil {
				return err
			}
			t, err := f.Audit(limit)
			if err != nil {
				return accountProblem(err)
			}
			if err := printTrail(s, t, output); err != nil {
				return err
			}
			if t.Broken != "" {
				return &problem{code: exitDiffers, err: fmt.Errorf("the audit log was changed: %s", t.Broken)}
			}
			return nil
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the home's folder")
	c.Flags().IntVar(&limit, "limit", 100, "show the newest so many lines")
	addOutput(c, &output, "table", "json", "csv")
	return c
}

func printTrail(s streams, t access.Trail, output string) error {
	switch output {
	case "json":
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		return enc.Encode(t)
	case "csv":
		return csvTrail(s.out, t.Entries)
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	for _, e := range t.Entries {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", e.N, e.At.Format("2006-01-02T15:04:05Z"), e.Who, e.Role, e.From, e.What, e.Result, e.Detail)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if t.Last == 0 {
		fmt.Fprintln(s.err, "nothing is in the log yet")
		return nil
	}
	fmt.Fprintf(s.err, "lines %d to %d are kept; head %s\n", t.First, t.Last, t.Head)
	return nil
}

func csvTrail(out io.Writer, entries []access.Entry) error {
	w := csv.NewWriter(out)
	_ = w.Write([]string{"n", "at", "who", "role", "from", "what", "result", "detail"}) // errors stay with the writer until the end
	for _, e := range entries {
		_ = w.Write([]string{strconv.FormatInt(e.N, 10), e.At.Format(time.RFC3339Nano), e.Who, string(e.Role), e.From, e.What, e.Result, e.Detail})
	}
	w.Flush()
	return w.Error()
}
