package def_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/meter/def"
)

// truth is what a meter counts, by tariff: it only rises.
type truth struct {
	at   []time.Time
	sums map[string][]uint64 // import and export at each moment
}

func (h truth) between(name string, wh uint64, from, to time.Time) bool {
	low, high := h.sums[name][0], uint64(0)
	for i, at := range h.at {
		if !at.After(from) {
			low = h.sums[name][i]
		}
		if !at.After(to) {
			high = h.sums[name][i]
		}
	}
	return low <= wh && wh <= high
}

// message is one that was published.
type message struct {
	topic, payload string
	retained       bool
	due            time.Time
}

// publish says what the counters are, each on a topic of its own, with faults.
func publish(t *rapid.T, names []string, counters []uint64, now time.Time) []message {
	var queue []message
	for i, name := range names {
		m := message{"dsmr/reading/" + name, fmt.Sprintf("%d.%03d", counters[i]/1000, counters[i]%1000), false, now.Add(time.Duration(i) * time.Millisecond)}
		switch rapid.IntRange(0, 11).Draw(t, "fault") {
		case 0: // lost
			continue
		case 1:
			queue = append(queue, m)
		case 2:
			m.payload = rapid.SampledFrom([]string{"null", "", "-1", "x"}).Draw(t, "rubbish")
		case 3:
			m.retained = true
		}
		queue = append(queue, m)
	}
	return queue
}

// TestTogether: counters of two tariffs each way on four topics, published again and again, with messages lost, doubled,
// kept by the broker, or of no number. Every sample that is made is a true sum of some moment between
// the first and the last of its messages, and these are no further apart than the definition says.
func TestTogether(t *testing.T) {
	d, err := def.Parse([]byte(builtin(t, "dsmr-reader")))
	if err != nil {
		t.Fatal(err)
	}
	topics, err := d.ResolveTopic("dsmr")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"electricity_delivered_1", "electricity_returned_1", "electricity_delivered_2", "electricity_returned_2"}
	samples := 0
	rapid.Check(t, func(t *rapid.T) {
		dec := d.NewDecoder(topics)
		history := truth{sums: map[string][]uint64{}}
		counters := make([]uint64, 4) // Wh, in the order of names
		now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
		for range rapid.IntRange(5, 40).Draw(t, "telegrams") {
			now = now.Add(time.Duration(rapid.IntRange(1, 12).Draw(t, "seconds")) * time.Second)
			for i := range counters {
				counters[i] += rapid.Uint64Range(0, 30).Draw(t, "rise")
			}
			history.at = append(history.at, now)
			history.sums["import"] = append(history.sums["import"], counters[0]+counters[2])
			history.sums["export"] = append(history.sums["export"], counters[1]+counters[3])
			queue := publish(t, names, counters, now)
			slices.SortStableFunc(queue, func(a, b message) int { return a.due.Compare(b.due) })
			for _, m := range queue {
				v, ok, err := dec.Decode(m.topic, []byte(m.payload), m.retained, m.due)
				if err != nil {
					t.Fatal(err)
				}
				if !ok || v.Retained {
					continue
				}
				samples++
				from := m.due
				if !v.Since.IsZero() {
					from = v.Since
				}
				if m.due.Sub(from) > 10*time.Second {
					t.Fatalf("a sample of messages that are %v apart", m.due.Sub(from))
				}
				for name, wh := range map[string]*uint64{"import": v.ImportWh, "export": v.ExportWh} {
					if wh != nil && !history.between(name, *wh, from, m.due) {
						t.Fatalf("%s of %d Wh was never true between %v and %v: %v of %v", name, *wh, from, m.due, history.sums[name], history.at)
					}
				}
			}
		}
	})
	if samples == 0 {
		t.Error("not one sample was made")
	}
}

