package def_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/meter/def"
)

// bank is a device of registers, on which writes do what they say.
type bank map[uint16]uint16

func (b bank) read(_ context.Context, function uint8, address, count uint16) ([]uint16, error) {
	words := make([]uint16, count)
	for i := range words {
		w, ok := b[address+uint16(i)]
		if !ok || function != 3 {
			return nil, def.ErrRefused
		}
		words[i] = w
	}
	return words, nil
}

func (b bank) write(writes []def.Write) {
	for _, w := range writes {
		for i, v := range w.Words {
			b[w.Address+uint16(i)] = v
		}
	}
}

// leadable are the built-in definitions with a part control.
func leadable(t testing.TB) []def.Definition {
	t.Helper()
	all, err := def.Load("")
	if err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(d def.Definition) bool { return d.Control == nil })
	if len(all) < 2 {
		t.Fatalf("got %d definitions with a part control", len(all))
	}
	return all
}

// deviceOf is the device of a definition's first control vector.
func deviceOf(t testing.TB, d def.Definition) bank {
	t.Helper()
	b := bank{}
	for _, r := range d.Control.Tests[0].Registers {
		for i, text := range strings.Fields(r.Words) {
			var w uint16
			for _, c := range text {
				w = w<<4 | uint16(strings.IndexRune("0123456789abcdef", c))
			}
			b[r.Address+uint16(i)] = w
		}
	}
	return b
}

func layOut(t testing.TB, d def.Definition, b bank) (*def.ControlLayout, error) {
	t.Helper()
	survey, err := d.Survey(t.Context(), b.read)
	if err != nil {
		t.Fatal(err)
	}
	return d.LayOutControl(t.Context(), b.read, survey)
}

// What is written is what is read back: the mode, and the power to within one step of the register and never above.
func TestControlReadsBackWhatItWrote(t *testing.T) {
	for _, d := range leadable(t) {
		t.Run(d.ID, func(t *testing.T) {
			b := deviceOf(t, d)
			l, err := layOut(t, d, b)
			if err != nil {
				t.Fatal(err)
			}
			rapid.Check(t, func(rt *rapid.T) {
				before, err := l.Read(t.Context(), b.read)
				if err != nil {
					rt.Fatal(err)
				}
				modes := slices.DeleteFunc(slices.Clone(def.ModesInOrder), func(m string) bool { return !d.CanLead(m) })
				s := def.SetPoint{Mode: rapid.SampledFrom(modes).Draw(rt, "mode"), LeaseS: rapid.Int64Range(1, 4000).Draw(rt, "lease")}
				most := int64(3000)
				for _, m := range []*int64{before.MaxChargeW, before.MaxDischargeW, before.MaxLimitW} {
					if m != nil {
						most = min(most, *m)
					}
				}
				if s.Mode == def.ModeCharge || s.Mode == def.ModeDischarge || s.Mode == def.ModeLimit {
					s.PowerW = rapid.Int64Range(0, most).Draw(rt, "power")
				}
				writes, err := l.Writes(before, s)
				if err != nil {
					rt.Fatal(err)
				}
				b.write(writes)
				after, err := l.Read(t.Context(), b.read)
				if err != nil {
					rt.Fatal(err)
				}
				if !l.Obeys(after, s) {
					rt.Fatalf("the device holds what was written for %v, but does not obey", s)
				}
				if s.PowerW == 0 && s.Mode == def.ModeDischarge {
					return // charging with nothing is the same
				}
				if after.Mode != s.Mode {
					rt.Fatalf("mode: got %q, expected %q", after.Mode, s.Mode)
				}
				step := most/50 + 1
				if s.PowerW > 0 && (after.SetW == nil || *after.SetW > s.PowerW || *after.SetW < s.PowerW-step) {
					rt.Fatalf("power: got %v, expected at most %d and nearly that", after.SetW, s.PowerW)
				}
			})
		})
	}
}

// A device that somebody else leads does not obey us.
func TestControlSeesAnotherHand(t *testing.T) {
	for _, d := range leadable(t) {
		b := deviceOf(t, d)
		l, err := layOut(t, d, b)
		if err != nil {
			t.Fatal(err)
		}
		before, err := l.Read(t.Context(), b.read)
		if err != nil {
			t.Fatal(err)
		}
		mode := def.ModeDischarge
		if !d.CanLead(mode) {
			mode = def.ModeLimit
		}
		ours := def.SetPoint{Mode: mode, PowerW: 1000, LeaseS: 300}
		writes, err := l.Writes(before, ours)
		if err != nil {
			t.Fatal(err)
		}
		b.write(writes)
		theirs := ours
		theirs.PowerW = 500
		if writes, err = l.Writes(before, theirs); err != nil {
			t.Fatal(err)
		}
		b.write(writes)
		after, err := l.Read(t.Context(), b.read)
		if err != nil {
			t.Fatal(err)
		}
		if l.Obeys(after, ours) || !l.Obeys(after, theirs) {
			t.Errorf("%s: the device holds %v %v, expected it to obey the later one only", d.ID, after.Mode, after.SetW)
		}
	}
}

