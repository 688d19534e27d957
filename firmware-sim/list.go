package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/fault"
	"github.com/commonwatt/commonwatt/firmware-sim/wire"
)

// catalogue is all that firmware-sim can be and do wrong.
type catalogue struct {
	Transports []listedTransport `json:"transports"`
	Devices    []listedDevice    `json:"devices"`
	Faults     []listedFault     `json:"faults"`
}

type listedTransport struct {
	Name     wire.Transport `json:"name"`
	Sentence string         `json:"sentence"`
}

type listedDevice struct {
	Name      string   `json:"name"`
	Sentence  string   `json:"sentence"`
	Protocols []string `json:"protocols"`
	Versions  []string `json:"versions,omitempty"`
	Signs     bool     `json:"signs,omitempty"`
	Obeys     bool     `json:"obeys,omitempty"`
}

type listedFault struct {
	Name       string            `json:"name"`
	Sentence   string            `json:"sentence"`
	Transports []wire.Transport  `json:"transports"` // empty: it is in the device, and strikes all
	Devices    string            `json:"devices,omitempty"`
	Lasting    bool              `json:"lasting"`
	Parameters []listedParameter `json:"parameters"`
}

type listedParameter struct {
	Name     string   `json:"name"`
	Sentence string   `json:"sentence"`
	Default  string   `json:"default"`
	Low      string   `json:"low,omitempty"`
	High     string   `json:"high,omitempty"`
	Choices  []string `json:"choices,omitempty"`
}

func newCatalogue() catalogue {
	var c catalogue
	for _, row := range wire.Transports() {
		c.Transports = append(c.Transports, listedTransport{row.Transport, row.Sentence})
	}
	for _, id := range device.Kinds() {
		kind, _ := device.Lookup(id)
		d := listedDevice{
			Name: id, Sentence: kind.Sentence, Protocols: []string{string(kind.Protocol)},
			Versions: kind.Versions, Signs: kind.Signs, Obeys: kind.Obeys(),
		}
		if kind.Pages {
			d.Protocols = append(d.Protocols, string(device.HTTP))
		}
		c.Devices = append(c.Devices, d)
	}
	for _, kind := range fault.Kinds() {
		f := listedFault{
			Name: kind.Name, Sentence: kind.Sentence, Transports: kind.Transports, Devices: kind.OnlySentence, Lasting: kind.Lasting,
			Parameters: []listedParameter{},
		}
		if f.Transports == nil {
			f.Transports = []wire.Transport{}
		}
		for _, p := range kind.Parameters {
			f.Parameters = append(f.Parameters, listedParameter{p.Name, p.Sentence, p.Default, p.Low, p.High, p.Choices})
		}
		c.Faults = append(c.Faults, f)
	}
	return c
}

// list writes the catalogue for people or programs.
func list(w io.Writer, format string) error {
	c := newCatalogue()
	switch format {
	case "json":
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(c)
	case "table":
		return c.table(w)
	default:
		return usageError{fmt.Errorf("--output: got %.20q, want table or json", format)}
	}
}

func (c catalogue) table(w io.Writer) error {
	var b strings.Builder
	b.WriteString("Transports\n")
	for _, t := range c.Transports {
		fmt.Fprintf(&b, "  %-20s %s\n", t.Name, t.Sentence)
	}
	b.WriteString("\nDevices\n")
	for _, d := range c.Devices {
		fmt.Fprintf(&b, "  %-20s %s (%s)\n", d.Name, d.Sentence, strings.Join(d.Protocols, ", "))
	}
	b.WriteString("\nFaults\n")
	for _, f := range c.Faults {
		fmt.Fprintf(&b, "  %-20s %s\n", f.Name, f.Sentence)
		where := "in the device, on every transport"
		if len(f.Transports) > 0 {
			where = "on " + joined(f.Transports)
		}
		if f.Devices != "" {
			where += "; " + f.Devices
		}
		if f.Lasting {
			where += "; lasting"
		}
		fmt.Fprintf(&b, "  %-20s   %s\n", "", where)
		for _, p := range f.Parameters {
			bounds := strings.Join(p.Choices, ", ")
			if bounds == "" {
				bounds = p.Low + " to " + p.High
			}
			fmt.Fprintf(&b, "  %-20s   %s=%s: %s (%s)\n", "", p.Name, p.Default, p.Sentence, bounds)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func joined(list []wire.Transport) string {
	var names []string
	for _, t := range list {
		names = append(names, string(t))
	}
	return strings.Join(names, ", ")
}