// TestTogetherHeals: after a lost message samples come again, and with nothing lost every telegram makes one.
func TestTogetherHeals(t *testing.T) {
	d, err := def.Parse([]byte(builtin(t, "dsmr-reader")))
	if err != nil {
		t.Fatal(err)
	}
	topics, err := d.ResolveTopic("dsmr")
	if err != nil {
		t.Fatal(err)
	}
	dec := d.NewDecoder(topics)
	names := []string{"electricity_delivered_1", "electricity_returned_1", "electricity_delivered_2", "electricity_returned_2"}
	at := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	telegram := func(every time.Duration, without string) (samples int) {
		at = at.Add(every)
		for _, name := range names {
			if name == without {
				continue
			}
			_, ok, err := dec.Decode("dsmr/reading/"+name, []byte("1.000"), false, at)
			if err != nil {
				t.Fatal(err)
			}
			if ok {
				samples++
			}
		}
		return samples
	}
	for _, every := range []time.Duration{time.Second, 10 * time.Second, 5 * time.Minute} {
		total := 0
		for i := range 20 {
			without := ""
			if i%5 == 0 {
				without = names[i/5%4]
			}
			total += telegram(every, without)
		}
		if total < 12 {
			t.Errorf("every %v: %d samples of 20 telegrams, 4 of which were not whole", every, total)
		}
		for range 3 {
			total = telegram(every, "")
		}
		if total != 1 {
			t.Errorf("every %v: %d samples of a whole telegram, expected 1", every, total)
		}
	}
}

// TestPaths: what a place finds in a message, and what it does not.
func TestPaths(t *testing.T) {
	for _, c := range []struct {
		place, payload string
		want           string // import_wh, or null
		faulty         bool
	}{
		{`path: [a, b]`, `{"a":{"b":1.5}}`, "1500", false},
		{`path: [a, "1"]`, `{"a":[1,2,3]}`, "2000", false},
		{`path: [a, "1"]`, `{"a":{"1":4}}`, "4000", false},
		{`path: [a, "3"]`, `{"a":[1,2,3]}`, "null", false},
		{`path: [a, "-1"]`, `{"a":[1,2,3]}`, "null", false},
		{`path: ["0", a]`, `[{"a":7}]`, "7000", false},
		{`path: [a, "*", b], count: 3`, `{"a":[{"b":1},{"b":2.5},{"b":3}]}`, "6500", false},
		{`path: [a, "*", b], count: 3`, `{"a":[{"b":1},{"b":2.5}]}`, "null", true},
		{`path: [a, "*", b], count: 3`, `{"a":[{"b":1},{"b":2.5},{"b":3},{"b":4}]}`, "null", true},
		{`path: [a, "*", b], count: 2`, `{"a":[{"b":1},{"c":2}]}`, "null", true},
		{`path: [a, "*", b], count: 2`, `{"a":[{"b":1},{"b":"2"}]}`, "null", true},
		{`path: [a, "*", b], count: 2`, `{"a":[{"b":1},{"b":null}]}`, "null", false},
		{`path: [a, "*", b], count: 2`, `{"a":[{"b":1},{"b":-2}]}`, "null", false},
		{`path: [a, "*"], count: 2`, `{"a":[0.001,0.002]}`, "3", false},
		{`path: [a, "*"], count: 2`, `{"a":{"*":5}}`, "5000", false},
		{`path: [a]`, `{"a":"1"}`, "null", true},
		{`path: [a]`, `{"a":true}`, "null", true},
		{`path: [a]`, `{"a":[1]}`, "null", true},
		{`path: [a]`, `{"a":{}}`, "null", true},
		{`path: [a]`, `{"a":null}`, "null", false},
		{`path: [a]`, `{"a":1e400}`, "null", true},
		{`path: [a]`, `{"a":9223372036854775.807}`, "9223372036854775807", false},
		{`path: [a]`, `{"a":9223372036854775.808}`, "null", false},
		{`add: [{message: m, path: [a]}, {message: m, path: [b]}]`, `{"a":0.0006,"b":0.0006}`, "1", false},
		{`add: [{message: m, path: [a]}, {message: m, path: [b]}]`, `{"a":1}`, "null", false},
		{`add: [{message: m, path: [a]}, {message: m, path: [b]}]`, `{"a":1,"b":null}`, "null", false},
		{`add: [{message: m, path: [a]}, {message: m, path: [b]}]`, `{"a":5,"b":-1}`, "null", false},
	} {
		place := c.place
		if !strings.HasPrefix(place, "add") {
			place = "message: m, " + place
		}
		d, err := def.Parse([]byte(`schema: 1
id: x
version: 1
name: x
facts: [https://example.org/x]
protocol: http
max_power_w: 1000
http: {messages: [{name: m, path: /m}]}
points:
  import: {unit: kWh, from: [{` + place + `}]}
  power: {unit: W, from: [{message: m, path: [power]}]}
tests: [{name: x, expect: {}}]
`))
		if err != nil {
			t.Fatalf("%s: %v", c.place, err)
		}
		v, err := d.NewAnswerDecoder().Answers(map[string][]byte{"m": []byte(c.payload)}, time.Unix(1e9, 0))
		got := "null"
		if v.ImportWh != nil {
			got = fmt.Sprint(*v.ImportWh)
		}
		if err != nil || got != c.want || v.DeviceError != c.faulty {
			t.Errorf("{%s} in %s: got %s, faulty %v, %v, expected %s, %v", c.place, c.payload, got, v.DeviceError, err, c.want, c.faulty)
		}
	}
}

