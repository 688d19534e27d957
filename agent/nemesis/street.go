package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/p2p"
)

const (
	roleLight = household.RoleLight

	intervalLength = 15 * time.Minute
	// The counters go on in the middle of an interval: a reading a little late is the boundary's.
	refresh   = intervalLength / 2
	tolerance = refresh - time.Second
	// reportDeadline lets a report be late by longer than any fault keeps it.
	reportDeadline = 8 * time.Hour

	networkPort = 4001
	modbusPort  = 1502
	mqttPort    = 1883
	controlPage = "http://127.0.0.1:8090"
)

// begin is the street's community time at the start: late in the morning of a long day.
var begin = time.Date(2026, time.June, 21, 8, 0, 0, 0, time.UTC)

// layout is who lives in the street. Who has the sun orders offers, the others order bids.
var layout = []struct {
	role  string
	solar int // kWp
	mqtt  bool
}{
	{household.RoleValidator, 9, false},
	{household.RoleValidator, 0, true},
	{household.RoleValidator, 0, false},
	{household.RoleValidator, 0, true},
	{household.RoleReplica, 7, false},
	{household.RoleLight, 0, true},
}

// found makes the street's folders and namespaces.
func (r *rig) found(ctx context.Context) error {
	rules := ledger.DefaultRules()
	rules.ReadingToleranceS = int64(tolerance / time.Second)
	rules.ReportDeadlineS = int64(reportDeadline / time.Second)
	rules.CommunityFee = 5_000
	r.start = time.Now().UTC().Truncate(time.Millisecond)
	r.rate = int64(intervalLength / r.opt.pace())
	r.prices = prices{retail: 310_000, feedIn: 79_000, fee: 5_000}
	f := household.Founding{
		Name: "sim-nemesis", Dir: filepath.Join(r.dir, "cooperative"), Epoch: begin, Start: r.start, Rate: r.rate, Rules: rules,
		MeterOf: r.meterKey,
		Network: []ledger.Node{
			{ID: ledger.RootNode},
			{ID: "street", Parent: ledger.RootNode, ImportFee: 10_000, ExportFee: 1_000},
		},
	}
	if err := newBridge(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(r.dir, "logs"), 0o700); err != nil {
		return err
	}
	for i, l := range layout {
		h := &home{name: fmt.Sprintf("home-%d", i+1), number: i + 1, role: l.role, solar: l.solar}
		if err := r.insertCard(h); err != nil {
			return err
		}
		h.logFile = filepath.Join(r.dir, "logs", h.name+".log")
		d, err := meter.FindDefinition("", definitionOf(l.mqtt))
		if err != nil {
			return err
		}
		signed := ledger.SignedByAgent
		if l.mqtt {
			signed = ledger.SignedByDevice
		}
		f.Homes = append(f.Homes, household.Founder{
			Name: h.name, Dir: h.dir, Validator: l.role == household.RoleValidator, Node: "street",
			Meter: ledger.RegisterMeter{SignedBy: signed, Definition: d.Source()},
		})
		if h.space, err = newSpace(ctx, h.name, i+1); err != nil {
			return err
		}
		r.homes = append(r.homes, h)
	}
	var err error
	if r.world.space, err = newSpace(ctx, "world", 100); err != nil {
		return err
	}
	r.world.logFile = filepath.Join(r.dir, "logs", "firmware-sim.log")
	if err := household.Found(f); err != nil {
		return err
	}
	return r.configure(f.Name)
}

// definitionOf is a meter that is asked, or one that speaks by itself. The latter says when it read, and signs that: the
// street's time is fast and its lines are not, so a message that waited in a pipe would be of another boundary.
func definitionOf(mqtt bool) string {
	if mqtt {
		return "commonwatt-signed"
	}
	return "eastron-sdm630"
}

// keyOfMeter is the file with the key inside a home's meter.
func (r *rig) keyOfMeter(home string) string { return filepath.Join(r.dir, "meters", home+".key") }

