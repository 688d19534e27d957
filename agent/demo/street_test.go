package demo_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/demo"
)

// programsEnv tells a test that runs in namespaces of its own where the programs are.
const programsEnv = "COMMONWATT_TEST_PROGRAMS"

// programs are commonwatt and firmware-sim, built once for all tests.
var programs = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv(programsEnv); dir != "" {
		return dir, nil
	}
	dir, err := os.MkdirTemp("", "commonwatt-bin-")
	if err != nil {
		return "", err
	}
	for name, from := range map[string]string{"commonwatt": "../../agent", "firmware-sim": "../../firmware-sim"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), from)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // also under -race: as a gateway has it
		if out, err := cmd.CombinedOutput(); err != nil {
			return dir, fmt.Errorf("building %s: %w\n%s", name, err, out)
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := programs(); dir != "" && os.Getenv(programsEnv) == "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

func commonwatt(tb testing.TB) string {
	tb.Helper()
	dir, err := programs()
	if err != nil {
		tb.Fatal(err)
	}
	return filepath.Join(dir, "commonwatt")
}

// run is one start of the demonstration, as a person starts it.
type run struct {
	tb       testing.TB
	dir      string
	cmd      *exec.Cmd
	out, err bytes.Buffer
	ended    chan error
}

func start(tb testing.TB, dir string, args ...string) *run {
	tb.Helper()
	r := &run{tb: tb, dir: dir, ended: make(chan error, 1)}
	r.cmd = exec.Command(commonwatt(tb), append([]string{"demo", "--data", dir, "--output", "json"}, args...)...)
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.err
	if err := r.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() { r.ended <- r.cmd.Wait() }()
	tb.Cleanup(func() {
		_ = r.cmd.Process.Signal(syscall.SIGINT)
		select {
		case err := <-r.ended:
			r.ended <- err
		case <-time.After(time.Minute):
			_ = r.cmd.Process.Kill()
			tb.Error("the demonstration did not end within a minute of SIGINT")
		}
	})
	return r
}

// report waits for the end and reads what was printed.
func (r *run) report(limit time.Duration) *demo.Report {
	r.tb.Helper()
	select {
	case err := <-r.ended:
		r.ended <- nil
		if err != nil {
			r.tb.Fatalf("the demonstration: %v\n%s\n%s", err, r.err.String(), r.out.String())
		}
	case <-time.After(limit):
		r.tb.Fatalf("the demonstration did not end in %v", limit)
	}
	var report demo.Report
	dec := json.NewDecoder(&r.out)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&report); err != nil {
		r.tb.Fatal(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		r.tb.Fatal("stdout has more than one JSON object")
	}
	return &report
}

func (r *run) home(n int) string { return filepath.Join(r.dir, "homes", fmt.Sprintf("home-%d", n)) }

// page is where home n's agent.yaml says that its page is.
func (r *run) page(n int) (string, bool) {
	raw, err := os.ReadFile(filepath.Join(r.home(n), "agent.yaml"))
	if err != nil {
		return "", false
	}
	_, rest, ok := strings.Cut(string(raw), "\n  api: ")
	if !ok {
		return "", false
	}
	return "http://" + strings.Trim(strings.Fields(rest)[0], `"`), true
}

// ask gets one document of a home's API; ok is false if its agent does not answer.
func ask[T any](r *run, n int, path string) (v T, ok bool) {
	page, ok := r.page(n)
	if !ok {
		return v, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page+path, nil)
	if err != nil {
		r.tb.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return v, false
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || json.NewDecoder(res.Body).Decode(&v) != nil {
		return v, false
	}
	return v, true
}

func (r *run) height(n int) int64 {
	s, ok := ask[api.Status](r, n, "/api/status")
	if !ok || s.Ledger.Height == nil {
		return -1
	}
	return *s.Ledger.Height
}

// settled is the newest interval that home n shows as settled.
func (r *run) settled(n int) int64 {
	list, _ := ask[api.Intervals](r, n, "/api/intervals?limit=96")
	newest := int64(-1)
	for _, k := range list.Intervals {
		if k.State == api.StateSettled || k.State == api.StateSubstitute {
			newest = max(newest, k.Interval)
		}
	}
	return newest
}

func (r *run) meterState(n int) api.MeterState {
	s, _ := ask[api.Status](r, n, "/api/status")
	for _, m := range s.Meters {
		if m.Role == api.MeterConnection {
			return m.State
		}
	}
	return ""
}

// until waits for a condition.
func (r *run) until(what string, limit time.Duration, ok func() bool) {
	r.tb.Helper()
	deadline := time.Now().Add(limit)
	for tick := time.Tick(200 * time.Millisecond); !ok(); <-tick {
		if time.Now().After(deadline) {
			r.tb.Fatalf("after %v: not %s\n%s", limit, what, r.err.String())
		}
	}
}

// quarter is when the quarter of an hour began that home n is in; zero if it does not answer.
func (r *run) quarter(n int) time.Time {
	s, ok := ask[api.Status](r, n, "/api/status")
	if !ok {
		return time.Time{}
	}
	return s.At.Truncate(15 * time.Minute)
}

// kill ends a home's agent as a power cut does.
func (r *run) kill(n int) {
	r.tb.Helper()
	raw, err := os.ReadFile(filepath.Join(r.home(n), "agent.pid"))
	if err != nil {
		r.tb.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		r.tb.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		r.tb.Fatal(err)
	}
}

// mosquitto is the real broker; it is killed and started again on the same port.
type mosquitto struct {
	tb   testing.TB
	port int
	cmd  *exec.Cmd
}

func startMosquitto(tb testing.TB) *mosquitto {
	tb.Helper()
	if _, err := exec.LookPath("mosquitto"); err != nil {
		tb.Fatal("mosquitto is not installed: apt-get install mosquitto")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	m := &mosquitto{tb: tb, port: l.Addr().(*net.TCPAddr).Port}
	if err := l.Close(); err != nil {
		tb.Fatal(err)
	}
	m.start()
	tb.Cleanup(m.kill)
	return m
}

func (m *mosquitto) start() {
	m.tb.Helper()
	m.cmd = exec.Command("mosquitto", "-p", strconv.Itoa(m.port))
	if err := m.cmd.Start(); err != nil {
		m.tb.Fatal(err)
	}
}

func (m *mosquitto) kill() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
		m.cmd = nil
	}
}

func (m *mosquitto) url() string { return "mqtt://127.0.0.1:" + strconv.Itoa(m.port) }

// quoted is text as JavaScript has it.
func quoted(text string) string {
	raw, err := json.Marshal(text)
	if err != nil {
		panic(err) // a string always has a JSON form
	}
	return string(raw)
}
