package def_test

import (
	"context"
	"fmt"
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

// FuzzDefinition: any file is a definition that can be used or an error, never a panic.
func FuzzDefinition(f *testing.F) {
	for _, name := range []string{"eastron-sdm630", "sunspec-meter", "tasmota", "shelly-gen2", "commonwatt-signed"} {
		text := builtin(f, name)
		head, _, _ := strings.Cut(text, "tests:")
		f.Add([]byte(head + "tests:\n  - name: none\n    expect: {error: none}\n"))
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

// FuzzMQTTPayload: any payload gives values that can be, or unknown ones, or an error.
func FuzzMQTTPayload(f *testing.F) {
	var defs []def.Definition
	all, err := def.Load("")
	if err != nil {
		f.Fatal(err)
	}
	for _, d := range all {
		if d.Protocol != def.ProtocolMQTT || d.MQTT.Format == def.FormatSigned {
			continue
		}
		for _, v := range d.Tests {
			for i, m := range v.Messages {
				f.Add(len(defs), i, []byte(m.Payload))
			}
		}
		defs = append(defs, d)
	}
	f.Fuzz(func(t *testing.T, which, kind int, payload []byte) {
		d := defs[uint(which)%uint(len(defs))]
		topics, err := d.ResolveTopic("kitchen")
		if err != nil {
			t.Fatal(err)
		}
		message := d.MQTT.Messages[uint(kind)%uint(len(d.MQTT.Messages))]
		topic := strings.Replace(message.Topics[0], "{device}", "kitchen", 1)
		dec := d.NewDecoder(topics)
		first, ok, err := dec.Decode(topic, payload, false, time.Unix(1e9, 0))
		if err != nil && (ok || first.ImportWh != nil || first.ExportWh != nil) {
			t.Fatalf("an error and values: %+v, %v", first, err)
		}
		for _, wh := range []*uint64{first.ImportWh, first.ExportWh} {
			if wh != nil && *wh > 1<<63-1 {
				t.Fatalf("a counter of %d Wh", *wh)
			}
		}
		again, ok2, err2 := dec.Decode(topic, payload, false, time.Unix(1e9, 0))
		if ok != ok2 || (err == nil) != (err2 == nil) || !same(first.ImportWh, again.ImportWh) || !same(first.ExportWh, again.ExportWh) {
			t.Fatalf("the same message twice: %+v and %+v", first, again)
		}
	})
}

func same(a, b *uint64) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
