package cli

import (
	"context"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path/filepath"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/household"
)

// maxReadingsBytes bounds one answer: api.MaxReadings rows with all that devices sent.
const maxReadingsBytes = 32 << 20

type meterHistoryOptions struct {
	home, meter, from, to, output string
	limit                         int
	raw                           bool
}

func newMeterHistory(s streams) *cobra.Command {
	var o meterHistoryOptions
	c := &cobra.Command{
		Use:   "history",
		Short: "List what this home's meters told, and what became of it",
		Long: `Lists the readings of this home's meters as they were kept: those that count, those
that were refused, held or set aside and why, and those that prove the boundary of an
interval, with their signature. It asks the running agent, or reads the file if there
is none. Times are community time; a day alone begins at 0:00 UTC.

Without --from it lists the newest.`,
		Example: `  commonwatt meter history --home /var/lib/commonwatt --meter connection
  commonwatt meter history --from 2026-06-21 --to 2026-06-22 --limit 0 --output csv > day.csv
  commonwatt meter history --from 2026-06-21T12:00:00Z --raw --output json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context(), s) },
	}
	f := c.Flags()
	f.StringVar(&o.home, "home", ".", "the home's folder")
	f.StringVar(&o.meter, "meter", "", "of this meter only: connection, solar, battery, solar-2, ...")
	f.StringVar(&o.from, "from", "", "not before, such as 2026-06-21 or 2026-06-21T12:00:00Z")
	f.StringVar(&o.to, "to", "", "before")
	f.IntVar(&o.limit, "limit", 100, "at most so many; 0 is all")
	f.BoolVar(&o.raw, "raw", false, "with what the device sent (json and csv)")
	addOutput(c, &o.output, "table", "json", "csv")
	return c
}

func (o *meterHistoryOptions) run(ctx context.Context, s streams) error {
	q := api.ReadingsQuery{Meter: o.meter, Raw: o.raw, Newest: o.from == "" && o.limit > 0, Limit: min(o.limit, api.MaxReadings)}
	if o.limit < 0 || q.Newest && o.limit > api.MaxReadings {
		return usagef("--limit: got %d, want 0 to %d; with --from there is no limit", o.limit, api.MaxReadings)
	}
	if o.limit == 0 {
		q.Limit = api.MaxReadings
	}
	for _, t := range []struct {
		flag, text string
		into       *time.Time
	}{{"--from", o.from, &q.From}, {"--to", o.to, &q.To}} {
		var err error
		if *t.into, err = parseInstant(t.flag, t.text); err != nil {
			return err
		}
	}
	out := newReadingPrinter(s.out, o.output)
	for left := o.limit; ; {
		rows, err := o.ask(ctx, q)
		if err != nil {
			return err
		}
		for i := range rows {
			if err := out.row(&rows[i]); err != nil {
				return err
			}
		}
		left -= len(rows)
		if q.Newest || len(rows) < q.Limit || o.limit > 0 && left <= 0 {
			return out.end()
		}
		q.From = rows[len(rows)-1].At.Add(time.Millisecond)
		if o.limit > 0 {
			q.Limit = min(left, api.MaxReadings)
		}
	}
}

// parseInstant reads a time or a day; empty is none.
func parseInstant(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil && t.Year() >= 1 && t.Year() <= 9999 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, usagef("%s: got %q, want a day or a time such as 2026-06-21 or 2026-06-21T12:00:00Z", flag, text)
}

// ask reads the file, or asks the agent that has it.
func (o *meterHistoryOptions) ask(ctx context.Context, q api.ReadingsQuery) ([]api.ReadingRow, error) {
	rows, err := household.ReadHistory(o.home, q)
	switch {
	case err == nil:
		return rows, nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, &problem{exitFailed, fmt.Errorf("%s has no readings yet", o.home), "they are kept once `commonwatt run --home " + o.home + "` reads a meter"}
	case !errors.Is(err, household.ErrInUse):
		return nil, err
	}
	cfg, err := household.LoadConfig(filepath.Join(o.home, household.ConfigFile))
	if err != nil {
		return nil, err
	}
	v := url.Values{"limit": {strconv.Itoa(q.Limit)}, "newest": {strconv.FormatBool(q.Newest)}, "raw": {strconv.FormatBool(q.Raw)}}
	if q.Meter != "" {
		v.Set("meter", q.Meter)
	}
	for name, t := range map[string]time.Time{"from": q.From, "to": q.To} {
		if !t.IsZero() {
			v.Set(name, t.Format(time.RFC3339Nano))
		}
	}
	raw, err := fetch(ctx, cfg, o.home, "/api/readings?"+v.Encode(), maxReadingsBytes)
	if err != nil {
		return nil, unanswered(cfg, o.home, err)
	}
	var list api.ReadingList
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("reading the agent's answer: %w", err)
	}
	return list.Readings, nil
}

// readingPrinter prints rows as they come: there may be millions.
type readingPrinter struct {
	row func(r *api.ReadingRow) error
	end func() error
}

func newReadingPrinter(out io.Writer, form string) readingPrinter {
	switch form {
	case "json":
		return jsonReadings(out)
	case "csv":
		return csvReadings(out)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	n := 0
	line := func(cells ...any) error {
		_, err := fmt.Fprintf(w, "%v\t%v\t%v\t%v\t%v\t%v\t%v\n", cells...)
		return err
	}
	return readingPrinter{
		row: func(r *api.ReadingRow) error {
			if n%1000 == 0 { // columns are as wide as those thousand rows need
				if err := errors.Join(w.Flush(), line("TIME", "METER", "IMPORT WH", "EXPORT WH", "POWER W", "QUALITY", "WHAT BECAME OF IT")); err != nil {
					return err
				}
			}
			n++
			return line(r.At.Format("2006-01-02T15:04:05.000Z"), r.Meter, digits(r.ImportWh), digits(r.ExportWh), digits(r.PowerW), r.Quality, became(r))
		},
		end: w.Flush,
	}
}

// became says in words what a sample is good for.
func became(r *api.ReadingRow) string {
	text := r.Verdict
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	if r.More > 0 {
		text += fmt.Sprintf(" (and %d before it)", r.More)
	}
	if p := r.Proof; p != nil {
		by := "this gateway"
		if p.SignedBy == "device" {
			by = "the device"
		}
		text = fmt.Sprintf("proves a boundary: reading %d of epoch %d, signed by %s", p.Seq, p.Epoch, by)
	}
	return text
}

func jsonReadings(out io.Writer) readingPrinter {
	separator := "{\"readings\": [\n  "
	return readingPrinter{
		row: func(r *api.ReadingRow) error {
			raw, err := json.Marshal(r)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(out, "%s%s", separator, raw)
			separator = ",\n  "
			return err
		},
		end: func() error {
			if separator[0] == '{' {
				_, err := fmt.Fprintln(out, `{"readings": []}`)
				return err
			}
			_, err := fmt.Fprint(out, "\n]}\n")
			return err
		},
	}
}

func csvReadings(out io.Writer) readingPrinter {
	w := csv.NewWriter(out)
	err := w.Write([]string{"at", "meter", "verdict", "reason", "import_wh", "export_wh", "power_w", "quality", "clock", "serial", "more", "meter_id", "seq", "epoch", "signed_by", "hash", "signature", "raw"})
	return readingPrinter{
		row: func(r *api.ReadingRow) error {
			p := r.Proof
			proof := []string{"", "", "", "", "", ""}
			if p != nil {
				proof = []string{p.Meter, strconv.FormatUint(p.Seq, 10), strconv.FormatUint(uint64(p.Epoch), 10), p.SignedBy, p.Hash, p.Signature}
			}
			row := []string{r.At.Format(time.RFC3339Nano), r.Meter, r.Verdict, r.Reason, digits(r.ImportWh), digits(r.ExportWh), digits(r.PowerW), r.Quality, r.Clock, r.Serial, strconv.FormatInt(r.More, 10)}
			return errors.Join(err, w.Write(append(append(row, proof...), hex.EncodeToString(r.Raw))))
		},
		end: func() error {
			w.Flush()
			return errors.Join(err, w.Error())
		},
	}
}

// digits is a number, or nothing where it is unknown.
func digits[T uint64 | int64](v *T) string {
	if v == nil {
		return ""
	}
	return fmt.Sprint(*v)
}
