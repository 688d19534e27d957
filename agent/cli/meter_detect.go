package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
)

type meterDetectOptions struct {
	meterAccess
	units, output string
	listen        time.Duration
}

func newMeterDetect(s streams) *cobra.Command {
	var o meterDetectOptions
	c := &cobra.Command{
		Use:   "detect",
		Short: "Find out which definition fits what is at an address",
		Long: `Looks what is at an address and lists the definitions that fit, the best first, with what
speaks for each. It only reads.

Modbus  unit after unit: a SunSpec chain, then the registers by which a device says what
        it is; if it says nothing, the definitions whose values can be
MQTT    listens on the topics of all definitions and lists the devices that send counters
P1, HTTP  reads by each definition that knows such an address

Where several fit, compare "commonwatt meter read" with the display of the meter before
you settle on one. Exit code 1 if nothing is found.

` + addressForms() + `
but of a broker without a topic.`,
		Example: `  commonwatt meter detect --address tcp://192.168.1.20:502
  commonwatt meter detect --address "rtu:///dev/ttyUSB0?baud=9600&parity=E" --units 1-10,100
  commonwatt meter detect --address mqtt://192.168.1.5:1883 --listen 60s --output json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context(), s) },
	}
	o.flags(c)
	f := c.Flags()
	f.StringVar(&o.units, "units", "", "Modbus units to ask, as 1-10,71 (default: 1 to 10 on a line, 1 to 3 and those of makers else)")
	f.DurationVar(&o.timeout, "timeout", time.Second, "how long to wait for one answer")
	f.DurationVar(&o.listen, "listen", 15*time.Second, "how long to listen to a broker or a P1 port")
	addOutput(c, &o.output, "table", "json")
	return c
}

func (o *meterDetectOptions) run(ctx context.Context, s streams) error {
	if o.address == "" {
		return usagef("--address is needed")
	}
	if o.listen <= 0 {
		return usagef("--listen: got %v, want more than 0", o.listen)
	}
	config, err := o.config()
	if err != nil {
		return err
	}
	config.Timeout = o.timeout
	units, err := parseUnits(o.units)
	if err != nil {
		return err
	}
	matches, err := meter.Detect(ctx, meter.DetectConfig{
		Config: config, Units: units, Listen: o.listen,
		Progress: func(what string) { fmt.Fprintln(s.err, what) },
	})
	switch {
	case errors.Is(err, meter.ErrNotDetected):
		return &problem{exitFailed, fmt.Errorf("looking at %s: %w", o.address, err), notDetectedHint(o.address)}
	case err != nil:
		if bad := (*meter.ConfigError)(nil); errors.As(err, &bad) || errors.Is(err, def.ErrInvalid) {
			return badDefinition(err)
		}
		return &problem{exitFailed, fmt.Errorf("looking at %s: %w", o.address, err), meterHint(err, o.address)}
	}
	return printMatches(s.out, o.output, matches)
}

func notDetectedHint(address string) string {
	switch {
	case strings.HasPrefix(address, "rtu:"):
		return "try other settings (baud=19200, parity=E), --units, and A and B of the line the other way round"
	case strings.HasPrefix(address, "mqtt"):
		return "does the device publish to this broker? --listen waits longer"
	case strings.HasPrefix(address, "http"):
		return "is the local API of the device switched on, and does it ask for --username? `commonwatt meter list` shows the kinds that are known"
	case strings.HasPrefix(address, "p1"):
		return "is the P1 port switched on, and is it that of the meter itself? --listen waits longer"
	}
	return "--units asks others; if you know the device, `commonwatt meter list` has its definition"
}

// parseUnits reads "1-10,71".
func parseUnits(text string) ([]uint8, error) {
	if text == "" {
		return nil, nil
	}
	var units []uint8
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		a, err := strconv.ParseUint(first, 10, 8)
		b, err2 := strconv.ParseUint(last, 10, 8)
		if err != nil || err2 != nil || a < 1 || a > b || (b > 247 && b != 255) {
			return nil, usagef("--units: got %q, want units from 1 to 247 (or 255) such as 1-10,71", text)
		}
		for u := a; u <= b; u++ {
			units = append(units, uint8(u)) //nolint:gosec // at most 255
		}
	}
	if len(units) > 247 {
		return nil, usagef("--units: got %d units, want each once", len(units))
	}
	return units, nil
}

// matchRow is a match as JSON shows it.
type matchRow struct {
	Definition string          `json:"definition"`
	Version    int             `json:"version"`
	Name       string          `json:"name"`
	Address    string          `json:"address"`
	Unit       *uint8          `json:"unit"`
	Score      int             `json:"score"`
	Identity   *meter.Identity `json:"identity"`
	Evidence   []string        `json:"evidence"`
}

func printMatches(out io.Writer, output string, matches []meter.Match) error {
	if output == "json" {
		rows := make([]matchRow, len(matches))
		for i, m := range matches {
			rows[i] = matchRow{m.Definition.ID, m.Definition.Version, m.Definition.Name, m.Address, nil, m.Score, &m.Identity, m.Evidence}
			if m.Unit != 0 {
				rows[i].Unit = &m.Unit
			}
		}
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "DEFINITION\tADDRESS\tUNIT\tSCORE\tDEVICE\tWHAT SPEAKS FOR IT")
	for _, m := range matches {
		unit := "-"
		if m.Unit != 0 {
			unit = strconv.Itoa(int(m.Unit))
		}
		device := strings.Join(strings.Fields(m.Identity.Maker+" "+m.Identity.Model+" "+m.Identity.Serial), " ")
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", m.Definition.ID, m.Address, unit, m.Score, text(device), strings.Join(m.Evidence, "; "))
	}
	return w.Flush()
}
