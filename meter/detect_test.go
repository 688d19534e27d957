package meter_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter"
)

func detected(matches []meter.Match) (ids []string) {
	for _, m := range matches {
		ids = append(ids, m.Definition.ID)
	}
	return ids
}

// TestDetectModbus finds devices behind a server that is not ours: by what they say of themselves, by their SunSpec
// chain, or by values that can be.
func TestDetectModbus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		id, vector string
		// first is found before all others, too are found as well.
		first string
		score int
		too   []string
		says  string
	}{
		{"solaredge-sunspec", "an inverter and one meter, which exports", "solaredge-sunspec", 95, []string{"sunspec-meter", "sunspec-inverter"}, "SunSpec models 1, 103, 1, 203"},
		{"sunspec-meter", "common model of 66 registers at 40000", "sunspec-meter", 85, nil, "import 12302420 Wh, export 4728460 Wh, power -732 W"},
		{"eastron-sdm630", "a home that exports 1831.5 W", "", 30, []string{"eastron-sdm630"}, "nothing in it says what it is"},
	} {
		t.Run(c.id, func(t *testing.T) {
			d, err := meter.FindDefinition("", c.id)
			if err != nil {
				t.Fatal(err)
			}
			var asked []string
			address := "tcp://" + libmodbusServer(t, d, c.vector)
			matches, err := meter.Detect(t.Context(), meter.DetectConfig{
				Config: meter.Config{Address: address, Timeout: 5 * time.Second}, Units: []uint8{1, 2},
				Progress: func(what string) { asked = append(asked, what) },
			})
			if err != nil {
				t.Fatal(err)
			}
			ids := detected(matches)
			if c.first != "" && ids[0] != c.first || matches[0].Score != c.score {
				t.Errorf("got %v, the first with %d, expected %s with %d", ids, matches[0].Score, c.first, c.score)
			}
			for _, id := range c.too {
				if !slices.Contains(ids, id) {
					t.Errorf("got %v, expected %s too", ids, id)
				}
			}
			i := slices.Index(ids, c.id)
			if i < 0 {
				t.Fatalf("got %v, expected %s", ids, c.id)
			}
			m := matches[i]
			if all := strings.Join(m.Evidence, "; "); !strings.Contains(all, c.says) || m.Address != address || m.Unit != 1 || m.Sample == nil {
				t.Errorf("got %+v, expected %q", m, c.says)
			}
			if len(asked) != 2 {
				t.Errorf("asked %v", asked)
			}
		})
	}
}

// TestDetectNobody: nobody there is an error at once, and a device without registers is told from that.
func TestDetectNobody(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "tcp://" + l.Addr().String()
	_ = l.Close()
	if got, err := meter.Detect(t.Context(), meter.DetectConfig{Config: meter.Config{Address: address}}); err == nil || errors.Is(err, meter.ErrNotDetected) {
		t.Errorf("nobody: got %v, %v", got, err)
	}
	m := newFakeMeter(t)
	m.refuses = true
	got, err := meter.Detect(t.Context(), meter.DetectConfig{Config: meter.Config{Address: "tcp://" + m.listener.Addr().String()}, Units: []uint8{1, 5}})
	if !errors.Is(err, meter.ErrNotDetected) || !strings.Contains(err.Error(), "unit 1, 5 answers") {
		t.Errorf("a device that refuses all: got %v, %v", got, err)
	}
	for _, address := range []string{"ftp://h", "tcp://h", "mqtt://h:1883/kitchen"} {
		var mistake *meter.ConfigError
		if _, err := meter.Detect(t.Context(), meter.DetectConfig{Config: meter.Config{Address: address}}); !errors.As(err, &mistake) || mistake.Field != "address" {
			t.Errorf("%q: got %v", address, err)
		}
	}
}

