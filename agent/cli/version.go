package cli

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/bill"
)

// Versions of what two agents must agree on; each changes on its own.
const (
	ledgerFormat = "commonwatt-ledger/1"
	gossipFormat = "txs/1"
)

func newVersion(version string, s streams) *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "version", Short: "Print the version of the agent and of its formats", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version string `json:"version"`
				Ledger  string `json:"ledger_format"`
				Gossip  string `json:"gossip_format"`
				Proof   string `json:"proof_format"`
				Engine  string `json:"engine"`
				Go      string `json:"go"`
				Machine string `json:"machine"`
			}{version, ledgerFormat, gossipFormat, bill.ProofFormat, "CometBFT v0.40.0", runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if output == "json" {
				return json.NewEncoder(s.out).Encode(v)
			}
			_, err := fmt.Fprintf(s.out, "commonwatt %s (ledger %s, gossip %s, proof %s, %s, %s %s)\n",
				v.Version, v.Ledger, v.Gossip, v.Proof, v.Engine, v.Go, v.Machine)
			return err
		},
	}
	addOutput(c, &output, "table", "json")
	return c
}
