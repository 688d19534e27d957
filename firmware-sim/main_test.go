package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/commonwatt/commonwatt/firmware-sim/control"
	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
)

// asProgram makes the test binary be firmware-sim, so that a test can kill it.
const asProgram = "FIRMWARE_SIM_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	testscript.Main(leakChecker{m}, map[string]func(){"firmware-sim": main})
}

// leakChecker looks for goroutines that outlive the tests.
type leakChecker struct{ m *testing.M }

func (l leakChecker) Run() int {
	status := l.m.Run()
	if err := goleak.Find(); err != nil && status == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}

// streetFile writes a configuration that has every kind of device and that
// began four hours of community time ago, at a rate at which 3 minutes pass in
// 2 seconds. mqtt is the value of its key.
func streetFile(t *testing.T, mqtt string) string {
	t.Helper()
	dir := t.TempDir()
	start := time.Now().Add(-160 * time.Second).UTC().Format(time.RFC3339Nano)
	text := `
clock: {epoch: 2026-06-21T08:00:00Z, start: ` + start + `, rate: 90}
refresh: 180s
seed: 42
weather: {cloudiness: 0.2}
modbus: {listen: 127.0.0.1:0}
mqtt: ` + mqtt + `
homes:
  - id: home-1
    load: {model: household, yearly_kwh: 3500}
    solar: {kwp: 6}
    battery: {kwh: 10, kw: 5}
    devices:
      - {role: grid, definition: eastron-sdm630, unit: 1}
      - {role: solar, definition: sunspec-meter, unit: 2}
      - {role: battery, definition: tasmota, topic: home-1-battery}
  - id: home-2
    load: {model: household, yearly_kwh: 2500}
    solar: {kwp: 4}
    devices:
      - {role: grid, definition: shelly-gen2, topic: shelly-home-2}
      - {role: solar, definition: commonwatt-signed, topic: home-2-sun, key: sun.seed}
`
	file := filepath.Join(dir, "street.yaml")
	for name, content := range map[string]string{file: text, filepath.Join(dir, "sun.seed"): strings.Repeat("5a", 32)} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

// startServing runs a street inside the test and waits until it is ready.
func startServing(t *testing.T, file string) ready {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, files{config: file}, in, slog.New(slog.NewTextHandler(t.Output(), nil)))
		in.Close()
	}()
	t.Cleanup(func() {
		cancel()
		begin := time.Now()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
		if took := time.Since(begin); took > 3*time.Second { // a second, and what a busy machine adds
			t.Errorf("it took %v to end", took)
		}
		out.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	var r ready
	if err := json.NewDecoder(out).Decode(&r); err != nil || !r.Ready {
		t.Fatalf("not ready: %v", err)
	}
	return r
}

func get(t *testing.T, address, path string, into any) {
	t.Helper()
	response, err := http.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", path, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// TestReadersAgree reads every kind of device that room meter has a definition of,
// by that definition, and compares with what the device itself counted.
func TestReadersAgree(t *testing.T) {
	r := startServing(t, everyKind(t))
	var homes []control.Home
	get(t, r.Control, "/homes", &homes)
	for _, h := range homes {
		for _, d := range h.Devices {
			t.Run(d.Definition+" "+h.ID, func(t *testing.T) {
				t.Parallel()
				compareWithReader(t, r.Control, h.ID, d)
			})
		}
	}
}

// everyKind writes a street with a home for each kind that room meter can read.
func everyKind(t *testing.T) string {
	t.Helper()
	definitions, err := def.Load("")
	if err != nil {
		t.Fatal(err)
	}
	file := streetFile(t, "{listen: 127.0.0.1:0}")
	head, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(head), "homes:")
	text += "homes:\n"
	homes := 0
	for i, d := range definitions {
		kind, ok := device.Lookup(d.ID)
		if !ok || kind.Obeys() {
			continue
		}
		homes++
		reach := map[device.Protocol]string{
			device.Modbus: fmt.Sprintf("unit: %d", i+1), device.MQTT: "topic: " + d.ID,
			device.P1: "listen: 127.0.0.1:0", device.HTTP: "listen: 127.0.0.1:0",
		}[kind.Protocol]
		if kind.Signs {
			reach += ", key: sun.seed"
		}
		const home = "  - {id: home-%d%s, load: {model: household, yearly_kwh: 3500}, solar: {kwp: 6}, devices: [{role: grid, definition: %s, %s}]}\n"
		text += fmt.Sprintf(home, i, "", d.ID, reach)
		if kind.Pages && d.HTTP != nil {
			text += fmt.Sprintf(home, i, "-pages", d.ID, "listen: 127.0.0.1:0")
		}
	}
	if homes < 6 {
		t.Fatalf("only %d kinds have a definition", homes)
	}
	every := filepath.Join(filepath.Dir(file), "every.yaml")
	if err := os.WriteFile(every, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return every
}

func compareWithReader(t *testing.T, address, home string, d control.Device) {
	t.Helper()
	c := meter.Config{Definition: d.Definition, Address: d.Address}
	if d.Unit != nil {
		c.Unit = *d.Unit
	}
	source, err := meter.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	compared := 0
	for compared < 3 { // over at least two refreshes for those that publish
		var before, after control.Counters
		path := "/homes/" + home + "/counters?role=" + d.Role
		sample, err := source.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		get(t, address, path, &after)
		// A sample of the refresh before, since a new one came in between, is
		// compared with that one.
		get(t, address, path+"&at="+after.RefreshedAt.Add(-time.Second).Format(time.RFC3339), &before)
		if sample.ImportWh == nil || sample.ExportWh == nil || sample.PowerW == nil {
			t.Fatalf("got %+v", sample)
		}
		got := [2]uint64{*sample.ImportWh, *sample.ExportWh}
		if got != [2]uint64{after.ImportWh, after.ExportWh} && got != [2]uint64{before.ImportWh, before.ExportWh} {
			t.Fatalf("read %v, the device counted %+v and before that %+v", got, after, before)
		}
		compared++
		signs := d.Definition == "commonwatt-signed"
		if signs != (sample.Signed != nil) {
			t.Errorf("signed: %t, want %t", sample.Signed != nil, signs)
		}
		if d.Role == "solar" && *sample.PowerW > 0 {
			t.Errorf("a producing solar meter has %d W, want a negative power", *sample.PowerW)
		}
	}
}

// TestNamedBroker publishes to a broker that runs already: here the one of
// another street.
func TestNamedBroker(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other.yaml")
	text := strings.Replace(exampleConfig, "start: 2026-06-21T08:00:00Z", "start: "+time.Now().UTC().Format(time.RFC3339), 1)
	if err := os.WriteFile(other, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	running := startServing(t, other)
	r := startServing(t, streetFile(t, "{broker: mqtt://"+running.MQTT+"}"))
	if r.MQTT != running.MQTT {
		t.Errorf("ready with broker %s, want %s", r.MQTT, running.MQTT)
	}
	var homes []control.Home
	get(t, r.Control, "/homes", &homes)
	signed := homes[1].Devices[1]
	if want := "mqtt://" + running.MQTT + "/home-2-sun"; signed.Address != want {
		t.Errorf("address %s, want %s", signed.Address, want)
	}
	compareWithReader(t, r.Control, homes[1].ID, signed)
}

// program is a firmware-sim process of its own.
func program(t *testing.T, file string) (*exec.Cmd, ready) {
	t.Helper()
	command := exec.Command(os.Args[0], "run", "--config", file)
	// The race detector's own second at the end is not ours.
	command.Env = append(os.Environ(), asProgram+"=1", "GORACE=atexit_sleep_ms=0")
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = t.Output()
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		http.DefaultClient.CloseIdleConnections()
	})
	var r ready
	if err := json.NewDecoder(out).Decode(&r); err != nil || !r.Ready {
		t.Fatalf("not ready: %v", err)
	}
	return command, r
}

// TestKilledAndRestarted: after kill -9 the meters show what they would have
// shown, for the past and from then on.
func TestKilledAndRestarted(t *testing.T) {
	file := streetFile(t, "{listen: 127.0.0.1:0}")
	command, r := program(t, file)
	paths := []string{}
	for _, meter := range []string{"home-1/counters?role=grid", "home-1/counters?role=solar", "home-1/counters?role=battery", "home-2/counters?role=grid"} {
		for _, at := range []string{"08:00:00", "09:30:00", "11:59:59"} {
			paths = append(paths, "/homes/"+meter+"&at=2026-06-21T"+at+"Z")
		}
	}
	ask := func() (all []control.Counters) {
		for _, path := range paths {
			var c control.Counters
			get(t, r.Control, path, &c)
			all = append(all, c)
		}
		return all
	}
	before := ask()
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait()
	command, r = program(t, file)
	if diff := cmp.Diff(before, ask()); diff != "" {
		t.Error(diff)
	}
	begin := time.Now()
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); err != nil {
		t.Errorf("ended with %v, want status 0", err)
	}
	if took := time.Since(begin); took > 3*time.Second { // a second, and what a busy machine adds
		t.Errorf("it took %v to end", took)
	}
}