// meterKey makes the key inside a meter that signs, and returns its public half; nil for one that does not.
func (r *rig) meterKey(f household.Founder) (ed25519.PublicKey, error) {
	if f.Meter.SignedBy != ledger.SignedByDevice {
		return nil, nil
	}
	file := r.keyOfMeter(f.Name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	if err := household.CreateKey(file); err != nil {
		return nil, err
	}
	key, err := household.LoadKey(file)
	if err != nil {
		return nil, err
	}
	return key.Public().(ed25519.PublicKey), nil
}

// configure writes each home's agent.yaml, and learns its keys.
func (r *rig) configure(chain string) error {
	var reached []string
	for _, h := range r.homes {
		keys, err := household.LoadKeys(h.dir)
		if err != nil {
			return err
		}
		id, err := p2p.IDOf(keys.Network.Public().(ed25519.PublicKey))
		if err != nil {
			return err
		}
		h.id, h.signer = keys.ID().String(), signer{chain: chain, id: keys.ID(), device: keys.Device}
		reached = append(reached, fmt.Sprintf("/ip4/%s/udp/%d/quic-v1/p2p/%s", h.space.ip, networkPort, id))
	}
	for i, h := range r.homes {
		m := household.MeterConfig{Role: household.RoleConnection, Definition: definitionOf(layout[i].mqtt)}
		if layout[i].mqtt {
			m.Address = fmt.Sprintf("mqtt://%s:%d/%s", r.world.space.ip, mqttPort, h.name)
		} else {
			m.Address, m.Unit = fmt.Sprintf("tcp://%s:%d", r.world.space.ip, modbusPort), uint8(h.number) //nolint:gosec // a handful
		}
		c := household.Config{
			Name: h.name, Role: h.role, Log: "info", Clock: household.ClockTrusted, Access: household.AccessOpen,
			Listen: household.ListenConfig{API: strings.TrimPrefix(pageOf, "http://"), Network: []string{
				fmt.Sprintf("/ip4/%s/tcp/%d", h.space.ip, networkPort),
				fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", h.space.ip, networkPort),
			}},
			Meters: []household.MeterConfig{m},
		}
		for n, address := range reached {
			if n != i {
				c.Peers.Bootstrap = append(c.Peers.Bootstrap, address)
			}
		}
		if err := household.WriteConfig(h.dir, c); err != nil {
			return err
		}
	}
	return nil
}

// simulate starts firmware-sim, and waits until it listens.
func (r *rig) simulate(ctx context.Context) error {
	var b strings.Builder
	fmt.Fprintf(&b, "clock: {epoch: %s, start: %s, rate: %d}\n", begin.Format(time.RFC3339Nano), r.start.Format(time.RFC3339Nano), r.rate)
	fmt.Fprintf(&b, "interval: %s\nrefresh: %s\nseed: %d\nweather: {cloudiness: 0.3}\n", intervalLength, refresh, r.opt.seed)
	fmt.Fprintf(&b, "modbus: {listen: %[1]s:%[2]d}\nmqtt: {listen: %[1]s:%[3]d}\ncontrol: {listen: %[4]s}\nhomes:\n",
		r.world.space.ip, modbusPort, mqttPort, strings.TrimPrefix(controlPage, "http://"))
	for i, h := range r.homes {
		fmt.Fprintf(&b, "  - id: %s\n    load: {model: household, yearly_kwh: %d}\n", h.name, 3000+700*i)
		if h.solar > 0 {
			fmt.Fprintf(&b, "    solar: {kwp: %d, azimuth: 180, tilt: 35}\n", h.solar)
		}
		if layout[i].mqtt {
			fmt.Fprintf(&b, "    devices: [{role: grid, definition: %s, topic: %s, key: %q}]\n", definitionOf(true), h.name, r.keyOfMeter(h.name))
		} else {
			fmt.Fprintf(&b, "    devices: [{role: grid, definition: %s, unit: %d}]\n", definitionOf(false), h.number)
		}
	}
	file := filepath.Join(r.dir, "firmware-sim.yaml")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return err
	}
	if err := r.world.begin(nil, filepath.Join(r.opt.programs, "firmware-sim"), "run", "--config", file); err != nil {
		return err
	}
	return await(ctx, readyTimeout, "firmware-sim listens", func() bool {
		return ask(ctx, r.world.space.client, "GET", controlPage+"/homes", nil, nil) == nil
	})
}

// counted is what a home's own meter counted up to an instant.
func (r *rig) counted(ctx context.Context, h *home, at time.Time) (imported, exported int64, err error) {
	var c struct {
		Import int64 `json:"import_wh"`
		Export int64 `json:"export_wh"`
	}
	err = ask(ctx, r.world.space.client, "GET", fmt.Sprintf("%s/homes/%s/counters?role=grid&at=%s", controlPage, h.name, at.Format(time.RFC3339)), nil, &c)
	return c.Import, c.Export, err
}

// community is the street's time at an instant of the wall clock, wall the other way round.
func (r *rig) community(t time.Time) time.Time {
	return begin.Add(t.Sub(r.start) * time.Duration(r.rate))
}

func (r *rig) wall(t time.Time) time.Time {
	return r.start.Add(t.Sub(begin) / time.Duration(r.rate))
}

// intervalAt is the one that an instant of community time is in.
func intervalAt(t time.Time) int64 { return t.Unix() / int64(intervalLength/time.Second) }

func startOf(interval int64) time.Time {
	return time.Unix(interval*int64(intervalLength/time.Second), 0).UTC()
}

// gateOf is the last instant at which an order for an interval is taken.
func gateOf(interval int64) time.Time {
	return startOf(interval).Add(-time.Duration(ledger.DefaultRules().LeadS) * time.Second)
}

// lastLines shows the end of each log, for a run that could not go on.
func (r *rig) lastLines(to io.Writer) {
	for _, h := range r.homes {
		raw, err := os.ReadFile(h.logFile)
		if err != nil {
			continue
		}
		fmt.Fprintf(to, "the last of %s:\n", h.logFile)
		var lines []string
		for s := bufio.NewScanner(strings.NewReader(string(raw))); s.Scan(); {
			lines = append(lines, s.Text())
		}
		for _, l := range lines[max(0, len(lines)-5):] {
			fmt.Fprintf(to, "  %s\n", l)
		}
	}
}

// writeJSON appends one line to a file, and returns when it is on the disk.
func writeJSON(f *os.File, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(raw, '\n')); err != nil {
		return err
	}
	return f.Sync()
}
