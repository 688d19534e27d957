package cli

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/access"
	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/household"
)

const maxClaimBytes = 4 << 10

func newClaim(s streams) *cobra.Command {
	var home, output string
	c := &cobra.Command{
		Use:   "claim",
		Short: "Print the code that claims this home's gateway",
		Long: `A new gateway belongs to nobody and shows nothing but the page that claims it. Whoever
types its code there becomes the homeowner. The code is another one at each start, until
the gateway is claimed.`,
		Example: `  commonwatt claim --home /var/lib/commonwatt`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := household.LoadConfig(filepath.Join(home, household.ConfigFile))
			if err != nil {
				return err
			}
			raw, err := fetch(c.Context(), cfg, home, "/api/claim", maxClaimBytes)
			if err != nil {
				return unanswered(cfg, home, err)
			}
			if output == "json" {
				_, err := s.out.Write(raw)
				return err
			}
			var v api.Claim
			if err := json.Unmarshal(raw, &v); err != nil {
				return fmt.Errorf("reading the agent's answer: %w", err)
			}
			if v.Claimed {
				return &problem{exitFailed, access.ErrClaimed, "log in at " + cfg.Listen.PageURL(cfg.Listen.API) + "; a lost password is replaced by `commonwatt account reset --home " + home + "`"}
			}
			fmt.Fprintf(s.out, "code         %s\n", v.Code)
			for _, r := range pageRows(cfg, home) {
				fmt.Fprintf(s.out, "%-12s %s\n", r[0], r[1])
			}
			return nil
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the folder of the home, whose agent is running")
	addOutput(c, &output, "table", "json")
	return c
}

// pageRows say where a home's page is, and by what a browser knows that it is the right one.
func pageRows(cfg household.Config, home string) [][2]string {
	rows := [][2]string{{"page", cfg.Listen.PageURL(cfg.Listen.API)}}
	if cfg.Listen.UsesTLS() {
		if f, err := access.FingerprintOf(home); err == nil {
			half := len(f)/2 + 1
			rows = append(rows, [2]string{"certificate", f[:half]}, [2]string{"", strings.TrimPrefix(f[half:], ":")})
		}
	}
	return rows
}