// TestMessageSchema changes one thing in a good file and expects an error that names it and says what is right.
func TestMessageSchema(t *testing.T) {
	for _, c := range []struct{ file, old, new, want string }{
		{"shelly-3em", "count: 3}", "count: 65}", "points.import.from[0].count: got 65, expected 1 to 64"},
		{"shelly-3em", `path: [emeters, "*", total], count: 3`, `path: [emeters, "*", total]`, "points.import.from[0].count"},
		{"shelly-3em", `path: [emeters, "*", total], count: 3`, `path: [emeters, "*", "*"], count: 3`, `at most one "*"`},
		{"shelly-3em", `{message: import0}, {message: import1}`, `{message: import0}, {message: nowhere}`, `points.import.from[1].add[1].message: got "nowhere"`},
		{"shelly-3em", `{message: import0}, {message: import1}`, `{message: import0}, {message: status}`, "points.import.from[1].add[1].path"},
		{"shelly-3em", `{message: import0}, {message: import1}`, `{message: import0}, {message: import1, path: [x]}`, "points.import.from[1].add[1].path"},
		{"shelly-3em", `{message: import0}, {message: import1}`, `{message: import0}, {add: [{message: import1}]}`, "sums do not nest"},
		{"shelly-3em", `      - add: [{message: import0}`, `      - subtract: [{message: power0}]
        add: [{message: import0}`, "points.import.from[1].subtract: got 1, expected nothing: counters only rise"},
		{"shelly-3em", "path: /status}", "path: status}", `http.messages[0].path: got "status"`},
		{"shelly-3em", "path: /status}", "path: /a b}", `http.messages[0].path: got "/a b"`},
		{"shelly-3em", "name: import0,", "name: status,", "a name of its own"},
		{"shelly-3em", "together_s: 15", "together_s: 301", "mqtt.together_s: got 301"},
		{"shelly-3em", "format: unix", "format: iso", `time.format: got "iso", expected rfc3339 or unix`},
		{"shelly-3em", "unit: Wh", "unit: MWh", `points.import.unit: got "MWh", expected Wh or kWh or Wmin`},
		{"shelly-3em", "protocol: http", "protocol: p1", "expected the part for protocol p1"},
		{"shelly-3em", "signed_by: agent", "signed_by: device", "signed_by"},
		{"shelly-3em", "values: [\"false\"]", "values: []", "http.faults[0].values"},
		{"dsmr-p1", `{obis: "0-0:96.1.1"}`, `{obis: "96.1.1"}`, `identify.serial.from[0].obis: got "96.1.1", expected a code such as 1-0:1.8.1`},
		{"dsmr-p1", `{obis: "0-0:96.1.1"}`, `{message: x, path: [y]}`, "fields of another protocol"},
		{"dsmr-p1", "path: /api/v1/telegram", "path: api", `p1.path: got "api"`},
		{"dsmr-p1", "path: /api/v1/telegram", "winter_offset_min: 900", "p1.winter_offset_min: got 900, expected -720 to 840"},
		{"eastron-sdm630", "protocol: modbus", "http: {messages: [{name: m, path: /}]}\nprotocol: modbus", "just the part for protocol modbus"},
	} {
		t.Run(c.want, func(t *testing.T) {
			text := builtin(t, c.file)
			changed := strings.Replace(text, c.old, c.new, 1)
			if changed == text {
				t.Fatalf("%q is not in %s", c.old, c.file)
			}
			if _, err := def.Parse([]byte(changed)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, expected %q", err, c.want)
			}
		})
	}
}