const controlled = `id: x
version: 1
name: X
facts: [https://example.org]
protocol: modbus
max_power_w: 1
modbus: {blocks: [{name: b, function: 3, address: 0, count: 2}]}
points:
  power: {block: b, address: 0, type: int16, unit: W}
tests: [{name: t, expect: {quality: good}}]
control:
  points:
    timer: {address: 10, type: uint16, unit: s}
    mode: {address: 11, type: uint16}
    power: {address: 12, type: int16, unit: W}
    told: {function: 4, address: 13, type: int16, unit: W}
  lease: {point: timer, min_s: 1, max_s: 600}
  read: {power: told}
  own: {when: [{point: mode, is: 0}]}
  modes:
    charge: [{point: timer, from: lease}, {point: power, from: power}, {point: mode, value: 1}]
  tests: [{name: t, registers: [], state: {mode: own}}]
`

func TestControlIsStrict(t *testing.T) {
	schema := controlled
	if _, err := def.Parse([]byte(schema)); err != nil {
		schema = "schema: 1\n" + controlled
	}
	if _, err := def.Parse([]byte(schema)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, repl, want string }{
		{"{point: mode, value: 1}", "{point: mode, value: 70000}", "control.modes.charge[2].value: got 70000"},
		{"{point: mode, value: 1}", "{point: told, value: 1}", "control.modes.charge[2].point: got \"told\""},
		{"{point: mode, value: 1}", "{point: nowhere, value: 1}", "control.modes.charge[2].point: got \"nowhere\""},
		{"{point: mode, value: 1}", "{point: mode, value: 1, from: power}", "control.modes.charge[2]: got value and from"},
		{"{point: mode, value: 1}", "{point: mode, from: max-charge}", "control.modes.charge[2].from: got max-charge"},
		{"{point: power, from: power}", "{point: mode, from: power}", "control.modes.charge[1].point"},
		{"{point: timer, from: lease}, ", "", "control.modes.charge: got 0 writes of the lease"},
		{"  lease: {point: timer, min_s: 1, max_s: 600}\n", "", "control.own.write: got none"},
		{"min_s: 1", "min_s: 0", "control.lease: got 0 to 600 s"},
		{"    charge: [", "    follow: [", "control.modes: got \"follow\""},
		{"read: {power: told}", "read: {soc: told}", "control.read.soc: got \"told\""},
		{"when: [{point: mode, is: 0}]", "when: []", "control.own.when: got 0"},
		{"unit: s}", "unit: hours}", "control.points.timer.unit: got \"hours\""},
		{"type: int16, unit: W}\n    told", "type: int16, unit: W, of: mode}\n    told", "control.points.power.of"},
		{"type: int16, unit: W}\n    told", "type: int15, unit: W}\n    told", "control.points.power.type: got \"int15\""},
		{"address: 13,", "address: 13, model: 124,", "control.points.told: got fields of SunSpec"},
		{"{point: mode, is: 0}", "{point: mode, equals: 0}", "unknown key"},
	} {
		text := strings.Replace(schema, c.old, c.repl, 1)
		if text == schema {
			t.Fatalf("%q is not in the definition", c.old)
		}
		_, err := def.Parse([]byte(text))
		if !errors.Is(err, def.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s instead of %s: got %v, expected %q", c.repl, c.old, err, c.want)
		}
	}
}

// FuzzControl: whatever a device holds, its state is within bounds and what is written to it too.
func FuzzControl(f *testing.F) {
	definitions := leadable(f)
	for i := range definitions {
		f.Add(uint8(i), uint16(0), []byte{0, 1, 2, 3})
		f.Add(uint8(i), uint16(150), []byte{0xff, 0xff, 0x80, 0, 0x7f, 0xff, 0xff, 0xff})
	}
	f.Fuzz(func(t *testing.T, which uint8, from uint16, data []byte) {
		d := definitions[int(which)%len(definitions)]
		b := deviceOf(t, d)
		addresses := slices.Sorted(maps.Keys(b))
		for i := 0; i+1 < len(data) && int(from)+i/2 < len(addresses); i += 2 {
			b[addresses[int(from)+i/2]] = uint16(data[i])<<8 | uint16(data[i+1])
		}
		survey, err := d.Survey(t.Context(), b.read)
		if err != nil {
			return
		}
		l, err := d.LayOutControl(t.Context(), b.read, survey)
		if err != nil {
			return
		}
		told, err := l.Read(t.Context(), b.read)
		if err != nil {
			t.Fatalf("read once and not again: %v", err)
		}
		if told.SoCBp != nil && (*told.SoCBp < 0 || *told.SoCBp > 10_000) || told.SetW != nil && *told.SetW < 0 {
			t.Fatalf("impossible state %+v", told.ControlState)
		}
		for _, mode := range def.ModesInOrder {
			s := def.SetPoint{Mode: mode, PowerW: 1234, LeaseS: 300}
			writes, err := l.Writes(told, s)
			if err != nil {
				continue
			}
			b.write(writes)
			if after, err := l.Read(t.Context(), b.read); err == nil && !l.Obeys(after, s) {
				t.Fatalf("%s: the device holds what was written for %v and does not obey", d.ID, s)
			}
		}
	})
}
