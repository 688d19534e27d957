package cli

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/bill"
	"github.com/commonwatt/commonwatt/market/store"
)

// gossipFormat is the version of what agents send each other. It, store.Format and
// bill.ProofFormat change each on its own.
const gossipFormat = "txs/1"

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
			}{version, store.Format, gossipFormat, bill.ProofFormat, "CometBFT v0.40.0", runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
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
