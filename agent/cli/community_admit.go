package cli

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/decision"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/agent/joining"
)

func newCommunityRequests(s streams) *cobra.Command {
	var home, output string
	c := &cobra.Command{
		Use:   "requests",
		Short: "List the households that ask this home's community for admission",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, g, err := community(home)
			if err != nil {
				return err
			}
			all, err := joining.OpenRequests(home).List(time.Now())
			if err != nil {
				return &problem{code: exitFailed, err: err}
			}
			if output == "json" {
				return printJSON(s.out, requestRows(all))
			}
			return printRequests(s.out, all, g.Rules.ApprovalsNeeded)
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the folder of the home that invited")
	addOutput(c, &output, "table", "json")
	return c
}

type requestRow struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Node      string    `json:"node"`
	Meter     string    `json:"meter"`
	Approvals int       `json:"approvals"`
	Since     time.Time `json:"since"`
}

func requestRows(all []joining.Request) []requestRow {
	rows := []requestRow{}
	for _, q := range all {
		r := requestRow{ID: q.ID.String(), Approvals: len(q.File.Approvals), Since: q.Since.UTC().Truncate(time.Second)}
		if m, _, err := q.File.Matter(); err == nil {
			if a, ok := m.(*decision.Admission); ok {
				r.Name, r.Node = a.Name, a.Node
				if a.Meter != nil {
					r.Meter = a.Meter.Definition
				}
			}
		}
		rows = append(rows, r)
	}
	return rows
}

func printRequests(out io.Writer, all []joining.Request, needed int) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "request\tname\tnode\tmeter\tsigned\tsince")
	for _, r := range requestRows(all) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d of %d\t%s\n", r.ID, r.Name, r.Node, r.Meter, r.Approvals, needed, r.Since.Local().Format(time.DateTime))
	}
	return w.Flush()
}

type admitOptions struct {
	home, key, export, bring string
}

func newCommunityAdmit(s streams) *cobra.Command {
	var o admitOptions
	c := &cobra.Command{
		Use:   "admit REQUEST",
		Short: "Admit, as an officer, a household that asks",
		Long: `Shows who asks and adds the signature of an officer. REQUEST is the beginning of its id, as
` + "`commonwatt community requests`" + ` lists it. When as many officers have signed as the rules want,
the household that waits fetches the signatures and is in.

Officers on other machines: --export writes the request into a file, they sign it with
` + "`commonwatt community approve FILE`" + `, and --import brings their signatures back.`,
		Example: `  commonwatt community admit 4fe1 --home my-home --key officer-1.key
  commonwatt community admit 4fe1 --home my-home --export request.json
  commonwatt community admit 4fe1 --home my-home --import request.json`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return o.run(args[0], s) },
	}
	f := c.Flags()
	f.StringVar(&o.home, "home", ".", "the folder of the home that invited")
	f.StringVar(&o.key, "key", "", "file with the officer's key")
	f.StringVar(&o.export, "export", "", "write the request into this file, for officers elsewhere")
	f.StringVar(&o.bring, "import", "", "take signatures from this file")
	return c
}

func (o *admitOptions) run(request string, s streams) error {
	if info, err := os.Stat(request); err == nil && info.Mode().IsRegular() {
		return admitOwn(request, o.home, s)
	}
	chosen := 0
	for _, x := range []string{o.key, o.export, o.bring} {
		if x != "" {
			chosen++
		}
	}
	if chosen != 1 {
		return usagef("want one of --key, --export and --import, see `commonwatt community admit --help`")
	}
	chain, g, err := community(o.home)
	if err != nil {
		return err
	}
	requests := joining.OpenRequests(o.home)
	q, err := requests.Find(request, time.Now())
	if err != nil {
		return &problem{exitUsage, err, "`commonwatt community requests --home " + o.home + "` lists them"}
	}
	if q.File.Community != chain {
		return usagef("request: it is for %.60q, this home belongs to %s", q.File.Community, chain)
	}
	switch {
	case o.export != "":
		if _, err := os.Lstat(o.export); err == nil {
			return usagef("--export: %s is there already, want the name of a new file", o.export)
		}
		if err := q.File.Write(o.export); err != nil {
			return &problem{code: exitFailed, err: err}
		}
		fmt.Fprintf(s.err, "hint: officers sign it with `commonwatt community approve %s --key KEY`\n", o.export)
		return nil
	case o.bring != "":
		other, err := readDecision(o.bring)
		if err != nil {
			return err
		}
		added, err := q.File.Merge(other, g)
		if err != nil {
			return &problem{code: exitUsage, err: fmt.Errorf("--import: %s: %w", o.bring, err)}
		}
		if err := requests.Put(q.ID, q.File); err != nil {
			return &problem{code: exitFailed, err: err}
		}
		_, err = fmt.Fprintf(s.out, "%d new signatures; %d of %d\n", added, len(q.File.Approvals), g.Rules.ApprovalsNeeded)
		return err
	}
	officer, err := approve(q.File, chain, g, o.key)
	if errors.Is(err, decision.ErrSigned) {
		return usagef("officer %d has signed this request already", officer+1)
	}
	if err != nil {
		return err
	}
	if err := requests.Put(q.ID, q.File); err != nil {
		return &problem{code: exitFailed, err: err}
	}
	return sayDecision(s.out, q.File, g, officer)
}

// writeAdmission keeps the transactions that make a home a member, for its agent.
func writeAdmission(dir string, transactions [][]byte) error {
	var text []byte
	for _, tx := range transactions {
		text = append(hex.AppendEncode(text, tx), '\n')
	}
	path := filepath.Join(dir, household.AdmissionFile)
	return household.ReplaceFile(path, text)
}

// printJSON prints data for programs.
func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
