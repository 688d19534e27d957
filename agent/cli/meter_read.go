package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
)

type meterReadOptions struct {
	meterAccess
	definition, output string
	unit               uint8
	count              int
	every              time.Duration
}

func newMeterRead(s streams) *cobra.Command {
	var o meterReadOptions
	c := &cobra.Command{
		Use:   "read",
		Short: "Read a meter and print what it says, with its registers",
		Long: `Reads a meter, once or as often as --count says. What the meter does not tell is shown
as unknown (null in JSON), never as 0. Power is positive when the home imports.

Below the values stands where they are from, as the device wrote them: the registers of
Modbus in hexadecimal, the model and point of SunSpec with its scale factor, the line of a
P1 telegram, the topic and path of a message. Compare that with the display of the meter
and its manual before you trust a definition with money.

` + addressForms() + `

Exit code 1 if the meter could not be read, 2 if the command is not right.`,
		Example: `  commonwatt meter read --definition eastron-sdm630 --address tcp://192.168.1.20:502 --unit 1
  commonwatt meter read --definition eastron-sdm120 --address "rtu:///dev/ttyUSB0?baud=9600&parity=N"
  commonwatt meter read --definition tasmota --address mqtt://192.168.1.5:1883/kitchen --output json
  commonwatt meter read --definition dsmr-p1 --address p1:///dev/ttyUSB0 --count 3`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context(), s) },
	}
	o.flags(c)
	f := c.Flags()
	f.StringVar(&o.definition, "definition", "", "what the device is: an id that \"commonwatt meter list\" shows")
	_ = c.RegisterFlagCompletionFunc("definition", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) { // the flag is there
		return def.BuiltIn(), cobra.ShellCompDirectiveNoFileComp
	})
	f.Uint8Var(&o.unit, "unit", 0, "Modbus unit id (default: the definition's)")
	f.DurationVar(&o.timeout, "timeout", 10*time.Second, "how long to wait for an answer or a message")
	f.IntVar(&o.count, "count", 1, "how often to read; 0 is until interrupted")
	f.DurationVar(&o.every, "every", 5*time.Second, "time between two reads of a device that is asked")
	addOutput(c, &o.output, "table", "json")
	return c
}

func (o *meterReadOptions) run(ctx context.Context, s streams) error {
	if o.definition == "" || o.address == "" {
		return usagef("--definition and --address are needed")
	}
	if o.count < 0 || o.every < 0 {
		return usagef("--count and --every: got %d and %v, want 0 or more", o.count, o.every)
	}
	config, err := o.config()
	if err != nil {
		return err
	}
	config.Definition, config.Unit, config.Timeout = o.definition, o.unit, requestTimeout(o.address, o.timeout)
	src, err := meter.Open(ctx, config)
	if err != nil {
		return badDefinition(err)
	}
	err = o.readAll(ctx, src, s)
	return errors.Join(err, src.Close())
}

func (o *meterReadOptions) readAll(ctx context.Context, src meter.Source, s streams) error {
	for n := 1; ; n++ {
		once, cancel := context.WithTimeout(ctx, o.timeout)
		sample, err := src.Read(once)
		cancel()
		select {
		case <-ctx.Done():
			if n > 1 {
				return nil // interrupted, as was to be
			}
		default:
		}
		if err != nil {
			return &problem{exitFailed, fmt.Errorf("reading %s at %s: %w", o.definition, o.address, err), meterHint(err, o.address)}
		}
		if n > 1 && o.output == "table" {
			if _, err := fmt.Fprintln(s.out); err != nil {
				return err
			}
		}
		if err := o.print(s.out, sample); err != nil {
			return err
		}
		if sample.ImportWh == nil && sample.ExportWh == nil && sample.PowerW == nil {
			fmt.Fprintf(s.err, "note: it answers, but tells nothing that %s looks for: is it this kind? `commonwatt meter detect` may tell\n", o.definition)
		}
		if n == o.count {
			return nil
		}
		if src.Push() {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(o.every):
		}
	}
}

func (o *meterReadOptions) print(out io.Writer, sample meter.Sample) error {
	if o.output == "json" {
		return sampleJSON(out, sample)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
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
		fmt.Fprintf(w, "%s\t%s\n", row[0], row[1])
	}
	if err := w.Flush(); err != nil || len(sample.Origins) == 0 {
		return err
	}
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\nPOINT\tVALUE\tFROM\tAS WRITTEN\n")
	for _, p := range inOrder(sample.Origins) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.Point, originValue(p), originPlace(p), originText(p))
	}
	return w.Flush()
}

// inOrder is the points as the values above them stand.
func inOrder(origins []def.Origin) []def.Origin {
	order := []string{def.PointImport, def.PointExport, def.PointPower, def.PointSoC}
	sorted := append([]def.Origin{}, origins...)
	slices.SortStableFunc(sorted, func(a, b def.Origin) int { return slices.Index(order, a.Point) - slices.Index(order, b.Point) })
	return sorted
}

func originValue(o def.Origin) string {
	if o.Unknown != "" {
		return "unknown: " + o.Unknown
	}
	return o.Value + " " + o.Unit
}

// originPlace says where to look for a value in the device's manual.
func originPlace(o def.Origin) string {
	switch {
	case o.Model != 0:
		return fmt.Sprintf("model %d, %s, offset %d, register %d", o.Model, o.Name, o.Offset, *o.Address)
	case o.FromRegisters() && o.Address != nil:
		return fmt.Sprintf("block %s, function %d, register %d (0x%04x)", o.Block, o.Function, *o.Address, *o.Address)
	case o.Topic != "":
		return strings.TrimSuffix(o.Topic+" "+strings.Join(o.Path, "."), " ")
	}
	return strings.Join(o.Path, ".")
}

// originText is what the device wrote.
func originText(o def.Origin) string {
	if !o.FromRegisters() {
		return o.Text
	}
	s := strings.Join(o.Words.Hex(), " ") + " " + o.Type
	if o.Scale != nil {
		s += fmt.Sprintf(" × 10^%d", *o.Scale)
	}
	return s
}

// sampleJSON writes the sample with its points behind.
func sampleJSON(out io.Writer, sample meter.Sample) error {
	data, err := json.Marshal(sample)
	if err != nil {
		return err
	}
	more, err := json.Marshal(inOrder(sample.Origins))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	whole := append(append(bytes.TrimSuffix(data, []byte("}")), `,"points":`...), append(more, '}')...)
	if err := json.Indent(&b, whole, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = out.Write(b.Bytes())
	return err
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
