package def_test

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/meter/def"
)

func builtin(tb testing.TB, name string) string {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("data", name+".yaml"))
	if err != nil {
		tb.Fatal(err)
	}
	return string(data)
}

// TestParseRefuses changes one thing in a good file and expects an error that names it and says what is right.
// TestParseByteOrderMark: what an editor of Windows puts before a file is no mistake of a person.
func TestParseByteOrderMark(t *testing.T) {
	text := strings.ReplaceAll(builtin(t, "eastron-sdm630"), "\n", "\r\n")
	if d, err := def.Parse([]byte("\ufeff" + text)); err != nil || d.ID != "eastron-sdm630" {
		t.Errorf("got %q and %v, expected the definition", d.ID, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ file, old, new, want string }{
		{"eastron-sdm630", "max_power_w:", "max_power:", `max_power: unknown key, expected max_power_w`},
		{"eastron-sdm630", "id: eastron-sdm630", "id: Eastron SDM630", `id: got "Eastron SDM630", expected 1 to 64 of a-z, 0-9 and -`},
		{"eastron-sdm630", "version: 1", "version: 0", "version: got 0, expected a number from 1"},
		{"eastron-sdm630", "version: 1", "version: 1.5", "version: got 1.5, expected a whole number"},
		{"eastron-sdm630", "version: 1", "version: ~", "version: got nothing, expected a whole number"},
		{"eastron-sdm630", "count: 24}", "count: [24]}", "modbus.blocks[0].count: got a list, expected a whole number from 0 to 65535"},
		{"eastron-sdm630", "count: 24}", "count: -1}", "modbus.blocks[0].count: got -1, expected a whole number from 0 to 65535"},
		{"eastron-sdm630", "count: 24}", "count: 65536}", "modbus.blocks[0].count: got 65536, expected a whole number from 0 to 65535"},
		{"eastron-sdm630", "protocol: modbus", "protocol: [modbus]", "protocol: got"},
		{"eastron-sdm630", "version: 1", "version: \"1\"", `version: got "1", expected a whole number`},
		{"eastron-sdm630", "version: 1", "version: one", `version: got "one", expected a whole number`},
		{"eastron-sdm630", "max_power_w: 69000", "max_power_w: 0", "max_power_w: got 0"},
		{"eastron-sdm630", "protocol: modbus", "protocol: can", `protocol: got "can", expected modbus, sunspec, mqtt, http or p1`},
		{"eastron-sdm630", "protocol: modbus", "protocol: mqtt", "modbus: got a part, expected just the part for protocol mqtt"},
		{"eastron-sdm630", "signed_by: agent", "signed_by: device", "a Modbus device does not sign"},
		{"eastron-sdm630", "signed_by: agent", "signed_by: me", "signed_by: got me, expected agent or device"},
		{"eastron-sdm630", "count: 24}", "count: 126}", "modbus.blocks[0].count: got 126, expected 1 to 125"},
		{"eastron-sdm630", "count: 24}", "count: 22}", "points.export.address: got 74, expected an address within its block"},
		{"eastron-sdm630", "function: 4, address: 0x0034, count", "function: 6, address: 0x0034, count", "modbus.blocks[0].function: got 6"},
		{"eastron-sdm630", "export: {block: measured", "exports: {block: measured", `points.exports: got "exports", expected one of import, export, power`},
		{"eastron-sdm630", "import: {block: measured", "import: {block: other", `points.import.block: got "other"`},
		{"eastron-sdm630", "type: float32, unit: W}", "type: float16, unit: W}", `points.power.type: got "float16", expected one of float32, float64, int16`},
		{"eastron-sdm630", "type: float32, unit: W}", "type: float32, unit: Wh}", `points.power.unit: got "Wh", expected W or kW`},
		{"eastron-sdm630", "0x0048, type: float32, unit: kWh}", "0x0048, type: float32, unit: W}", `points.import.unit: got "W", expected Wh or kWh`},
		{"eastron-sdm630", "0x0048, type: float32,", "0x0048, type: float32, positive: export,", "points.import.positive"},
		{"eastron-sdm630", "0x0048, type: float32,", "0x0048, type: float32, order: middle,", "points.import.order"},
		{"eastron-sdm630", "0x0048, type: float32,", "0x0048, type: float32, exponent: 10,", "points.import.exponent"},
		{"eastron-sdm630", "type: uint32, optional: true", "type: uint33, optional: true", "identify.serial.type"},
		{"eastron-sdm630", "maker: {text: Eastron}", "maker: {text: Eastron, device: true}", "identify.maker: got 2, expected one way"},
		{"eastron-sdm630", "facts:", "facts: &x", "expected no anchors and aliases"},
		{"eastron-sdm630", "function: 4, address: 0x0034, count", "function: 4, address: 52.5, count", "modbus.blocks[0].address: got 52.5, expected a whole number from 0 to 65535"},
		{"eastron-sdm630", "max_power_w: 69000", "max_power_w: 6.9e4", "max_power_w: got 6.9e4, expected a whole number"},
		{"eastron-sdm630", "max_power_w: 69000", "max_power_w: .inf", "max_power_w: got .inf, expected a whole number"},
		{"eastron-sdm630", "version: 1", "version: !!int 1", `line 3: got "!!int", expected no tags`},
		{"eastron-sdm630", "name: Eastron", "name: Eastr\xf6n", "line 4: got byte 0xf6, expected UTF-8"},
		{"eastron-sdm630", "name: Eastron", "name: Eastron\x1b[31m", "line 4: got the control character U+001B, expected text"},
		{"eastron-sdm630", "maker: {text: Eastron}", `maker: {text: "East\eron"}`, "got the control character U+001B, expected text"},
		{"sunspec-meter", "models: [203,", "models: [1,", "sunspec.layouts[0].models[0]: got 1, expected one of [1 101 102"},
		{"sunspec-meter", "import: TotWhImp", "import: TotWhImport", `sunspec.layouts[0].points.import: got "TotWhImport", expected a point of type acc16`},
		{"sunspec-meter", "power: W}", "power: TotWhExp}", "expected a point of type int16"},
		{"tasmota", "tele/{device}/SENSOR\"", "tele/+/SENSOR\"", "mqtt.messages[0].topics"},
		{"tasmota", "tele/{device}/SENSOR\"", "tele/{device}/#\"", "mqtt.messages[0].topics"},
		{"tasmota", "{message: sensor, path: [SML, Total_in]}", "{message: state, path: [SML, Total_in]}", `points.import.from[0].message: got "state"`},
		{"tasmota", "    sum: true", "    sum: maybe", `points.power.sum: got "maybe", expected true or false`},
		{"tasmota", "  import:\n    unit: kWh", "  import:\n    sum: true\n    unit: kWh", "points.import.sum"},
		{"tasmota", "format: json", "format: xml", "mqtt.format"},
		{"tasmota", "signed_by: agent", "signed_by: device", "device with format signed-reading"},
		{"commonwatt-signed", "format: signed-reading", "format: json", "signed_by: got device"},
	} {
		t.Run(c.want, func(t *testing.T) {
			text := builtin(t, c.file)
			changed := strings.Replace(text, c.old, c.new, 1)
			if changed == text {
				t.Fatalf("%q is not in %s", c.old, c.file)
			}
			_, err := def.Parse([]byte(changed))
			if !errors.Is(err, def.ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, expected %q", err, c.want)
			}
		})
	}
}

// TestLoadDirectory: a directory adds and overrides; two files with one id, a broken file and a missing directory are errors.
func TestLoadDirectory(t *testing.T) {
	before, err := def.Load("")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("mine.yaml", strings.Replace(builtin(t, "tasmota"), "version: 1", "version: 9", 1))
	write("new.yaml", strings.Replace(builtin(t, "tasmota"), "id: tasmota", "id: a-new-one", 1))
	write("README.md", "not a definition")
	after, err := def.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(before)+1 || after[0].ID != "a-new-one" {
		t.Errorf("got %d definitions, the first %s, expected %d and a-new-one", len(after), after[0].ID, len(before)+1)
	}
	for _, d := range after {
		if d.ID == "tasmota" && d.Source() != "tasmota@9" {
			t.Errorf("got %s, expected tasmota@9", d.Source())
		}
	}
	write("twice.yaml", builtin(t, "tasmota"))
	if _, err := def.Load(dir); !errors.Is(err, def.ErrInvalid) || !strings.Contains(err.Error(), `twice.yaml:2:1: id: "tasmota" is also in another file`) {
		t.Errorf("two files with one id: got %v", err)
	}
	write("twice.yaml", strings.Repeat("#", 300<<10))
	if _, err := def.Load(dir); !errors.Is(err, def.ErrInvalid) {
		t.Errorf("a huge file: got %v", err)
	}
	if _, err := def.Load(filepath.Join(dir, "nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: got %v", err)
	}
}

// TestEncodeDecode: what a simulator encodes is what the meter decodes, for every type, order and scale.
func TestEncodeDecode(t *testing.T) {
	base, err := def.Parse([]byte(builtin(t, "eastron-sdm630")))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]string{"int16", "uint16", "int32", "uint32", "int64", "uint64", "float32"}).Draw(t, "type")
		p := def.Point{
			Block: "b", Type: kind, Unit: rapid.SampledFrom([]string{"W", "kW"}).Draw(t, "unit"),
			Order: rapid.SampledFrom([]string{"", def.OrderBig, def.OrderLittle}).Draw(t, "order"), Positive: rapid.SampledFrom([]string{"", "import", "export"}).Draw(t, "positive"),
		}
		exponents := []int{0, 1, 2}
		if p.Unit == "kW" {
			exponents = []int{-3, -2, 0}
		}
		p.Exponent = rapid.SampledFrom(exponents).Draw(t, "exponent")
		step := int64(math.Pow10(p.Exponent))
		if p.Unit == "kW" {
			step = int64(math.Pow10(p.Exponent + 3))
		}
		value := rapid.Int64Range(-9000, 9000).Draw(t, "value")
		if strings.HasPrefix(kind, "u") {
			value = max(value, -value)
			if p.Positive == "export" {
				value = -value
			}
		}
		value *= step
		words, err := p.Encode(value)
		if err != nil {
			t.Fatal(err)
		}
		d := base
		d.Modbus = &def.Modbus{Blocks: []def.Block{{Name: "b", Function: 3, Count: uint16(len(words))}}}
		d.Points = map[string]def.Point{def.PointPower: p}
		got, err := d.ReadValues(t.Context(), held(words), def.Survey{})
		if err != nil || got.PowerW == nil || *got.PowerW != value {
			t.Fatalf("%+v: %d W became %x and then %+v, %v", p, value, words, got, err)
		}
	})
}

