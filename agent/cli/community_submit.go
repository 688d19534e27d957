package cli

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/decision"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/ledger"
)

func newCommunitySubmit(s streams) *cobra.Command {
	var home, key string
	c := &cobra.Command{
		Use:   "submit FILE",
		Short: "Hand a decision that officers have signed to the ledger",
		Long: `What is decided for the community (rules, network, validators, an exclusion) an officer hands
over, with --key. What a household asked for (its place, a correction) that household hands over
from its own folder. The agent of the folder has to run: it brings it to the others.`,
		Example: `  commonwatt community submit decision.json --home my-home --key officer-1.key`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			d, err := readDecision(args[0])
			if err != nil {
				return err
			}
			return submitDecision(c, d, args[0], home, key, s)
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the folder of a home whose agent is running")
	c.Flags().StringVar(&key, "key", "", "file with the key of the officer who hands it over")
	return c
}

func submitDecision(c *cobra.Command, d *decision.File, path, home, keyFile string, s streams) error {
	cfg, err := household.LoadConfig(filepath.Join(home, household.ConfigFile))
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
	by, err := signerOf(d, path, home, keyFile, g)
	if err != nil {
		return err
	}
	transactions, err := d.Transactions(func(ledger.Kind) (decision.Signer, error) { return by, nil })
	if err != nil {
		return &problem{code: exitUsage, err: err}
	}
	for _, tx := range transactions {
		body, err := json.Marshal(api.Submission{Transaction: hex.EncodeToString(tx)})
		if err != nil {
			return err
		}
		if _, err := ask(c.Context(), http.MethodPost, cfg, home, "/api/transactions", body); err != nil {
			if refused := (*refusal)(nil); errors.As(err, &refused) {
				return &problem{code: exitUsage, err: fmt.Errorf("the ledger refuses it: %w", err)}
			}
			return unanswered(cfg, home, err)
		}
	}
	_, err = fmt.Fprintf(s.out, "the decision of kind %s is handed to the ledger\n", d.Kind)
	return err
}

// signerOf is whose signature makes the transaction.
func signerOf(d *decision.File, path, home, keyFile string, g ledger.Genesis) (decision.Signer, error) {
	if d.Office() {
		if keyFile == "" {
			return decision.Signer{}, usagef("--key is missing: an officer hands over a decision of kind %s", d.Kind)
		}
		key, err := household.LoadKey(keyFile)
		if err != nil {
			return decision.Signer{}, &problem{code: exitUsage, err: fmt.Errorf("--key: %w", err)}
		}
		officer := slices.Index(g.Officers, household.Public(key))
		if officer < 0 {
			return decision.Signer{}, usagef("--key: %s is not the key of one of the %d officers of %s", keyFile, len(g.Officers), d.Community)
		}
		return decision.Signer{Key: key, Officer: uint64(officer)}, nil
	}
	if keyFile != "" {
		return decision.Signer{}, usagef("--key: the household itself hands over a decision of kind %s, from its own folder", d.Kind)
	}
	_, id, err := d.Matter()
	if err != nil {
		return decision.Signer{}, err
	}
	keys, err := household.LoadKeys(home)
	if err != nil {
		return decision.Signer{}, err
	}
	if keys.ID() != id {
		return decision.Signer{}, usagef("household: %s is of %s, this home is %s", path, id, keys.ID())
	}
	if d.Kind == ledger.KindHousehold.String() {
		return decision.Signer{}, usagef("%s admits a household: it hands that over itself, with `commonwatt join`", path)
	}
	return decision.Signer{Key: keys.Device}, nil
}