// TestDetectBroker lists what sends counters to a broker, and nothing else.
func TestDetectBroker(t *testing.T) {
	t.Parallel()
	b := newBroker(t, "allow_anonymous true\n")
	kept := []string{"-r"}
	b.publish("tele/kitchen/SENSOR", `{"SML":{"Total_in":34507.4761,"Total_out":14737.1422,"Power_curr":-894}}`, kept...)
	b.publish("shellypro3em-x/status/emdata:0", `{"id":0,"total_act":2776175.11,"total_act_ret":571584.87}`, kept...)
	b.publish("zigbee2mqtt/lamp", `{"state":"ON"}`, kept...)
	b.publish("tele/broken/SENSOR", `{"SML":{"Total_in":`, kept...)
	matches, err := meter.Detect(t.Context(), meter.DetectConfig{Config: meter.Config{Address: "mqtt://127.0.0.1:" + b.port}, Listen: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]meter.Match{}
	for _, m := range matches {
		found[m.Definition.ID+" "+strings.TrimPrefix(m.Address, "mqtt://127.0.0.1:"+b.port)] = m
	}
	if m, ok := found["tasmota /kitchen"]; !ok || *m.Sample.ImportWh != 34507476 || !strings.Contains(strings.Join(m.Evidence, "; "), "sends tele/kitchen/SENSOR; import 34507476 Wh") {
		t.Errorf("got %v", found)
	}
	if _, ok := found["shelly-gen2 /shellypro3em-x"]; !ok {
		t.Errorf("got %v", found)
	}
	for name := range found {
		if strings.Contains(name, "lamp") || strings.Contains(name, "broken") {
			t.Errorf("got %s", name)
		}
	}
	if _, err := meter.Detect(t.Context(), meter.DetectConfig{Config: meter.Config{Address: "mqtt://127.0.0.1:" + freePort(t)}, Listen: time.Second}); err == nil || errors.Is(err, meter.ErrNotDetected) {
		t.Errorf("no broker: got %v", err)
	}
}

// TestDetectTelegram: a file with a telegram is one of a P1 port.
func TestDetectTelegram(t *testing.T) {
	t.Parallel()
	d, err := meter.FindDefinition("", "dsmr-p1")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "telegram.txt")
	if err := os.WriteFile(name, []byte(strings.ReplaceAll(d.Tests[0].Telegram, "\n", "\r\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	matches, err := meter.Detect(t.Context(), meter.DetectConfig{Config: meter.Config{Address: "p1+file:" + name}})
	if err != nil || len(matches) == 0 || !slices.Contains(detected(matches), "dsmr-p1") {
		t.Errorf("got %v, %v", detected(matches), err)
	}
	if err := os.WriteFile(name, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := meter.Detect(t.Context(), meter.DetectConfig{Config: meter.Config{Address: "p1+file:" + name}, Listen: time.Second}); !errors.Is(err, meter.ErrNotDetected) {
		t.Errorf("no telegram: got %v", err)
	}
}

// TestDetectLine finds devices on a serial line that pymodbus serves: one that says what it is, and one with a SunSpec
// chain.
func TestDetectLine(t *testing.T) {
	t.Parallel()
	python := need(t, "/usr/bin/python3", "python3")
	var held strings.Builder
	want := map[uint8]string{2: "carlo-gavazzi-em340", 5: "sunspec-meter"}
	for unit, id := range want {
		d, err := meter.FindDefinition("", id)
		if err != nil {
			t.Fatal(err)
		}
		held.WriteString(registerLines(int(unit), d.Tests[0]))
	}
	theirs, ours := serialCable(t)
	registerServer(t, python, held.String(), "testdata/pymodbus_server.py", theirs)
	matches, err := meter.Detect(t.Context(), meter.DetectConfig{
		Config: meter.Config{Address: "rtu://" + ours + "?baud=115200", Timeout: 3 * time.Second}, Units: []uint8{2, 5},
	})
	if err != nil {
		t.Fatal(err)
	}
	for unit, id := range want {
		i := slices.IndexFunc(matches, func(m meter.Match) bool { return m.Unit == unit })
		if i < 0 || matches[i].Definition.ID != id || matches[i].Score < 80 {
			t.Errorf("unit %d: got %v, expected %s", unit, detected(matches), id)
		}
	}
}
