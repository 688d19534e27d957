package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/firmware-sim/control"
	"github.com/commonwatt/commonwatt/meter"
)

// inverterFile writes a street of one home with a battery inverter, whose time
// stands still at noon in June.
func inverterFile(t *testing.T, definition, role string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "street.yaml")
	text := `
clock: {manual: true, epoch: 2026-06-21T10:00:00Z}
refresh: 180s
seed: 42
weather: {cloudiness: 0.2}
journal: street.journal
modbus: {listen: 127.0.0.1:0}
homes:
  - id: home-1
    load: {model: household, yearly_kwh: 3500}
    solar: {kwp: 6}
    battery: {kwh: 10, kw: 5, min_soc: 5, standing_w: 15}
    devices:
      - {role: grid, definition: eastron-sdm630, unit: 1}
      - {role: ` + role + `, definition: ` + definition + `, unit: 3}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// mbpoll runs the outsider: registers count from 0, unit 3. With values it
// writes them by one request.
func mbpoll(t *testing.T, address string, register, count int, values ...int) []int {
	t.Helper()
	path, err := exec.LookPath("mbpoll")
	if err != nil {
		t.Fatal("mbpoll is missing: install the Debian package mbpoll")
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-m", "tcp", "-p", port, "-a", "3", "-0", "-t", "4", "-r", strconv.Itoa(register), "-q", "-o", "10"}
	if len(values) == 0 {
		args = append(args, "-c", strconv.Itoa(count), "-1", host)
	} else {
		args = append(args, host, "--")
		for _, v := range values {
			args = append(args, strconv.Itoa(v))
		}
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("mbpoll %v: %v: %s", args, err, out)
	}
	var read []int
	lines := bufio.NewScanner(strings.NewReader(string(out)))
	for lines.Scan() {
		if _, value, ok := strings.Cut(lines.Text(), "]:"); ok {
			v, err := strconv.Atoi(strings.Fields(value)[0])
			if err != nil {
				t.Fatal(err)
			}
			read = append(read, v)
		}
	}
	return read
}

// now asks for the truth about home-1.
func now(t *testing.T, address string) control.Inverter {
	t.Helper()
	var p control.Powers
	get(t, address, "/homes/home-1/now", &p)
	if p.Inverter == nil {
		t.Fatalf("no inverter in %+v", p)
	}
	return *p.Inverter
}

// place walks a SunSpec chain to a model.
func place(t *testing.T, address string, model int) int {
	t.Helper()
	for at := 40002; ; {
		head := mbpoll(t, address, at, 2)
		if head[0] == model {
			return at
		}
		if head[0] == 0xFFFF {
			t.Fatalf("no model %d", model)
		}
		at += 2 + head[1]
	}
}

// TestInvertersRead reads each inverter with room meter, by definitions that
// were written without it, and compares with what the device counted.
func TestInvertersRead(t *testing.T) {
	for _, c := range []struct{ device, definition string }{
		{"huawei-luna2000", "huawei-luna2000"},
		{"solaredge-storedge", "solaredge-storedge"},
		{"sunspec-battery", "sunspec-inverter"}, // counts only what it gave
		{"sunspec-der", "sunspec-storage"},
	} {
		t.Run(c.device, func(t *testing.T) {
			t.Parallel()
			r := startServing(t, inverterFile(t, c.device, "battery"))
			move(t, r.Control, `{"advance":"31h"}`)
			source, err := meter.Open(t.Context(), meter.Config{Definition: c.definition, Address: "tcp://" + r.Modbus, Unit: 3})
			if err != nil {
				t.Fatal(err)
			}
			defer source.Close()
			sample, err := source.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var want control.Counters
			get(t, r.Control, "/homes/home-1/counters?role=battery", &want)
			const resolution = 10 // Huawei's, Wh
			if sample.ExportWh == nil || want.ExportWh-*sample.ExportWh >= resolution {
				t.Errorf("export %v, want %d", sample.ExportWh, want.ExportWh)
			}
			if c.definition != "sunspec-inverter" && (sample.ImportWh == nil || want.ImportWh-*sample.ImportWh >= resolution) {
				t.Errorf("import %v, want %d", sample.ImportWh, want.ImportWh)
			}
			if i := now(t, r.Control); sample.PowerW == nil || *sample.PowerW != i.BatteryW || i.BatteryW <= 0 {
				t.Errorf("power %v, want %d, charging", sample.PowerW, i.BatteryW)
			}
		})
	}
}

// TestBatteryObeysAndReverts: an outsider writes a set point, the battery obeys,
// and does what it did before when the timer is over.
func TestBatteryObeysAndReverts(t *testing.T) {
	r := startServing(t, inverterFile(t, "sunspec-battery", "battery"))
	own := now(t, r.Control)
	if own.Mode != "self-consumption" || own.SecondsLeft != nil || own.BatteryW <= 0 {
		t.Fatalf("at noon in June, by itself: %+v", own)
	}
	storage := place(t, r.Modbus, 124)
	// Discharge with 40 % of 5 kW for 600 s.
	mbpoll(t, r.Modbus, storage+12, 0, 4000, 0x10000-4000, 0, 600)
	mbpoll(t, r.Modbus, storage+5, 0, 3)
	led := now(t, r.Control)
	if led.Mode != "discharge" || *led.SetPointW != -2000 || led.BatteryW != -2000 || *led.SecondsLeft != 600 {
		t.Errorf("told to discharge: %+v", led)
	}
	if got := mbpoll(t, r.Modbus, storage+11, 1); got[0] != 3 {
		t.Errorf("ChaSt reads %d, want 3, discharging", got[0])
	}
	move(t, r.Control, `{"advance":"599s"}`)
	if led = now(t, r.Control); led.BatteryW != -2000 || *led.SecondsLeft != 1 {
		t.Errorf("a second before the end: %+v", led)
	}
	move(t, r.Control, `{"advance":"1s"}`)
	back := now(t, r.Control)
	if back.Mode != "self-consumption" || back.SecondsLeft != nil || back.BatteryW <= 0 {
		t.Errorf("after the timer: %+v", back)
	}
	if got := mbpoll(t, r.Modbus, storage+5, 1); got[0] != 0 {
		t.Errorf("StorCtl_Mod reads %d", got[0])
	}
	// 10 minutes with 2 kW are 333 Wh less 5 % of losses, and 15 W of its own.
	if gone := own.StoredWh - back.StoredWh; gone < 351 || gone > 356 {
		t.Errorf("%d Wh left the cells", gone)
	}
}

// TestKilledWhileLed: the journal brings a killed street back with the same
// counters, though its batteries were led; without the journal they differ.
func TestKilledWhileLed(t *testing.T) {
	file := inverterFile(t, "sunspec-battery", "inverter")
	command, r := program(t, file)
	storage := place(t, r.Modbus, 124)
	for i := range 4 {
		mbpoll(t, r.Modbus, storage+12, 0, 4000, 0x10000-1000*(i+1), 0, 300)
		mbpoll(t, r.Modbus, storage+5, 0, 3)
		move(t, r.Control, `{"advance":"617s"}`)
	}
	mbpoll(t, r.Modbus, storage+5, 0, 2)
	const later = `{"to":"2026-06-21T11:00:00Z"}`
	move(t, r.Control, later)
	ask := func(r ready) (all []any) {
		for _, role := range []string{"grid", "inverter"} {
			for _, at := range []string{"10:00:00", "10:21:00", "10:45:30", "11:00:00"} {
				var c control.Counters
				get(t, r.Control, fmt.Sprintf("/homes/home-1/counters?role=%s&at=2026-06-21T%sZ", role, at), &c)
				all = append(all, c)
			}
		}
		return append(all, now(t, r.Control), mbpoll(t, r.Modbus, storage, 26))
	}
	before := ask(r)
	kill := func() {
		if err := command.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = command.Wait()
	}
	kill()
	journal := filepath.Join(filepath.Dir(file), "street.journal")
	torn, err := os.OpenFile(journal, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := torn.WriteString(`{"at":178213`); err != nil { // killed while it wrote
		t.Fatal(err)
	}
	torn.Close()
	command, r = program(t, file)
	move(t, r.Control, later)
	if diff := cmp.Diff(before, ask(r)); diff != "" {
		t.Errorf("after kill -9: %s", diff)
	}
	mbpoll(t, r.Modbus, storage+5, 0, 0) // and it goes on
	kill()
	command, r = program(t, file)
	if mode := now(t, r.Control).Mode; mode != "self-consumption" {
		t.Errorf("mode %s", mode)
	}
	kill()
	if err := os.Remove(journal); err != nil {
		t.Fatal(err)
	}
	_, r = program(t, file)
	move(t, r.Control, later)
	if cmp.Equal(before, ask(r)) {
		t.Error("without the journal nothing differs: the test shows nothing")
	}
}
