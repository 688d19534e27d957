package meter

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/meter/def"
)

// ErrNotDetected is wrapped by Detect when something may be there, but nothing that a definition describes.
var ErrNotDetected = errors.New("nothing found that a definition describes")

// DetectConfig says where to look.
type DetectConfig struct {
	// Config says how: its Address is one as for Open, but of a broker without topic. Definition and Unit do not count;
	// Timeout bounds one request.
	Config
	// Units to ask on Modbus; none means those that are usual.
	Units []uint8
	// Listen is how long to wait for what speaks by itself: a broker, a P1 port; 0 means 15 s.
	Listen time.Duration
	// Progress is told what is done; it may be nil.
	Progress func(what string)
}

// Match is a definition that fits what was found.
type Match struct {
	Definition Definition
	// Address and Unit are what Open needs.
	Address string
	Unit    uint8
	// Identity is what the device says of itself.
	Identity Identity
	// Score orders matches: from 80 on the device itself says what it is, or what it sends is of that form; below, what
	// is read is only plausible.
	Score int
	// Evidence is what speaks for it, for people.
	Evidence []string
	// Sample is what was read; nil if that was not tried.
	Sample *Sample
}

// Scores of matches.
const (
	scoreProven    = 95 // the device says that it is of this kind
	scoreSpeaks    = 85 // it speaks the standard that the definition follows
	scorePlausible = 30 // what is read by the definition can be
)

// Detect looks what is at an address. It only reads, and asks one thing at a time. The best match comes first; all that
// fit are returned. An error that is no ErrNotDetected means that nobody could be asked.
func Detect(ctx context.Context, c DetectConfig) ([]Match, error) {
	if c.Listen <= 0 {
		c.Listen = 15 * time.Second
	}
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	c.Config = c.withDefaults()
	all, err := def.Load(c.DefinitionsDir)
	if err != nil {
		return nil, err
	}
	name, _, _ := strings.Cut(c.Address, ":")
	var matches []Match
	switch name {
	case "mqtt", "mqtts":
		matches, err = detectBroker(ctx, c, all, name)
	case "tcp", "tcp+tls", "rtu", "rtu+tcp":
		matches, err = detectModbus(ctx, c, all)
	default:
		matches, err = detectByReading(ctx, c, all, name)
	}
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(matches, func(a, b Match) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Unit, b.Unit), cmp.Compare(a.Definition.ID, b.Definition.ID), cmp.Compare(a.Address, b.Address))
	})
	return matches, nil
}

// detectByReading reads by each definition that has an address of this form: a P1 port, a web server.
func detectByReading(ctx context.Context, c DetectConfig, all []Definition, name string) ([]Match, error) {
	var matches []Match
	var failed []error
	tried := 0
	for _, d := range all {
		s, a, err := parseAddress(c.Address, d)
		if err != nil {
			if slices.ContainsFunc(schemes(), func(s scheme) bool { return s.name == name && s.serves(d) }) {
				return nil, err // the form is right, the address is not
			}
			continue
		}
		tried++
		c.Progress("trying " + d.ID)
		sample, err := readOnce(ctx, c, s, a, d)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			if unreachable(err) {
				return nil, err
			}
			failed = append(failed, err)
			continue
		}
		if sample.ImportWh == nil && sample.ExportWh == nil {
			failed = append(failed, fmt.Errorf("meter %s: %w", d.ID, ErrUnknown))
			continue
		}
		matches = append(matches, Match{
			Definition: d, Address: c.Address, Identity: sample.Identity, Score: scoreSpeaks, Sample: &sample,
			Evidence: []string{"its answer has what the definition looks for: " + counters(sample)},
		})
	}
	if tried == 0 {
		return nil, &ConfigError{Field: "address", Got: withoutUser(c.Address), Want: "an address such as " + strings.Join(Examples(), ", ")}
	}
	if len(matches) == 0 {
		return nil, fmt.Errorf("%w (%w)", ErrNotDetected, errors.Join(failed...))
	}
	return matches, nil
}

func readOnce(ctx context.Context, c DetectConfig, s scheme, a address, d Definition) (Sample, error) {
	source, err := s.open(c.Config, d, a) //nolint:contextcheck // it lives until Close below
	if err != nil {
		return Sample{}, err
	}
	wait := c.Listen
	if !source.Push() && c.Timeout > 0 {
		wait = c.Timeout
	}
	once, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	sample, err := source.Read(once)
	return sample, errors.Join(err, source.Close())
}

// unreachable tells the errors that every other attempt would meet too.
func unreachable(err error) bool {
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Op == "dial" {
		return true
	}
	path := (*fs.PathError)(nil)
	mistake := (*ConfigError)(nil)
	return errors.As(err, &path) || errors.As(err, &mistake) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}

// counters is what a sample says, for people.
func counters(s Sample) string {
	var parts []string
	for _, c := range []struct {
		name string
		wh   *uint64
	}{{"import", s.ImportWh}, {"export", s.ExportWh}} {
		if c.wh != nil {
			parts = append(parts, fmt.Sprintf("%s %d Wh", c.name, *c.wh))
		}
	}
	if s.PowerW != nil {
		parts = append(parts, fmt.Sprintf("power %d W", *s.PowerW))
	}
	if len(parts) == 0 {
		return "no value"
	}
	return strings.Join(parts, ", ")
}
