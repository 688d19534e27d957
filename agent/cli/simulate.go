package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/sim"
)

const (
	maxSimulatedDays  = 31
	maxSimulatedHomes = 40
)

func newSimulate(s streams) *cobra.Command {
	var o sim.Options
	var days int
	var output string
	var trace bool
	c := &cobra.Command{
		Use:   "simulate",
		Short: "Run a whole community in memory, with faults and cheats, and check every account",
		Long: `Runs homes, four validators and the network between them in virtual time: a day takes
less than a second. The seed decides what the homes use, what fails and who cheats; the same
seed gives the same run, to the byte. Every account is computed anew from what the meters
counted; if one is wrong, or anything else is not as the rules have it, that is an error.`,
		Example: `  commonwatt simulate --seed 7
  commonwatt simulate --days 3 --homes 12 --calm --output json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			switch {
			case days < 1 || days > maxSimulatedDays:
				return usagef("--days: got %d, want 1 to %d", days, maxSimulatedDays)
			case o.Homes < 0 || o.Homes > maxSimulatedHomes:
				return usagef("--homes: got %d, want 1 to %d, or 0 for as many as the seed has", o.Homes, maxSimulatedHomes)
			}
			o.Intervals = days * 96
			if trace {
				o.Trace = func(line string) { _, _ = fmt.Fprintln(s.err, line) } // a log: nothing hangs on it
			}
			r, err := sim.Run(o)
			if err != nil {
				return err
			}
			return printSimulation(r, output, s)
		},
	}
	f := c.Flags()
	f.Uint64Var(&o.Seed, "seed", 0, "what happens follows from it")
	f.IntVar(&days, "days", 1, fmt.Sprintf("how many days, 1 to %d", maxSimulatedDays))
	f.IntVar(&o.Homes, "homes", 0, fmt.Sprintf("how many homes, 1 to %d (default: as the seed has it)", maxSimulatedHomes))
	f.BoolVar(&o.Calm, "calm", false, "nothing fails and nobody cheats")
	f.BoolVar(&trace, "trace", false, "tell everything that happens")
	addOutput(c, &output, "table", "json")
	return c
}

func printSimulation(r *sim.Report, output string, s streams) error {
	if output == "json" {
		return json.NewEncoder(s.out).Encode(r)
	}
	cheats := strings.Join(r.Adversaries, ", ")
	if cheats == "" {
		cheats = "none"
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"seed", fmt.Sprint(r.Seed)},
		{"homes", fmt.Sprint(r.Homes)},
		{"intervals", fmt.Sprintf("%d, of which %d cleared by what was metered", r.Intervals, r.Metered)},
		{"cheats", fmt.Sprintf("%s; %d tricks", cheats, r.Tricks)},
		{"faults", fmt.Sprintf("%d crashes, %d partitions, %d outages, %d of %d messages lost", r.Crashes, r.Partitions, r.Outages, r.Lost, r.Messages)},
		{"blocks", fmt.Sprintf("%d with %d transactions, %d of them refused", r.Blocks, r.Txs, r.Refused)},
		{"settled", fmt.Sprintf("%d accounts of an interval, %d corrected later", r.Settlements, r.Corrections)},
		{"bought", fmt.Sprintf("%d Wh in the community", r.Bought)},
		{"hash", r.AppHash},
	} {
		if _, err := fmt.Fprintf(w, "%s\t%s\n", row[0], row[1]); err != nil {
			return err
		}
	}
	return w.Flush()
}