// TestStatus: 2 is for mistakes of the user, 1 for what failed.
func TestStatus(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("homs: []"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want int
	}{
		{nil, 0},
		{[]string{"version"}, 0},
		{[]string{"rum"}, exitUsage},
		{[]string{"run"}, exitUsage},
		{[]string{"run", "--confg", "x"}, exitUsage},
		{[]string{"run", "--config", bad}, exitUsage},
		{[]string{"run", "--config", bad + ".none"}, exitFailed},
	} {
		var stdout, stderr bytes.Buffer
		if got := run(c.args, &stdout, &stderr); got != c.want {
			t.Errorf("%q: status %d, want %d: %s", c.args, got, c.want, &stderr)
		}
		if (stdout.Len() != 0) != (c.want == 0) || (stderr.Len() != 0) != (c.want != 0) {
			t.Errorf("%q: stdout %q, stderr %q", c.args, &stdout, &stderr)
		}
	}
}

// TestExampleServes: what firmware-sim example prints is a street.
func TestExampleServes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "street.yaml")
	// A street that begins now, so that this test does not grow with the years.
	now := time.Now().UTC().Format(time.RFC3339)
	text := strings.Replace(exampleConfig, "start: 2026-06-21T08:00:00Z", "start: "+now, 1)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startServing(t, file)
	var homes []control.Home
	get(t, r.Control, "/homes", &homes)
	if len(homes) != 3 {
		t.Errorf("got %+v", homes)
	}
}

