package def_test

import (
	"context"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter/def"
)

// held is a device whose registers are these, from every address on.
func held(words []uint16) def.ReadRegisters {
	return func(_ context.Context, _ uint8, _, count uint16) ([]uint16, error) {
		if int(count) > len(words) {
			return nil, fmt.Errorf("asked for %d registers: %w", count, def.ErrRefused)
		}
		return words[:count], nil
	}
}

// smallDefinitions are the parts by protocol of definitions as short as they can be: a fuzzer finds its way in them.
var smallDefinitions = []string{
	"protocol: modbus\nmodbus: {blocks: [{name: b, function: 3, address: 0, count: 9}]}\npoints: {import: {block: b, address: 0, type: uint32, unit: Wh, scale: {address: 8, type: int16}, invalid: [0]}}\n" +
		"identify: {serial: {function: 3, address: 9, type: string, count: 2, order: little}}",
	"protocol: modbus\nmodbus: {blocks: [{name: b, function: 4, address: 7, count: 9}]}\npoints: {power: {block: b, address: 8, type: float64, order: little, unit: kW, positive: export, subtract: [{address: 12, type: int16}]}}",
	"protocol: sunspec\nsunspec: {layouts: [{models: [203, 213], points: {import: TotWhImp, power: W}}]}\npoints: {import: {unit: Wh, negative: true}, power: {unit: W}}\nidentify: {maker: {expect: [A]}}",
	"protocol: mqtt\nmqtt: {format: json, messages: [{name: m, topics: [\"{device}/m\"]}]}\npoints: {import: {unit: kWh, from: [{message: m, path: [a, b]}]}, power: {unit: W, sum: true, from: [{message: m, path: [p]}]}}",
	"protocol: http\nhttp: {messages: [{name: m, path: /m}]}\npoints: {export: {unit: Wmin, from: [{add: [{message: m, path: [a, \"*\"], count: 2}, {message: m, path: [b]}]}]}}\ntime: {format: unix, from: [{message: m, path: [t]}]}",
	"protocol: p1\np1: {path: /p}\npoints: {import: {unit: kWh, from: [{add: [{obis: 1-0:1.8.1}, {obis: 1-0:1.8.2}]}]}}",
}

// FuzzDefinition: any file is a definition that can be used or an error, never a panic.
func FuzzDefinition(f *testing.F) {
	for _, part := range smallDefinitions {
		text := fmt.Sprintf("schema: 1\nid: a\nversion: 1\nname: a\nfacts: [\"http://a\"]\nmax_power_w: 9\n%s\ntests: [{name: a, expect: {error: a}}]\n", part)
		if _, err := def.Parse([]byte(text)); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(text))
	}
	f.Add([]byte("id: &a [*a, *a]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := def.Parse(data)
		if err != nil {
			return
		}
		if d.P1 != nil {
			read := func(string) ([]string, error) { return []string{"1*kWh"}, nil }
			d.NewTelegramDecoder().Telegram("XXX5", read, time.Unix(1e9, 0))
			return
		}
		if d.HTTP != nil {
			answers := map[string][]byte{}
			for _, m := range d.HTTP.Messages {
				answers[m.Name] = []byte(`{"ENERGY":{"Total":1}}`)
			}
			if _, err := d.NewAnswerDecoder().Answers(answers, time.Unix(1e9, 0)); err != nil {
				t.Fatal(err)
			}
		}
		if d.MQTT != nil {
			topics, err := d.ResolveTopic("kitchen")
			if err != nil {
				t.Fatalf("a plain name is no topic: %v", err)
			}
			dec := d.NewDecoder(topics)
			for topic := range topics.ByTopic {
				_, _, _ = dec.Decode(topic, []byte(`{"ENERGY":{"Total":1}}`), false, time.Unix(1e9, 0))
			}
		}
		if d.MQTT != nil || d.HTTP != nil {
			return
		}
		read := held(make([]uint16, 125))
		if s, err := d.Survey(t.Context(), read); err == nil {
			_, _ = d.ReadValues(t.Context(), read, s)
		}
		for _, p := range d.Points {
			if p.Words() > 0 {
				if _, err := p.Encode(1); err != nil {
					t.Fatalf("point %+v cannot be encoded: %v", p, err)
				}
			}
		}
	})
}

// FuzzMessages: any payload, published or answered, JSON or a scalar, gives values that can be, or unknown ones, or an
// error, and always the same.
func FuzzMessages(f *testing.F) {
	var defs []def.Definition
	all, err := def.Load("")
	if err != nil {
		f.Fatal(err)
	}
	for _, d := range all {
		if (d.MQTT == nil && d.HTTP == nil) || (d.MQTT != nil && d.MQTT.Format == def.FormatSigned) {
			continue
		}
		for _, v := range d.Tests {
			for _, m := range v.Messages {
				f.Add(len(defs), m.Topic == "", []byte(m.Payload))
			}
		}
		defs = append(defs, d)
	}
	f.Add(0, true, []byte(strings.Repeat("[", 1000)))
	f.Fuzz(func(t *testing.T, which int, asked bool, payload []byte) {
		d := &defs[uint(which)%uint(len(defs))]
		asked = d.HTTP != nil && (asked || d.MQTT == nil)
		first, err := hearEverywhere(d, asked, payload)
		again, err2 := hearEverywhere(d, asked, payload)
		if (err == nil) != (err2 == nil) || !same(first.ImportWh, again.ImportWh) || !same(first.ExportWh, again.ExportWh) {
			t.Fatalf("the same message to two decoders: %+v, %v and %+v, %v", first, err, again, err2)
		}
		if err != nil && (first.ImportWh != nil || first.ExportWh != nil) {
			t.Fatalf("an error and values: %+v, %v", first, err)
		}
		for _, wh := range []*uint64{first.ImportWh, first.ExportWh} {
			if wh != nil && *wh > 1<<63-1 {
				t.Fatalf("a counter of %d Wh", *wh)
			}
		}
	})
}

