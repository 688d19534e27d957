// Package scenario reads scenario files: a street and what goes wrong in it, as
// data. A file has these keys, and no others:
//
//	street: ../street.yaml      # a configuration, relative to this file; or
//	config: {…}                 # the same keys here; or neither, if the command line names one
//	seed: 7                     # another seed, other chances
//	faults:
//	  - fault: zero-bounce      # a name of firmware-sim --list
//	    home: home-1            # left out: every home; so with role and transport
//	    role: grid
//	    at: 2026-06-22T10:00:00Z
//	    for: 6m
//	  - {fault: drop, after: 2h, every: 6h, for: 10m, probability: 0.5, share: 0.2, transport: modbus-rtu}
//	  - {fault: jump, after: 26h, for: 3m, parameters: {by_wh: 50000, counter: import}}
//
// after counts from the street's epoch. All mistakes are reported at once, each
// with file and line. A file is at most 1 MiB with at most 1000 faults.
package scenario

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/commonwatt/commonwatt/firmware-sim/config"
	"github.com/commonwatt/commonwatt/firmware-sim/fault"
)

// Scenario is a file that was read. Its rules are checked when a street is there:
// see Load.
type Scenario struct {
	Seed  uint64
	Rules []fault.Rule

	street   string // file; "": none is named
	config   *config.Config
	document *config.Document
}

// file is what stands in one.
type file struct {
	Street string        `yaml:"street"`
	Config config.Config `yaml:"config"`
	Seed   uint64        `yaml:"seed"`
	Faults []fault.Rule  `yaml:"faults"`
}

const maxFaults = 1000

// ErrNoStreet is returned for a scenario without a street where none was named.
var ErrNoStreet = errors.New("the scenario has no street: give it street or config, or name a configuration")

// Read reads a file. An error about its content is a config.Problems.
func Read(name string, kinds config.Kinds) (*Scenario, error) {
	data, err := config.Read(name)
	if err != nil {
		return nil, fmt.Errorf("opening the scenario: %w", err)
	}
	return Parse(name, data, kinds)
}

// Parse checks a file's content; the name is for messages and relative paths.
func Parse(name string, data []byte, kinds config.Kinds) (*Scenario, error) {
	f := file{Config: *config.Default()}
	d := config.Decode(name, data, &f)
	if d.Err() == nil && d.Has("street") && d.Has("config") {
		d.Report("config", "want either street or config")
	}
	if len(f.Faults) > maxFaults {
		d.Report("faults", "got %d, want at most %d", len(f.Faults), maxFaults)
	}
	s := &Scenario{Seed: f.Seed, Rules: f.Faults, document: d}
	if d.Has("config") {
		d.Check("config.", &f.Config, kinds)
		s.config = &f.Config
	}
	if f.Street != "" {
		s.street = f.Street
		if !filepath.IsAbs(s.street) {
			s.street = filepath.Join(filepath.Dir(name), s.street)
		}
	}
	return s, d.Err()
}

// Config is the scenario's own street.
func (s *Scenario) Config(kinds config.Kinds) (*config.Config, error) {
	switch {
	case s.config != nil:
		return s.config, nil
	case s.street != "":
		return config.ReadFile(s.street, kinds)
	default:
		return nil, ErrNoStreet
	}
}

// Load starts all rules in a book, of a street whose epoch is given. An error
// about a rule is a config.Problems, with the rule's line.
func (s *Scenario) Load(book *fault.Book, c *config.Config) error {
	for i, r := range s.Rules {
		_, err := book.Start(r, c.Clock.Epoch)
		key := fmt.Sprintf("faults[%d]", i)
		if p, ok := errors.AsType[fault.Problem](err); ok {
			s.document.Report(key+"."+p.Key, "%s", p.Message)
		} else if err != nil {
			s.document.Report(key, "%v", err)
		}
	}
	return s.document.Err()
}
