package cli

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/ledger"
)

func newCommunity(s streams) *cobra.Command {
	c := &cobra.Command{Use: "community", Short: "What the officers of the cooperative decide"}
	c.AddCommand(newCommunityApprove(s))
	return c
}

func newCommunityApprove(s streams) *cobra.Command {
	var home, key string
	c := &cobra.Command{
		Use:   "approve FILE",
		Short: "Sign, as an officer, what a home asks for",
		Long: `Shows what a home asks for and adds the signature of an officer to the file. Each officer
does it on their own machine; when as many as the rules want have signed, the file goes back
to the home. Nothing is sent anywhere.`,
		Example: `  commonwatt community approve replacement.json --home my-home --key officer-1.key`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if key == "" {
				return usagef("--key is missing, see `commonwatt community approve --help`")
			}
			return approveDecision(args[0], home, key, s.out)
		},
	}
	c.Flags().StringVar(&home, "home", ".", "a home's folder, with the community's "+household.CommunityFile)
	c.Flags().StringVar(&key, "key", "", "file with the officer's key (required)")
	return c
}

func approveDecision(path, home, keyFile string, out io.Writer) error {
	d, err := readDecision(path)
	if err != nil {
		return err
	}
	chain, g, err := community(home)
	if err != nil {
		return err
	}
	if d.Community != chain {
		return usagef("community: %s is of %.60q, this home belongs to %s", path, d.Community, chain)
	}
	key, err := household.LoadKey(keyFile)
	if err != nil {
		return &problem{code: exitUsage, err: fmt.Errorf("--key: %w", err)}
	}
	officer := slices.Index(g.Officers, household.Public(key))
	if officer < 0 {
		return usagef("--key: %s is not the key of one of the %d officers of %s", keyFile, len(g.Officers), chain)
	}
	id, tx, err := d.transaction()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(d.Approvals, func(a approval) bool { return a.Officer == uint64(officer) }) { //nolint:gosec // an index
		return usagef("officer %d has signed %s already", officer+1, path)
	}
	signature := ed25519.Sign(key, tx.ApprovalBytes(chain, id))
	d.Approvals = append(d.Approvals, approval{Officer: uint64(officer), Signature: hex.EncodeToString(signature)})
	if err := d.write(path); err != nil {
		return &problem{code: exitFailed, err: err}
	}
	calendar := g.Calendar()
	what := "another counter in its meter"
	if tx.Meter != ledger.MeterIDOf(tx.Key) {
		what = fmt.Sprintf("another meter, %s", ledger.MeterIDOf(tx.Key))
	}
	_, err = fmt.Fprintf(out, `household %s asks for %s
  from      %s (interval %d)
  epoch     %d
  reads     %s, signed by the %s
  reason    %q
signed by officer %d; %d of %d signatures that the founding rules want
`, id, what, calendar.Start(tx.From).Format(time.RFC3339), tx.From, tx.Epoch, tx.Definition, tx.SignedBy, tx.Reason,
		officer+1, len(d.Approvals), g.Rules.ApprovalsNeeded)
	return err
}
