package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

func newCommunityMembers(s streams) *cobra.Command {
	return showCommunity(s, "members", "List the members: where they hang, who has a vote, who leaves",
		func(c api.Community) any { return c.Members }, printMembers)
}

func newCommunityRules(s streams) *cobra.Command {
	return showCommunity(s, "rules", "Show the rules and the tariff that hold now",
		func(c api.Community) any { return c.Rules }, printRules)
}

func newCommunityNetwork(s streams) *cobra.Command {
	return showCommunity(s, "network", "Show the network: its nodes, limits and fees",
		func(c api.Community) any { return c.Nodes }, printNodes)
}

func showCommunity(s streams, use, short string, part func(api.Community) any, table func(io.Writer, api.Community, ledger.Genesis) error) *cobra.Command {
	var home, output string
	c := &cobra.Command{
		Use:     use,
		Short:   short,
		Example: "  commonwatt community " + use + " --home my-home",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := household.LoadConfig(filepath.Join(home, household.ConfigFile))
			if err != nil {
				return err
			}
			_, g, err := community(home)
			if err != nil {
				return err
			}
			now, err := askCommunity(c, cfg, home)
			if err != nil {
				return err
			}
			if output == "json" {
				return printJSON(s.out, part(now))
			}
			return table(s.out, now, g)
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the folder of a home whose agent is running")
	addOutput(c, &output, "table", "json")
	return c
}

func printMembers(out io.Writer, now api.Community, g ledger.Genesis) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "household\tnode\tmeter\tvote\tstate")
	for _, m := range now.Members {
		state := "member"
		switch {
		case m.Left != nil:
			state = "leaves at " + g.Calendar().Start(market.Interval(*m.Left)).Format(time.RFC3339)
		case m.Revoked:
			state = "its gateway is revoked"
		}
		switch m.DoubleVote {
		case "proven":
			state += ", signed two blocks of one height"
		case "struck":
			state += ", lost its vote: it signed two blocks of one height"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.Household, m.Node, yesNo(m.Meter), yesNo(m.Validator != ""), state)
	}
	return w.Flush()
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// printRules prints each rule by the name that a proposal has for it.
func printRules(out io.Writer, now api.Community, _ ledger.Genesis) error {
	raw, err := json.Marshal(now.Rules)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil { // {
		return err
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		fmt.Fprintf(w, "%v\t%s\n", name, value)
	}
	return w.Flush()
}

func printNodes(out io.Writer, now api.Community, _ ledger.Genesis) error {
	limit := func(l *int64) string {
		if l == nil {
			return "-"
		}
		return fmt.Sprintf("%d W", *l)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "node\tparent\timport limit\texport limit\timport fee\texport fee")
	for i := range now.Nodes {
		n := &now.Nodes[i]
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\n", n.ID, n.Parent, limit(n.ImportLimitW), limit(n.ExportLimitW), n.ImportFee, n.ExportFee)
	}
	return w.Flush()
}
