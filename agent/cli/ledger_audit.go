package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/consensus"
)

func newLedgerAudit(s streams) *cobra.Command {
	var home, output string
	c := &cobra.Command{
		Use:   "audit",
		Short: "Show how the validators behave: blocks, orders left out, refused proposals, double votes",
		Long: `Lists for each validator, former ones included, what the blocks that this home keeps say
of it and what this home saw:

  proposed       its blocks
  omitted        orders that its blocks left out though this home had held them for
                 long and there was room
  refused        proposals of it that no honest validator makes, with the reasons
  double votes   heights at which it is proven to have signed two blocks

Blocks and double votes are the same at every home that has these blocks. The rest is
this home's view: a validator that was started just before, or whose clock is slow, may
look as if it left orders out; ask other homes before you judge.

The agent is asked if it runs; otherwise its folder is read.`,
		Example: `  commonwatt ledger audit --home my-home
  commonwatt ledger audit --home my-home --output json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			conduct, err := auditConduct(c, home)
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(s.out, conduct)
			}
			return printConduct(s, conduct)
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the home's folder")
	addOutput(c, &output, "table", "json")
	return c
}

func auditConduct(c *cobra.Command, home string) (out consensus.Conduct, err error) {
	cfg, err := household.LoadConfig(filepath.Join(home, household.ConfigFile))
	if err != nil {
		return out, err
	}
	if agentPID(home) != 0 {
		raw, err := ask(c.Context(), http.MethodGet, cfg, home, "/api/ledger/audit", nil)
		if err == nil {
			err = json.Unmarshal(raw, &out)
		}
		if err != nil {
			return out, unanswered(cfg, home, err)
		}
		return out, nil
	}
	if cfg.Role == household.RoleLight {
		return out, &problem{
			exitUsage, fmt.Errorf("%s is a light home: it keeps no blocks", home),
			"ask at the home of a validator or replica",
		}
	}
	out, err = consensus.StoredConduct(c.Context(), filepath.Join(home, household.EngineFolder))
	switch {
	case errors.Is(err, consensus.ErrInUse):
		return out, &problem{exitFailed, err, "an agent is running in this folder: wait until it answers, or end it first"}
	case errors.Is(err, fs.ErrNotExist):
		return out, &problem{exitFailed, fmt.Errorf("%s has no ledger yet", home), "it begins with `commonwatt run --home " + home + "`"}
	}
	return out, err
}

func printConduct(s streams, c consensus.Conduct) error {
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "validator\taddress\tvotes\tproposed\tomitted\trefused\tdouble votes")
	for i := range c.Validators {
		v := &c.Validators[i]
		omitted := strconv.FormatUint(v.Omitted, 10)
		if v.OmittedAt > 0 {
			omitted += fmt.Sprintf(" (last: block %d)", v.OmittedAt)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", v.Name, v.Address, yesNo(v.Votes), v.Proposed, omitted, refusedWords(v.Seen), heightsWords(v.DoubleSigned))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(s.err, "blocks %d to %d are kept here\n", c.First, c.Last)
	return nil
}

func refusedWords(seen consensus.Seen) string {
	if len(seen.Refused) == 0 {
		return "0"
	}
	var words []string
	for _, reason := range slices.Sorted(maps.Keys(seen.Refused)) {
		words = append(words, fmt.Sprintf("%d %s", seen.Refused[reason], reason))
	}
	return strings.Join(words, ", ") + fmt.Sprintf(" (last: block %d)", seen.RefusedAt)
}

func heightsWords(heights []int64) string {
	if len(heights) == 0 {
		return "none"
	}
	var words []string
	for _, h := range heights {
		words = append(words, strconv.FormatInt(h, 10))
	}
	return "at " + strings.Join(words, ", ")
}