// TestPortInUse: the message says which port, who has it, what to do.
func TestPortInUse(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	address := listener.Addr().String()
	file := streetFile(t, "{listen: '"+address+"'}")
	var stdout, stderr bytes.Buffer
	if status := run([]string{"run", "--config", file, "--log-level", "error"}, &stdout, &stderr); status != exitFailed {
		t.Errorf("status %d, want %d", status, exitFailed)
	}
	want := "firmware-sim: mqtt.listen: address " + address + " is in use by "
	if got := stderr.String(); !strings.HasPrefix(got, want) || !strings.Contains(got, "(process "+strconv.Itoa(os.Getpid())+"): end that, or set mqtt.listen") {
		t.Errorf("got %s", got)
	}
	if stdout.Len() != 0 {
		t.Errorf("said %s", &stdout)
	}
}

// TestMbpollReadsTheMeter is an outsider on a whole street: float registers of
// the SDM630.
func TestMbpollReadsTheMeter(t *testing.T) {
	path, err := exec.LookPath("mbpoll")
	if err != nil {
		t.Fatal("mbpoll is missing: install the Debian package mbpoll")
	}
	r := startServing(t, streetFile(t, "{listen: 127.0.0.1:0}"))
	host, port, err := net.SplitHostPort(r.Modbus)
	if err != nil {
		t.Fatal(err)
	}
	// mbpoll counts from 1, so 0x48 is 73; -B: high word first.
	out, err := exec.CommandContext(t.Context(), path, "-m", "tcp", "-p", port, "-a", "1", "-t", "3:float", "-B", "-r", "73", "-c", "1", "-1", host).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var c control.Counters
	get(t, r.Control, "/homes/home-1/counters", &c)
	_, value, _ := strings.Cut(string(out), "[73]:")
	kwh, err := strconv.ParseFloat(strings.Fields(value)[0], 64)
	if difference := kwh*1000 - float64(c.ImportWh); err != nil || difference > 10 || difference < -1000 { // six digits; a refresh later
		t.Errorf("mbpoll reads %v kWh, the meter counted %d Wh: %v", kwh, c.ImportWh, err)
	}
}