// TestPowerAge: a power that comes in messages of its own is believed for two minutes.
func TestPowerAge(t *testing.T) {
	d, err := def.Parse([]byte(builtin(t, "shelly-pro-3em")))
	if err != nil {
		t.Fatal(err)
	}
	topics, err := d.ResolveTopic("attic")
	if err != nil {
		t.Fatal(err)
	}
	dec := d.NewDecoder(topics)
	begin := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	if _, _, err := dec.Decode("attic/status/em:0", []byte(`{"total_act_power":500}`), false, begin); err != nil {
		t.Fatal(err)
	}
	for age, known := range map[time.Duration]bool{time.Minute: true, 2 * time.Minute: true, 2*time.Minute + 1: false} {
		v, ok, err := dec.Decode("attic/status/emdata:0", []byte(`{"total_act":1,"total_act_ret":2}`), false, begin.Add(age))
		if err != nil || !ok || (v.PowerW != nil) != known {
			t.Errorf("after %v: got %+v, %v, %v", age, v, ok, err)
		}
	}
}

// TestTelegramZone: where the meter's winter time is not Central European.
func TestTelegramZone(t *testing.T) {
	d, err := def.Parse([]byte(strings.Replace(builtin(t, "dsmr-p1"), "p1:\n", "p1:\n  winter_offset_min: 120\n", 1)))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"260115120000W": "2026-01-15T10:00:00Z", "260715120000S": "2026-07-15T09:00:00Z", "260715120000": "", "260715120000Z": "",
		"260230120000W": "", "261301120000W": "", "260115240000W": "", "632525252525W": "", "26011512000xW": "", "": "",
	} {
		read := func(code string) ([]string, error) {
			return map[string][]string{"0-0:1.0.0": {text}}[code], nil
		}
		v := d.NewTelegramDecoder().Telegram("XXX5", read, time.Unix(1e9, 0))
		got := ""
		if v.DeviceAt != nil {
			got = v.DeviceAt.Format(time.RFC3339)
		}
		if got != want {
			t.Errorf("%q: got %q, expected %q", text, got, want)
		}
	}
}

// TestSoCMakesNoSample: a state of charge in a message of its own is shown with the next counters, and makes no sample.
func TestSoCMakesNoSample(t *testing.T) {
	d, err := def.Parse([]byte(`schema: 1
id: x
version: 1
name: x
facts: [https://example.org/x]
protocol: mqtt
max_power_w: 1000
mqtt: {format: json, messages: [{name: m, topics: ["{device}/m"]}, {name: s, topics: ["{device}/s"], scalar: true}]}
points:
  import: {unit: kWh, from: [{message: m, path: [a]}]}
  soc: {unit: "%", from: [{message: s}]}
tests: [{name: x, expect: {}}]
`))
	if err != nil {
		t.Fatal(err)
	}
	topics, err := d.ResolveTopic("x")
	if err != nil {
		t.Fatal(err)
	}
	dec := d.NewDecoder(topics)
	if _, ok, err := dec.Decode("x/s", []byte("55.5"), false, time.Unix(1e9, 0)); ok || err != nil {
		t.Errorf("got a sample %v, %v", ok, err)
	}
	v, ok, err := dec.Decode("x/m", []byte(`{"a":1}`), false, time.Unix(1e9, 0))
	if !ok || err != nil || v.SoCBp == nil || *v.SoCBp != 5550 || v.ImportWh == nil {
		t.Errorf("got %+v, %v, %v", v, ok, err)
	}
}