// hearEverywhere gives a payload to a new decoder as every message of the device.
func hearEverywhere(d *def.Definition, asked bool, payload []byte) (def.Values, error) {
	at := time.Unix(1e9, 0)
	if asked {
		answers := map[string][]byte{}
		for _, m := range d.HTTP.Messages {
			answers[m.Name] = payload
		}
		return d.NewAnswerDecoder().Answers(answers, at)
	}
	topics, err := d.ResolveTopic("kitchen")
	if err != nil {
		return def.Values{}, err
	}
	dec := d.NewDecoder(topics)
	var last def.Values
	for _, m := range d.MQTT.Messages {
		v, ok, err := dec.Decode(strings.Replace(m.Topics[0], "{device}", "kitchen", 1), payload, false, at)
		if err != nil {
			return def.Values{}, err
		}
		if ok {
			last = v
		}
	}
	return last, nil
}

// FuzzScalar: a payload is a number only if it reads as one, and then the number it is.
func FuzzScalar(f *testing.F) {
	d, err := def.Parse([]byte(builtin(f, "opendtu")))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"1234.567", " 5\r\n", "1e3", "-1", "+1", "0x10", "1,5", "nan", "NaN", "Infinity", "null", "", "1 kWh", ".5", "5.", "00012", "1_000", "9223372036854775.807", "9223372036854775.808", "٣"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		topics, err := d.ResolveTopic("solar")
		if err != nil {
			t.Fatal(err)
		}
		v, ok, err := d.NewDecoder(topics).Decode("solar/ac/yieldtotal", payload, false, time.Unix(1e9, 0))
		if len(payload) > def.MaxPayload {
			if err == nil {
				t.Fatal("no error for a payload that is too large")
			}
			return
		}
		if err != nil || !ok {
			t.Fatalf("%q: got %v, %v, expected a sample", payload, ok, err)
		}
		text := strings.TrimSpace(string(payload))
		exact, plain := new(big.Rat).SetString(text)
		plain = plain && len(text) <= 40 && strings.Trim(text, "0123456789.-eE+") == "" && strings.IndexAny(text, "0123456789") <= 1 && text[0] != '+' && text[0] != '.'
		if v.ExportWh == nil {
			return
		}
		if !plain {
			t.Fatalf("%q became %d Wh", payload, *v.ExportWh)
		}
		off := new(big.Rat).Sub(exact.Mul(exact, big.NewRat(1000, 1)), new(big.Rat).SetInt(new(big.Int).SetUint64(*v.ExportWh)))
		if off.Abs(off).Cmp(big.NewRat(1, 2)) > 0 {
			t.Fatalf("%q became %d Wh", payload, *v.ExportWh)
		}
	})
}

// FuzzQuantity: what stands behind a code of a telegram is energy only if it is digits, a unit of energy and nothing else.
func FuzzQuantity(f *testing.F) {
	d, err := def.Parse([]byte(builtin(f, "dsmr-p1")))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"000004.426*kWh", "006545766*Wh", "1", "1*kW", "*kWh", "1.*kWh", "-1*kWh", "1e3*kWh", "1*kWh*kWh", "000004.426 *kWh", "9999999999999999999*kWh"} {
		f.Add(s, "632525252525W")
	}
	f.Fuzz(func(t *testing.T, value, at string) {
		read := func(code string) ([]string, error) {
			return map[string][]string{"1-0:1.8.1": {value}, "1-0:1.8.2": {"0.000*kWh"}, "0-0:1.0.0": {at}}[code], nil
		}
		v := d.NewTelegramDecoder().Telegram("XXX5", read, time.Unix(1e9, 0))
		number, unit, _ := strings.Cut(value, "*")
		exact, ok := new(big.Rat).SetString(number)
		if v.ImportWh == nil {
			if ok && (unit == "kWh" || unit == "Wh") && strings.Trim(number, "0123456789") == "" && len(number) < 13 {
				t.Fatalf("%q is no energy: %+v", value, v)
			}
			return
		}
		if !ok || strings.Trim(number, "0123456789.") != "" || (unit != "kWh" && unit != "Wh") {
			t.Fatalf("%q became %d Wh", value, *v.ImportWh)
		}
		if unit == "kWh" {
			exact.Mul(exact, big.NewRat(1000, 1))
		}
		if whole := new(big.Int).Quo(exact.Num(), exact.Denom()); !whole.IsUint64() || whole.Uint64() != *v.ImportWh {
			t.Fatalf("%q became %d Wh, expected %v", value, *v.ImportWh, whole)
		}
	})
}

func same(a, b *uint64) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