// TestFloatCounter: a float32 kWh counter gives every Wh up to 16383 kWh and says how coarse it is above.
func TestFloatCounter(t *testing.T) {
	base, err := def.Parse([]byte(builtin(t, "eastron-sdm630")))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		wh := rapid.Uint64Range(0, 1<<36).Draw(t, "wh")
		p := base.Points[def.PointImport]
		words, err := p.Encode(int64(wh))
		if err != nil {
			t.Fatal(err)
		}
		d := base
		d.Modbus = &def.Modbus{Blocks: []def.Block{{Name: "measured", Function: 4, Address: p.Address, Count: 2}}}
		d.Points = map[string]def.Point{def.PointImport: p}
		got, err := d.ReadValues(t.Context(), held(words), def.Survey{})
		if err != nil || got.ImportWh == nil {
			t.Fatalf("%d Wh: got %+v, %v", wh, got, err)
		}
		off := max(*got.ImportWh, wh) - min(*got.ImportWh, wh)
		if off > got.ImportTraits.ResolutionWh/2 || (wh <= 16383000 && off != 0) {
			t.Fatalf("%d Wh became %d with a resolution of %d", wh, *got.ImportWh, got.ImportTraits.ResolutionWh)
		}
	})
}

func TestResolveTopic(t *testing.T) {
	for _, c := range []struct{ file, topic, device, subscribes string }{
		{"tasmota", "kitchen", "kitchen", "tele/kitchen/SENSOR"},
		{"tasmota", "tele/kitchen/SENSOR", "kitchen", "tele/kitchen/SENSOR"},
		{"tasmota", "house/kitchen", "house/kitchen", "tele/house/kitchen/SENSOR"},
		{"tasmota", "kitchen/tele/SENSOR", "kitchen", "kitchen/tele/SENSOR"},
		{"shelly-gen2", "shellypro3em-x", "shellypro3em-x", "shellypro3em-x/status/emdata:0"},
		{"shelly-gen2", "shellypro3em-x/status/em:0", "shellypro3em-x", "shellypro3em-x/status/emdata:0"},
		{"shelly-gen2", "a/b/events/rpc", "a/b", "a/b/status/em:0"},
		{"commonwatt-signed", "commonwatt/kitchen/reading", "kitchen", "commonwatt/kitchen/reading"},
		{"tasmota", "", "", ""},
		{"tasmota", "tele/+/SENSOR", "", ""},
		{"tasmota", "#", "", ""},
		{"tasmota", "/kitchen", "", ""},
		{"tasmota", "kitchen/", "", ""},
		{"tasmota", strings.Repeat("k", 300), "", ""},
	} {
		d, err := def.Parse([]byte(builtin(t, c.file)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := d.ResolveTopic(c.topic)
		if c.device == "" {
			if !errors.Is(err, def.ErrBadTopic) {
				t.Errorf("%s %q: got %v, %v, expected %v", c.file, c.topic, got, err, def.ErrBadTopic)
			}
			continue
		}
		if err != nil || got.Device != c.device || got.ByTopic[c.subscribes] == "" {
			t.Errorf("%s %q: got %+v, %v, expected device %s on %s", c.file, c.topic, got, err, c.device, c.subscribes)
		}
	}
}
