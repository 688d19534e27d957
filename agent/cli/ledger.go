package cli

import (
	"github.com/spf13/cobra"
)

func newLedger(s streams) *cobra.Command {
	c := &cobra.Command{Use: "ledger", Short: "Check the ledger yourself"}
	_ = s
	return c
}
