package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/meter"
)

func newMeter(s streams) *cobra.Command {
	c := &cobra.Command{Use: "meter", Short: "Read a meter, to set it up"}
	c.AddCommand(newMeterReplace(s), newMeterApprove(s), newMeterRead(s))
	return c
}

type meterReadOptions struct {
	definition, address, dir, username, password, output string
	unit                                                 uint8
	timeout                                              time.Duration
}

func newMeterRead(s streams) *cobra.Command {
	var o meterReadOptions
	c := &cobra.Command{
		Use:   "read",
		Short: "Read a meter once and print what it says",
		Long: `Reads a meter once. What the meter does not tell is shown as unknown (null in
JSON), never as 0. Power is positive when the home imports.`,
		Example: `  commonwatt meter read --definition eastron-sdm630 --address tcp://192.168.1.20:502 --unit 1
  commonwatt meter read --definition tasmota --address mqtt://192.168.1.5:1883/kitchen --output json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context(), s) },
	}
	known := "see the manual"
	if ids, err := definitionIDs(""); err == nil {
		known = strings.Join(ids, ", ")
	}
	f := c.Flags()
	f.StringVar(&o.definition, "definition", "", "what the device is: "+known)
	f.StringVar(&o.address, "address", "", "tcp://HOST:PORT (Modbus) or mqtt://HOST:PORT/TOPIC")
	f.Uint8Var(&o.unit, "unit", 0, "Modbus unit id (default: the definition's)")
	f.StringVar(&o.dir, "definitions", "", "folder with device definitions of your own")
	f.StringVar(&o.username, "username", "", "for the MQTT broker")
	f.StringVar(&o.password, "password", "", "for the MQTT broker")
	f.DurationVar(&o.timeout, "timeout", 10*time.Second, "how long to wait for an answer or a message")
	addOutput(c, &o.output, "table", "json")
	return c
}

func definitionIDs(dir string) ([]string, error) {
	ds, err := meter.Definitions(dir)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(ds))
	for i, d := range ds {
		ids[i] = d.ID
	}
	return ids, nil
}

func (o *meterReadOptions) run(ctx context.Context, s streams) error {
	if o.definition == "" || o.address == "" {
		return usagef("--definition and --address are needed")
	}
	if o.timeout <= 0 {
		return usagef("--timeout: got %v, want more than 0", o.timeout)
	}
	src, err := meter.Open(ctx, meter.Config{
		Definition: o.definition, Address: o.address, Unit: o.unit, DefinitionsDir: o.dir,
		Username: o.username, Password: o.password,
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	sample, err := src.Read(ctx)
	if err = errors.Join(err, src.Close()); err != nil {
		return &problem{
			exitFailed, fmt.Errorf("reading %s at %s: %w", o.definition, o.address, err),
			"check cable, address and unit; --timeout waits longer",
		}
	}
	if o.output == "json" {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		return enc.Encode(sample)
	}
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"import", known(sample.ImportWh, "Wh")},
		{"export", known(sample.ExportWh, "Wh")},
		{"power", known(sample.PowerW, "W")},
		{"quality", sample.Quality.String()},
		{"maker", text(sample.Identity.Maker)},
		{"model", text(sample.Identity.Model)},
		{"serial", text(sample.Identity.Serial)},
		{"firmware", text(sample.Identity.Firmware)},
	} {
		if _, err := fmt.Fprintf(w, "%s\t%s\n", row[0], row[1]); err != nil {
			return err
		}
	}
	return w.Flush()
}

func known[T uint64 | int64](v *T, unit string) string {
	if v == nil {
		return "unknown"
	}
	return strconv.FormatInt(int64(*v), 10) + " " + unit
}

func text(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
