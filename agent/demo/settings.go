package demo

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/p2p"
)

const simulatorConfig = "firmware-sim.yaml"

// writeSimulator writes the physical world: the same for every start, but for ports
// and the broker.
func (s *street) writeSimulator() error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Written by `commonwatt demo` at every start.\n")
	fmt.Fprintf(&b, "clock: {epoch: %s, start: %s, rate: %d}\n",
		s.plan.From.Format(time.RFC3339Nano), s.plan.Start.Format(time.RFC3339Nano), s.plan.Rate)
	fmt.Fprintf(&b, "interval: %s\nrefresh: %s\nseed: 42\nweather: {cloudiness: 0.4}\n", intervalLength, s.plan.pace().refresh())
	fmt.Fprintf(&b, "modbus: {listen: %s}\n", s.ports.at(portsSim))
	if s.opt.Broker != "" {
		fmt.Fprintf(&b, "mqtt: {broker: %q}\n", s.opt.Broker)
	} else {
		fmt.Fprintf(&b, "mqtt: {listen: %s}\n", s.ports.at(portsSim+1))
	}
	fmt.Fprintf(&b, "control: {listen: %s}\njournal: inverters.journal\nhomes:\n", s.ports.at(portsSim+2))
	for _, h := range s.plan.Homes {
		s.writeSimulatedHome(&b, h)
	}
	return os.WriteFile(filepath.Join(s.opt.Dir, simulatorConfig), []byte(b.String()), 0o600)
}

func (s *street) writeSimulatedHome(b *strings.Builder, h home) {
	fmt.Fprintf(b, "  - id: %s\n", h.Name)
	if h.LoadCSV != "" {
		fmt.Fprintf(b, "    load: {csv: %q}\n", h.LoadCSV)
	} else {
		fmt.Fprintf(b, "    load: {model: household, yearly_kwh: %d}\n", h.YearlyKWh)
	}
	if h.SolarCSV != "" {
		fmt.Fprintf(b, "    solar: {kwp: %d, csv: %q}\n", h.SolarKWp, h.SolarCSV)
	} else if h.SolarKWp > 0 {
		fmt.Fprintf(b, "    solar: {kwp: %d, azimuth: %d, tilt: 35}\n", h.SolarKWp, h.Azimuth)
	}
	if h.BatteryKWh > 0 {
		fmt.Fprintf(b, "    battery: {kwh: %d, kw: 4, efficiency: 0.95}\n", h.BatteryKWh)
	}
	fmt.Fprintf(b, "    devices:\n")
	for _, d := range h.Devices {
		role := d.Role
		if role == household.RoleConnection {
			role = "grid" // what firmware-sim calls it
		}
		fmt.Fprintf(b, "      - {role: %s, definition: %s", role, d.Definition)
		if d.Topic != "" {
			fmt.Fprintf(b, ", topic: %q", d.Topic)
		} else {
			fmt.Fprintf(b, ", unit: %d", d.Unit)
		}
		if d.Definition == "commonwatt-signed" {
			fmt.Fprintf(b, ", key: %q", h.keyFile(s.opt.Dir))
		}
		fmt.Fprintf(b, "}\n")
	}
}

// writeAgents writes every home's agent.yaml: the ports of this start, and how to
// reach the others and the meters.
func (s *street) writeAgents() error {
	var addresses []string
	for i, h := range s.plan.Homes {
		keys, err := household.LoadKeys(h.dir(s.opt.Dir))
		if err != nil {
			return err
		}
		id, err := p2p.IDOf(keys.Network.Public().(ed25519.PublicKey))
		if err != nil {
			return err
		}
		addresses = append(addresses, fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1/p2p/%s", s.ports.network(i), id))
	}
	for i, h := range s.plan.Homes {
		c := household.Config{
			Name: h.Name, Role: h.role(), Log: "info", Clock: household.ClockTrusted, Access: household.AccessOpen,
			Listen: household.ListenConfig{API: s.ports.api(i), Network: []string{
				fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", s.ports.network(i)),
				fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", s.ports.network(i)),
			}},
			Peers: household.PeersConfig{Bootstrap: others(addresses, i)},
		}
		for _, d := range h.Devices {
			m := household.MeterConfig{Role: d.Role, Definition: d.Definition, Unit: d.Unit, Address: "tcp://" + s.ready.Modbus}
			if d.Topic != "" {
				m.Address = "mqtt://" + s.ready.MQTT + "/" + d.Topic
			}
			c.Meters = append(c.Meters, m)
			if d.Definition == inverter && s.plan.Battery != "" {
				c.Controls = append(c.Controls, household.ControlConfig{
					Definition: d.Definition, Address: m.Address, Unit: d.Unit, Mode: s.plan.Battery,
					ReservePercent: 5, CapacityWh: int64(h.BatteryKWh) * 1000,
				})
			}
		}
		if err := household.WriteConfig(h.dir(s.opt.Dir), c); err != nil {
			return err
		}
	}
	return nil
}

// others is the list without the home's own entry.
func others(list []string, i int) []string {
	out := append([]string(nil), list[:i]...)
	return append(out, list[i+1:]...)
}
