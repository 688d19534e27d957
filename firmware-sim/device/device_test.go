package device

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
	"github.com/commonwatt/commonwatt/meter"
)

// sample is a home that exports, with counters that are not whole Wh.
var sample = Reading{
	Index: 9_890_000, At: time.Date(2026, 6, 21, 10, 0, 0, 0, time.UTC),
	Import: 1_234_567_899, Export: 987_654_050, Power: -1_832_499,
}

func newDevice(t *testing.T, id string, s Spec) Device {
	t.Helper()
	kind, ok := Lookup(id)
	if !ok {
		t.Fatalf("no %s", id)
	}
	d, err := kind.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func readRegisters(t *testing.T, d Device, r Reading, table modbus.Table, address, count uint16) []uint16 {
	t.Helper()
	registers, err := d.(RegisterDevice).Registers(r, table, address, count)
	if err != nil {
		t.Fatal(err)
	}
	return registers
}

func float(words []uint16) float32 {
	return math.Float32frombits(uint32(words[0])<<16 | uint32(words[1]))
}

func TestSDM630(t *testing.T) {
	d := newDevice(t, "eastron-sdm630", Spec{Serial: 20_123_456, Unit: 7})
	input := func(address uint16) float32 { return float(readRegisters(t, d, sample, modbus.Input, address, 2)) }
	for address, want := range map[uint16]float32{
		0x0034: -1832.499, // total power, W
		0x0048: 1234.567,  // import, kWh: the Wh that are full
		0x004A: 987.654,   // export
		0x0156: 2222.221,  // total
	} {
		if got := input(address); got != want {
			t.Errorf("register %#x: got %v, want %v", address, got, want)
		}
	}
	var watts float32
	for p := range uint16(3) {
		watts += input(0x000C + 2*p)
		if volts := input(2 * p); volts < 220 || volts > 240 {
			t.Errorf("phase %d has %v V", p+1, volts)
		}
	}
	if math.Abs(float64(watts)+1832.499) > 0.01 {
		t.Errorf("phases give %v W", watts)
	}
	if hertz := input(0x0046); hertz < 49.9 || hertz > 50.1 {
		t.Errorf("%v Hz", hertz)
	}
	if got := readRegisters(t, d, sample, modbus.Holding, 0xFC00, 3); uint32(got[0])<<16|uint32(got[1]) != 20_123_456 || got[2] != 0x70 {
		t.Errorf("identity is %x", got)
	}
	if got := float(readRegisters(t, d, sample, modbus.Holding, 0x14, 2)); got != 7 {
		t.Errorf("node address is %v", got)
	}
	for _, c := range []struct {
		table          modbus.Table
		address, count uint16
		want           modbus.Exception
	}{
		{modbus.Input, 0, 81, modbus.IllegalDataValue},
		{modbus.Input, 0x017D, 2, modbus.IllegalDataAddress},
		{modbus.Holding, 0xFBFF, 1, modbus.IllegalDataAddress},
		{modbus.Holding, 0xFC03, 2, modbus.IllegalDataAddress},
	} {
		if _, err := d.(RegisterDevice).Registers(sample, c.table, c.address, c.count); !errors.Is(err, c.want) {
			t.Errorf("%+v: got %v", c, err)
		}
	}
}

// TestSDM630IsExact: a reader that rounds the float32 kWh to Wh gets what the
// device counted, for every single Wh of the range that is promised.
func TestSDM630IsExact(t *testing.T) {
	d := newDevice(t, "eastron-sdm630", Spec{})
	for wh := range uint64(ExactKilowattHours * 1000) {
		if got := uint64(math.Round(float64(kilowattHours(wh)) * 1000)); got != wh || d.Shown(wh) != wh {
			t.Fatalf("%d Wh is read as %d, shown as %d", wh, got, d.Shown(wh))
		}
	}
	if d.Shown(16_385_001) == 16_385_001 {
		t.Error("a float32 cannot tell these Wh apart")
	}
}

func TestSunSpec(t *testing.T) {
	d := newDevice(t, "sunspec-meter", Spec{Serial: 12345678, Unit: 3})
	registers := slices.Concat(
		readRegisters(t, d, sample, modbus.Holding, 40000, 125),
		readRegisters(t, d, sample, modbus.Holding, 40125, sunSpecLength-125))
	text := func(from, count int) string {
		var b []byte
		for _, w := range registers[from : from+count] {
			b = append(b, byte(w>>8), byte(w))
		}
		return string(bytes.TrimRight(b, "\x00"))
	}
	if got := text(0, 2); got != "SunS" {
		t.Errorf("begins with %q", got)
	}
	got := []any{registers[2], registers[3], text(4, 16), text(52, 16), registers[68], registers[70], registers[71]}
	if diff := cmp.Diff([]any{uint16(1), uint16(66), "Commonwatt", "12345678", uint16(3), uint16(203), uint16(105)}, got); diff != "" {
		t.Errorf("headers: %s", diff)
	}
	m := registers[70:]
	if power, factor := int16(m[18]), int16(m[22]); power != -1832 || factor != 0 {
		t.Errorf("power %d, scale factor %d", power, factor)
	}
	if sum := int16(m[19]) + int16(m[20]) + int16(m[21]); sum < -1834 || sum > -1831 {
		t.Errorf("phases give %d W", sum)
	}
	long := func(at int) uint32 { return uint32(m[at])<<16 | uint32(m[at+1]) }
	if long(38) != 987_654 || long(46) != 1_234_567 || m[54] != 0 {
		t.Errorf("exported %d, imported %d, scale factor %d", long(38), long(46), m[54])
	}
	if m[71] != 0x8000 || m[104] != 0x8000 {
		t.Error("apparent and reactive energies are not implemented, their scale factors should say so")
	}
	if end := registers[len(registers)-2:]; end[0] != 0xFFFF || end[1] != 0 {
		t.Errorf("ends with %x", end)
	}

	strong := sample
	strong.Power = 45_678_000
	m = readRegisters(t, d, strong, modbus.Holding, 40070, 56)
	if power, factor := int16(m[18]), int16(m[22]); power != 4568 || factor != 1 {
		t.Errorf("45678 W is %d with scale factor %d", power, factor)
	}
	strong.Import = home.MilliWattHours(1<<32+5) * 1000
	if got := d.Shown(strong.ImportWh()); got != 5 {
		t.Errorf("after 2^32 Wh the counter shows %d", got)
	}
	if _, err := d.(RegisterDevice).Registers(sample, modbus.Input, 40000, 1); !errors.Is(err, modbus.IllegalDataAddress) {
		t.Errorf("input register: got %v", err)
	}
}

func messagesOf(t *testing.T, d Device, r Reading) []Message {
	t.Helper()
	messages, err := d.(Publisher).Messages(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

func TestTasmota(t *testing.T) {
	d := newDevice(t, "tasmota", Spec{Serial: 0xABCDEF, Topic: "home-2"})
	want := []Message{{
		Topic:   "tele/home-2/SENSOR",
		Payload: []byte(`{"Time":"2026-06-21T10:00:00","SML":{"Total_in":1234.5678,"Total_out":987.6540,"Power_curr":-1832,"Meter_Id":"0a01454d480000abcdef"}}`),
	}}
	if diff := cmp.Diff(want, messagesOf(t, d, sample)); diff != "" {
		t.Error(diff)
	}
	p := d.(Publisher)
	if diff := cmp.Diff([]Message{
		{Topic: "tele/home-2/LWT", Payload: []byte("Online"), Retain: true, QoS: 1},
		{Topic: "tele/home-2/LWT", Payload: []byte("Offline"), Retain: true, QoS: 1},
	}, []Message{p.Birth(), p.Will()}); diff != "" {
		t.Error(diff)
	}
}

func TestShelly(t *testing.T) {
	d := newDevice(t, "shelly-gen2", Spec{Topic: "shelly-home-3"})
	messages := messagesOf(t, d, sample)
	if len(messages) != 2 || messages[0].Topic != "shelly-home-3/status/em:0" || messages[1].Topic != "shelly-home-3/status/emdata:0" {
		t.Fatalf("got %v", messages)
	}
	var power, energy map[string]any
	for i, into := range []*map[string]any{&power, &energy} {
		decoder := json.NewDecoder(bytes.NewReader(messages[i].Payload))
		decoder.UseNumber()
		if err := decoder.Decode(into); err != nil {
			t.Fatalf("%s: %v", messages[i].Payload, err)
		}
		if messages[i].Retain {
			t.Errorf("%s is retained", messages[i].Topic)
		}
	}
	got := []any{power["id"], power["total_act_power"], energy["id"], energy["total_act"], energy["total_act_ret"]}
	want := []any{json.Number("0"), json.Number("-1832.499"), json.Number("0"), json.Number("1234567.89"), json.Number("987654.05")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if p := d.(Publisher); string(p.Birth().Payload) != "true" || string(p.Will().Payload) != "false" || p.Will().Topic != "shelly-home-3/online" {
		t.Error("availability")
	}
}

// TestDecimal: a decimal read back exactly gives the counter, cut to its digits.
func TestDecimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := home.MilliWattHours(rapid.Int64Range(0, 1<<50).Draw(t, "counter"))
		kwh := string(decimal(e, 6, 4))
		whole, fraction := kwh[:len(kwh)-5], kwh[len(kwh)-4:]
		back, err := json.Number(whole + fraction).Int64()
		if err != nil || home.MilliWattHours(back) != e/100 {
			t.Fatalf("%d mWh is %s kWh", e, kwh)
		}
	})
}

// chainReadings gives made-up readings from a first refresh on.
type chainReadings struct{ first int64 }

func (c chainReadings) First() int64 { return c.first }

func (c chainReadings) Walk(_ context.Context, from, to int64, each func(Reading)) error {
	for i := from; i <= to; i++ {
		n := home.MilliWattHours(i - c.first)
		each(Reading{Index: i, At: time.UnixMilli(i * 180_000).UTC(), Import: n * n * 777_777, Export: 5000 + n*23_456, Power: home.MilliWatts(n) - 100})
	}
	return nil
}

// TestSignedChain reads the hand-written bytes with room meter's own reader: a
// device and its reader that were written apart.
func TestSignedChain(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	readings := chainReadings{first: 9_890_000}
	spec := Spec{Topic: "home-4", Key: key, Readings: readings}
	d := newDevice(t, "commonwatt-signed", spec)
	at := func(d Device, index int64) (string, meter.Reading) {
		t.Helper()
		var r Reading
		if err := readings.Walk(t.Context(), index, index, func(x Reading) { r = x }); err != nil {
			t.Fatal(err)
		}
		messages := messagesOf(t, d, r)
		if len(messages) != 1 || messages[0].Topic != "commonwatt/home-4/reading" || messages[0].Retain {
			t.Fatalf("got %v", messages)
		}
		proof, err := meter.DecodeSigned(messages[0].Payload)
		if err != nil {
			t.Fatalf("%s: %v", messages[0].Payload, err)
		}
		if *proof.Reading.ImportWh != r.ImportWh() || *proof.Reading.ExportWh != r.ExportWh() || !proof.Reading.At.Equal(r.At) {
			t.Fatalf("signed %+v of %+v", proof.Reading, r)
		}
		return string(messages[0].Payload), proof.Reading
	}
	var before meter.Reading
	var payloads []string
	for i := range int64(300) {
		payload, r := at(d, readings.first+i)
		want := [32]byte{}
		if i > 0 {
			want = before.Hash()
		}
		if r.Seq != uint64(i)+1 || r.Prev != want {
			t.Fatalf("reading %d has number %d and names %x, want %x", i, r.Seq, r.Prev, want)
		}
		before = r
		payloads = append(payloads, payload)
	}
	again := newDevice(t, "commonwatt-signed", spec) // after a restart, far in
	for _, i := range []int64{299, 299, 130, 131, 0} {
		if payload, _ := at(again, readings.first+i); payload != payloads[i] {
			t.Errorf("reading %d differs after a restart", i)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newDevice(t, "commonwatt-signed", spec).(Publisher).Messages(ctx, Reading{Index: readings.first + 500}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// TestKinds: what a kind's row says is what the device is.
func TestKinds(t *testing.T) {
	for _, id := range Kinds() {
		kind, _ := Lookup(id)
		spec := Spec{Topic: "x", Readings: chainReadings{}, Counted: chainReadings{}, Rating: Rating{Output: 1, Battery: 1, Capacity: 1}}
		if kind.Signs {
			if _, err := kind.New(spec); err == nil {
				t.Errorf("%s was made without a key", id)
			}
			spec.Key = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
		}
		d := newDevice(t, id, spec)
		if _, obeys := d.(Inverter); obeys != kind.Obeys() {
			t.Errorf("%s: obeys: %t, want %t", id, obeys, kind.Obeys())
		} else if obeys {
			continue
		}
		_, registers := d.(RegisterDevice)
		_, publishes := d.(Publisher)
		_, telegraphs := d.(Telegrapher)
		_, pages := d.(Pager)
		if registers != (kind.Protocol == Modbus) || publishes != (kind.Protocol == MQTT) || telegraphs != (kind.Protocol == P1) ||
			pages != (kind.Pages || kind.Protocol == HTTP) {
			t.Errorf("%s: registers %t, publishes %t, telegraphs %t, pages %t, row %+v", id, registers, publishes, telegraphs, pages, kind)
		}
		if kind.Sentence == "" {
			t.Errorf("%s has no sentence", id)
		}
		for _, version := range kind.Versions {
			spec.Version = version
			newDevice(t, id, spec)
		}
		spec.Version = "0"
		if _, err := kind.New(spec); err == nil {
			t.Errorf("%s was made in version 0", id)
		}
	}
}
