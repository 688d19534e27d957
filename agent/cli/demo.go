package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/demo"
)

func newDemo(s streams) *cobra.Command {
	var o demo.Options
	var from, output, outage string
	var compare bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run a whole street on this machine",
		Long: `Founds a street of homes, each with a simulated meter on a real protocol and an agent
in a process of its own, and lets 15 minutes pass in 10 seconds. The first start
begins anew; later ones go on from the data of the one before.

With --for or --span it stops by itself, adds everything up from the ledgers on disk,
computes every account anew from what the simulated meters counted themselves, and
prints a report. With --outage so many validators lose power that nothing can be
decided for a while; every interval is settled nevertheless, and none twice.`,
		Example: `  commonwatt demo
  commonwatt demo --fresh --homes 6 --for 150s --output json
  commonwatt demo --fresh --pace 3s --span 72h --outage 30h+3h
  commonwatt demo --broker mqtt://127.0.0.1:1883`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if from != "" {
				t, err := time.Parse(time.RFC3339, from)
				if err != nil {
					return usagef("--from: got %q, want a time such as 2026-06-21T09:00:00Z", from)
				}
				o.From = t
			}
			if err := parseOutage(outage, &o.Outage); err != nil {
				return err
			}
			if compare {
				return runComparison(c.Context(), o, output, s)
			}
			return runDemo(c.Context(), o, output, s)
		},
	}
	f := c.Flags()
	f.StringVar(&o.Dir, "data", "demo-data", "folder for everything that the street keeps")
	f.IntVar(&o.Homes, "homes", 6, fmt.Sprintf("how many homes, 1 to %d; the first four keep the ledger", demo.MaxHomes))
	f.DurationVar(&o.For, "for", 0, "stop after this long and report (default: until Ctrl-C)")
	f.DurationVar(&o.Span, "span", 0, "stop after this much of the community's time and report")
	f.DurationVar(&o.Pace, "pace", 0, "how long 15 minutes take, from 2s on (default 10s)")
	f.IntVar(&o.Light, "light", 0, "how many of the homes hold no ledger: they verify what the others answer")
	f.StringVar(&o.Clearing, "clearing", "", "how intervals are decided: forward on orders (default) or metered, by what the meters say afterwards")
	f.StringVar(&o.Battery, "battery", "", "how batteries are led: follow what was sold (default) or self-consumption")
	f.BoolVar(&compare, "compare", false, "run the same street twice, with batteries that follow and without, and compare the imbalance (needs --span)")
	f.StringVar(&outage, "outage", "", "AFTER+LENGTH of the community's time, such as 30h+3h, without a quorum of validators")
	f.StringVar(&from, "from", "", "community time at which it begins (default: the late morning of a sunny day)")
	f.BoolVar(&o.Fresh, "fresh", false, "forget the street in the data folder and begin anew")
	f.StringVar(&o.Profiles, "profiles", "", "folder with recorded homes (hh_*.csv) and roofs (pv_*.csv)")
	f.StringVar(&o.Broker, "broker", "", "use this MQTT broker, mqtt://HOST:PORT, instead of an own one")
	addOutput(c, &output, "table", "json")
	return c
}

// parseOutage reads AFTER+LENGTH; nothing is no outage.
func parseOutage(text string, o *demo.Outage) error {
	if text == "" {
		return nil
	}
	after, length, ok := strings.Cut(text, "+")
	var err error
	if ok {
		if o.After, err = time.ParseDuration(after); err == nil {
			o.For, err = time.ParseDuration(length)
		}
	}
	if !ok || err != nil || o.For == 0 {
		return usagef("--outage: got %q, want AFTER+LENGTH such as 30h+3h", text)
	}
	return nil
}

// findPrograms names the two programs: this one, and firmware-sim beside it or in the path.
func findPrograms(o *demo.Options) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	o.Agent, o.Simulator = exe, filepath.Join(filepath.Dir(exe), "firmware-sim")
	if _, err := os.Stat(o.Simulator); err != nil {
		if found, err := exec.LookPath("firmware-sim"); err == nil {
			o.Simulator = found
		}
	}
	return nil
}

func runDemo(ctx context.Context, o demo.Options, output string, s streams) error {
	if err := findPrograms(&o); err != nil {
		return err
	}
	o.Say = s.err
	report, err := demo.Run(ctx, o)
	if errors.Is(err, demo.ErrUsage) {
		return &problem{code: exitUsage, err: err}
	}
	if err != nil {
		return err
	}
	if output == "json" {
		err = report.Write(s.out)
	} else {
		err = printReport(report, s)
	}
	if err != nil {
		return err
	}
	if len(report.Errors) > 0 {
		return fmt.Errorf("the demonstration went wrong: %s", report.Errors[0])
	}
	return nil
}

func printReport(r *demo.Report, s streams) error {
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "home\timport Wh\tits meter\texport Wh\tits meter\tbought Wh\tsold Wh\tbalance\t\n")
	for _, h := range r.Households {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t\n",
			h.Name, h.ImportWh, h.DeviceImportWh, h.ExportWh, h.DeviceExportWh, h.BoughtWh, h.SoldWh, units(int64(h.Balance)))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	anew := 0
	for _, h := range r.Households {
		if h.Recounted == h.Balance {
			anew++
		}
	}
	fmt.Fprintf(s.out, "%d of %d balances are the same, computed anew from what the meters counted themselves\n", anew, len(r.Households))
	fmt.Fprintf(s.out, "%d intervals were decided by the meters after delivery; in %d the two feeders had prices of their own\n",
		r.IntervalsMetered, r.IntervalsSplit)
	_, err := fmt.Fprintf(s.out, "%d intervals settled; all accounts add up to %s; %d ledgers, one hash: %v\n",
		r.IntervalsSettled, units(int64(r.BalanceSum)), len(r.Nodes), r.OneHash())
	return err
}
