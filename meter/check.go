package meter

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/meter/def"
	"github.com/commonwatt/commonwatt/meter/mqtt"
)

// ErrVector is wrapped by what CheckDefinition finds.
var ErrVector = errors.New("test vector fails")

// CheckDefinition runs the test vectors of a definition through the code that reads real devices, and returns every
// difference: it is an ErrVector and a [def.Problems].
func CheckDefinition(d Definition) error {
	var problems def.Problems
	add := func(line int, key, name string, err error) {
		for _, one := range split(err) {
			problems = append(problems, def.Problem{
				File: d.File, Line: line, Column: 1, Key: key, Reason: fmt.Sprintf("%q: %s", name, strings.ReplaceAll(one.Error(), "\n", "; ")),
			})
		}
	}
	for i, v := range d.Tests {
		sample, err := runVector(d, v)
		add(v.Line, fmt.Sprintf("tests[%d]", i), v.Name, compare(sample, err, v.Expect))
	}
	if d.Control != nil {
		for i, v := range d.Control.Tests {
			add(v.Line, fmt.Sprintf("control.tests[%d]", i), v.Name, checkControl(d, v))
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrVector, problems)
}

// CheckFile reads a definition file and runs its vectors. A file with mistakes is a [def.Problems]; any other error
// means that it could not be read.
func CheckFile(name string) (Definition, error) {
	d, err := def.LoadFile(name)
	if err != nil {
		return Definition{}, err
	}
	return d, CheckDefinition(d)
}

// split undoes errors.Join: what it joined stands on lines of its own.
func split(err error) []error {
	many, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if err == nil {
			return nil
		}
		return []error{err}
	}
	var all []error
	lines := make([]string, 0, 4)
	for _, one := range many.Unwrap() {
		all = append(all, split(one)...)
		lines = append(lines, one.Error())
	}
	if strings.Join(lines, "\n") != err.Error() {
		return []error{err}
	}
	return all
}

// vectorTime stamps the samples of vectors.
var vectorTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func runVector(d Definition, v def.Vector) (Sample, error) {
	switch {
	case d.P1 != nil:
		return runTelegram(d, v)
	case len(v.Messages) > 0 && v.Messages[0].Path != "" && d.HTTP != nil:
		return runAnswers(d, v)
	case d.MQTT != nil:
		return runMessages(d, v)
	case d.HTTP != nil:
		return Sample{}, errors.New("messages: got none, expected the answer to each request, with its path")
	}
	read, err := registerMap(v.Registers)
	if err != nil {
		return Sample{}, err
	}
	survey, err := d.Survey(context.Background(), read)
	if err != nil {
		return Sample{}, err
	}
	values, err := d.ReadValues(context.Background(), read, survey)
	if err != nil {
		return Sample{}, err
	}
	sample := sampleOf(values, vectorTime, d)
	sample.Identity = survey.Identity
	return sample, nil
}

// registerMap makes a device of the registers of a vector; what they do not hold is refused, as devices do.
func registerMap(registers []def.Registers) (def.ReadRegisters, error) {
	type key struct {
		function uint8
		address  int
	}
	held := map[key]uint16{}
	for _, r := range registers {
		for i, text := range strings.Fields(r.Words) {
			w, err := strconv.ParseUint(text, 16, 16)
			if err != nil {
				return nil, fmt.Errorf("words: got %q, expected 4 hexadecimal digits", text)
			}
			held[key{r.Function, int(r.Address) + i}] = uint16(w)
		}
	}
	return func(_ context.Context, function uint8, address, count uint16) ([]uint16, error) {
		words := make([]uint16, count)
		for i := range words {
			w, ok := held[key{function, int(address) + i}]
			if !ok {
				return nil, fmt.Errorf("function %d, register %d: %w", function, int(address)+i, def.ErrRefused)
			}
			words[i] = w
		}
		return words, nil
	}, nil
}

func runMessages(d Definition, v def.Vector) (Sample, error) {
	topics, err := d.ResolveTopic(v.Device)
	if err != nil {
		return Sample{}, err
	}
	l := newListener(d, topics)
	var last Sample
	heard := false
	for _, m := range v.Messages {
		if _, ours := topics.ByTopic[m.Topic]; !ours {
			return Sample{}, fmt.Errorf("topic %q is not one of the device", m.Topic)
		}
		sample, ok, err := l.hear(mqtt.Message{Topic: m.Topic, Payload: []byte(m.Payload), Retained: m.Retained, At: vectorTime})
		if err != nil {
			return Sample{}, err
		}
		if ok {
			last, heard = sample, true
		}
	}
	if !heard {
		return Sample{}, ErrNoMessage
	}
	return last, nil
}

func compare(got Sample, err error, want def.Expectation) error {
	if want.Error != "" {
		if err == nil || !strings.Contains(err.Error(), want.Error) {
			return fmt.Errorf("error: got %w, expected %q", err, want.Error)
		}
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	differ := func(field, got, want string) {
		if got != want {
			errs = append(errs, fmt.Errorf("%s: got %s, expected %s", field, got, want))
		}
	}
	differ("import_wh", show(got.ImportWh), show(want.ImportWh))
	differ("export_wh", show(got.ExportWh), show(want.ExportWh))
	differ("power_w", show(got.PowerW), show(want.PowerW))
	differ("quality", got.Quality.String(), want.Quality)
	differ("identity", fmt.Sprintf("%+v", got.Identity), fmt.Sprintf("%+v", want.Identity))
	if want.DeviceAt != "" {
		at := "unknown"
		if got.DeviceAt != nil {
			at = got.DeviceAt.Format(time.RFC3339)
		}
		differ("device_at", at, want.DeviceAt)
	}
	return errors.Join(errs...)
}

func show[T any](v *T) string {
	if v == nil {
		return "null"
	}
	return fmt.Sprint(*v)
}
