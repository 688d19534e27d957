package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/decision"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/ledger"
)

func newCommunity(s streams) *cobra.Command {
	c := &cobra.Command{Use: "community", Short: "Found a community, let households in, and what officers of the cooperative decide"}
	c.AddCommand(
		newCommunityApprove(s), newCommunityInvite(s), newCommunityInvitations(s), newCommunityRevoke(s),
		newCommunityCreate(s), newCommunityOfficer(s), newCommunityRequests(s), newCommunityAdmit(s),
		newCommunityPropose(s), newCommunitySubmit(s),
		newCommunityMembers(s), newCommunityRules(s), newCommunityNetwork(s),
	)
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
	officer, err := approve(d, chain, g, keyFile)
	if errors.Is(err, decision.ErrSigned) {
		return usagef("officer %d has signed %s already", officer+1, path)
	}
	if err != nil {
		return err
	}
	if err := d.Write(path); err != nil {
		return &problem{code: exitFailed, err: err}
	}
	return sayDecision(out, d, g, officer)
}

// readDecision reads a file that somebody named.
func readDecision(path string) (*decision.File, error) {
	d, err := decision.Read(path)
	switch {
	case errors.As(err, new(*fs.PathError)):
		return nil, &problem{code: exitUsage, err: err}
	case err != nil:
		return nil, &problem{exitUsage, err, "such files are made by " + decision.Makers()}
	}
	return d, nil
}

// approve signs a decision with an officer's key.
func approve(d *decision.File, chain string, g ledger.Genesis, keyFile string) (officer int, err error) {
	key, err := household.LoadKey(keyFile)
	if err != nil {
		return -1, &problem{code: exitUsage, err: fmt.Errorf("--key: %w", err)}
	}
	officer = slices.Index(g.Officers, household.Public(key))
	if officer < 0 {
		return officer, usagef("--key: %s is not the key of one of the %d officers of %s", keyFile, len(g.Officers), chain)
	}
	return officer, d.Approve(officer, key)
}

// sayDecision tells an officer what they have signed.
func sayDecision(out io.Writer, d *decision.File, g ledger.Genesis, officer int) error {
	matter, h, err := d.Matter()
	if err != nil {
		return &problem{code: exitUsage, err: err}
	}
	_, err = fmt.Fprintf(out, "%ssigned by officer %d; %d of %d signatures that the founding rules want\n",
		matter.Words(h, g), officer+1, len(d.Approvals), g.Rules.ApprovalsNeeded)
	return err
}
