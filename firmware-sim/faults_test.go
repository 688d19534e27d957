package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/firmware-sim/control"
	"github.com/commonwatt/commonwatt/firmware-sim/fault"
	"github.com/commonwatt/commonwatt/firmware-sim/wire"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// ask sends a request that changes something and decodes the answer.
func askControl(t *testing.T, method, address, path, body string, want int, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+address+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != want {
		t.Fatalf("%s %s %s: %s %s, %v", method, path, body, response.Status, text, err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// scene is a street with one fault at a time, watched by naive readers.
type scene struct {
	t     *testing.T
	ready ready
	fault string
	more  string // keys of the rule
	b     strings.Builder
}

func (s *scene) note(format string, args ...any) { fmt.Fprintf(&s.b, format+"\n", args...) }

func (s *scene) start(home, role, transport string) (f control.Fault) {
	s.t.Helper()
	body := fmt.Sprintf(`{"fault":%q%s`, s.fault, s.more)
	for _, key := range [][2]string{{"home", home}, {"role", role}, {"transport", transport}} {
		if key[1] != "" {
			body += fmt.Sprintf(`,%q:%q`, key[0], key[1])
		}
	}
	askControl(s.t, http.MethodPost, s.ready.Control, "/faults", body+"}", http.StatusCreated, &f)
	return f
}

func (s *scene) end(f control.Fault) {
	s.t.Helper()
	askControl(s.t, http.MethodDelete, s.ready.Control, fmt.Sprintf("/faults/%d", f.ID), "", http.StatusOK, &f)
}

func (s *scene) advance() { move(s.t, s.ready.Control, `{"advance":"3m"}`) }

// struck waits until the fault has had an answer.
func (s *scene) struck(f control.Fault) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		var list []control.Fault
		get(s.t, s.ready.Control, "/faults", &list)
		if list[f.ID-1].Hits > 0 {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s never struck", f.Fault)
		}
	}
}

// slowest is how long the fault holds answers back at least.
func (s *scene) slowest() time.Duration {
	switch s.fault {
	case "late":
		return 30 * time.Millisecond
	case "split":
		return 2 * time.Millisecond
	default:
		return 0
	}
}

// registers reads two registers of unit 1 while the fault is there, and one
// afterwards: what comes before the second answer is the fault's.
func (s *scene) registers(transport wire.Transport, dial func() stream) {
	t := s.t
	t.Helper()
	line := dial()
	first, second := []byte{3, 0x9C, 0x40 + 108, 0, 4}, []byte{3, 0x9C, 0x40, 0, 1} // 40108: exported; 40000: "Su"
	frame := func(id uint16, pdu []byte) []byte {
		if transport == wire.RTU || transport == wire.RTUOverTCP {
			return asRTU(1, pdu)
		}
		return asTCP(id, 1, pdu)
	}
	last := frame(0x0B0B, []byte{3, 2, 0x53, 0x75})
	if _, err := line.Write(frame(0x0A0A, first)); err != nil {
		t.Fatal(err)
	}
	honest := readAtLeast(t, line, len(frame(0, make([]byte, 10))))
	f := s.start("home-1", "grid", string(transport))
	begin := time.Now()
	if _, err := line.Write(frame(0x0A0B, first)); err != nil {
		t.Fatal(err)
	}
	s.struck(f)
	s.end(f)
	if _, err := line.Write(frame(0x0B0B, second)); err != nil && s.fault != "close" {
		t.Fatal(err)
	}
	got, closed := readUntil(t, line, last)
	if took := time.Since(begin); took < s.slowest() {
		t.Errorf("%s: the answer came after %v", transport, took)
	}
	s.note("%s: honest %x", transport, honest)
	s.note("%s: struck %x, connection closed: %t", transport, bytes.TrimSuffix(got, last), closed)
}

// telegrams takes what comes between the refresh at which the fault is there and
// the next one's telegram.
func (s *scene) telegrams(transport wire.Transport, line stream) {
	t := s.t
	t.Helper()
	telegram := func() string {
		got, _ := readUntil(t, line, []byte("\r\n!"))
		return string(append(got, readAtLeast(t, line, 6)...))
	}
	// stamp is the line of a telegram that is made now: June in the Netherlands.
	stamp := func() []byte {
		var c control.Clock
		get(t, s.ready.Control, "/clock", &c)
		return []byte("0-0:1.0.0(" + c.CommunityTime.Add(2*time.Hour).Format("060102150405") + "S)\r\n")
	}
	if transport == wire.P1TCP {
		telegram() // the greeting: from now on the server knows of us
	}
	s.advance()
	readUntil(t, line, stamp()) // whatever was on the line before
	honest := telegram()
	f := s.start("home-3", "grid", string(transport))
	s.advance()
	s.struck(f)
	s.end(f)
	s.advance()
	got, closed := readUntil(t, line, stamp())
	if !closed {
		got = append(got, telegram()...)
		got = got[:bytes.LastIndexByte(got, '/')]
	}
	s.note("%s: honest %q", transport, honest)
	s.note("%s: struck %q, connection closed: %t", transport, got, closed)
}

// subscription notes the messages from the refresh at which the fault is there
// until the next one's.
func (s *scene) subscription() {
	t := s.t
	t.Helper()
	lines := mosquittoSub(t, s.ready.MQTT, "-t", "tele/home-2/#")
	for !strings.Contains(nextLine(t, lines), "LWT 1 Online") {
	}
	f := s.start("home-2", "grid", "mqtt")
	s.advance()
	s.struck(f)
	s.end(f)
	s.advance()
	var c control.Clock
	get(t, s.ready.Control, "/clock", &c)
	fence := c.CommunityTime.Format("2006-01-02T15:04:05")
	for {
		line := nextLine(t, lines)
		s.note("mqtt: %s", line)
		if strings.Contains(line, fence) {
			break
		}
	}
	s.advance() // what was held back comes with the next, if not before
	get(t, s.ready.Control, "/clock", &c)
	for fence = c.CommunityTime.Format("2006-01-02T15:04:05"); ; {
		line := nextLine(t, lines)
		s.note("mqtt: %s", line)
		if strings.Contains(line, fence) {
			return
		}
	}
}

// page asks for one while the fault is there.
func (s *scene) page() {
	t := s.t
	t.Helper()
	address := addressOf(t, s.ready, "home-2", "solar", "http")
	f := s.start("home-2", "solar", "http")
	conn := dialTCP(t, address)
	begin := time.Now()
	if _, err := io.WriteString(conn, pageRequest("/emeter/0")); err != nil {
		t.Fatal(err)
	}
	s.struck(f)
	s.end(f)
	if s.fault == "drop" { // it would never answer: the reader gives up first
		conn.Close()
		s.note("http: struck: silence")
		return
	}
	got := rawPage(t, conn)
	if took := time.Since(begin); took < s.slowest() {
		t.Errorf("the page came after %v", took)
	}
	s.note("http: struck %q", got)
}

// values notes what each kind of reader sees before, while and after the fault is
// there, and what the simulator says of the counters.
func (s *scene) values() {
	t := s.t
	t.Helper()
	modbus := dialTCP(t, s.ready.Modbus)
	port := dialTCP(t, addressOf(t, s.ready, "home-3", "grid", "p1+tcp"))
	lines := mosquittoSub(t, s.ready.MQTT, "-t", "tele/home-2/#")
	for !strings.Contains(nextLine(t, lines), "LWT 1 Online") {
	}
	read := func(unit byte, function byte, address, count uint16) string {
		pdu := []byte{function, byte(address >> 8), byte(address), byte(count >> 8), byte(count)}
		if _, err := modbus.Write(asTCP(1, unit, pdu)); err != nil {
			t.Fatal(err)
		}
		return hex.EncodeToString(readAtLeast(t, modbus, 9+2*int(count))[9:])
	}
	telegram := func() (kept []string) {
		got, _ := readUntil(t, port, []byte("\r\n!"))
		readAtLeast(t, port, 6)
		for line := range strings.Lines(string(got)) {
			for _, code := range []string{"0-0:1.0.0", "0-0:96.1.1", "1-0:1.", "1-0:2."} {
				if strings.HasPrefix(line, code) {
					kept = append(kept, strings.TrimSpace(line))
				}
			}
		}
		return kept
	}
	telegram() // the greeting
	look := func(when string) {
		s.advance()
		s.note("%s", when)
		s.note("  sunspec-meter exported %s imported %s scale %s serial %s", read(1, 3, 40070+38, 2), read(1, 3, 40070+46, 2), read(1, 3, 40070+54, 1), read(1, 3, 40052, 8))
		s.note("  eastron-sdm630 power %s counters %s serial %s", read(2, 4, 0x34, 2), read(2, 4, 0x48, 4), read(2, 3, 0xFC00, 2))
		s.note("  %s", nextLine(t, lines))
		for _, line := range telegram() {
			s.note("  %s", line)
		}
		s.note("  %s", strings.SplitN(fetchRaw(t, addressOf(t, s.ready, "home-2", "solar", "http"), "/status"), "\r\n\r\n", 2)[1])
		for _, path := range []string{"/homes/home-1/counters?role=grid", "/homes/home-1/counters?role=solar"} {
			var c control.Counters
			get(t, s.ready.Control, path, &c)
			text, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			s.note("  %s", text)
		}
	}
	look("before")
	f := s.start("", "", "")
	look("struck")
	look("still struck")
	s.end(f)
	look("after")
}

// special are the faults that need more than one of the readers above.
var special = map[string]func(*scene){
	"power-cut":      (*scene).powerCut,
	"broker-restart": (*scene).brokerRestart,
	"retained-stale": (*scene).retainedStale,
}

// powerCut: silence on Modbus, the will on MQTT, connections that break on HTTP
// and P1.
func (s *scene) powerCut() {
	t := s.t
	t.Helper()
	s.kept()
	lines := mosquittoSub(t, s.ready.MQTT, "-t", "tele/home-2/#")
	// next passes over the reading with which the street began: it comes before the
	// subscription or after it.
	next := func() string {
		line := nextLine(t, lines)
		for strings.Contains(line, `"Time":"2026-06-21T08:00:00"`) {
			line = nextLine(t, lines)
		}
		return line
	}
	s.note("mqtt: %s", next())
	port := dialTCP(t, addressOf(t, s.ready, "home-3", "grid", "p1+tcp"))
	readUntil(t, port, []byte("\r\n!"))
	modbus := dialTCP(t, s.ready.Modbus)
	f := s.start("", "", "")
	s.note("mqtt: %s", next()) // the broker's word
	if _, err := modbus.Write(asTCP(1, 1, []byte{3, 0x9C, 0x40, 0, 1})); err != nil {
		t.Fatal(err)
	}
	s.struck(f)
	s.advance()
	_, closed := readUntil(t, port, []byte("\x00 never"))
	s.note("p1-tcp: closed: %t", closed)
	s.note("http: %q", fetchRaw(t, addressOf(t, s.ready, "home-2", "solar", "http"), "/status"))
	s.end(f)
	if _, err := modbus.Write(asTCP(2, 1, []byte{3, 0x9C, 0x40, 0, 1})); err != nil {
		t.Fatal(err)
	}
	s.note("modbus-tcp: the first answer is %x", readAtLeast(t, modbus, 11))
	s.note("mqtt: %s", next()) // it is back
	s.note("mqtt: %s", next())
}

// kept is what the broker keeps of home-2's being there. Who subscribes before the meter has
// said it gets it without the mark of a kept message, and asks again.
func (s *scene) kept() string {
	for {
		line := nextLine(s.t, mosquittoSub(s.t, s.ready.MQTT, "-t", "tele/home-2/LWT", "-C", "1"))
		if strings.HasPrefix(line, "tele/home-2/LWT 1 ") {
			return line
		}
	}
}

func (s *scene) brokerRestart() {
	t := s.t
	t.Helper()
	s.note("before: [%s]", s.kept())
	f := s.start("", "", "")
	conn, err := net.Dial("tcp", s.ready.MQTT)
	if err == nil {
		conn.Close()
	}
	s.note("struck: nobody listens: %t", err != nil)
	var c control.Clock
	askControl(t, http.MethodPost, s.ready.Control, "/clock", `{"advance":"3m"}`, http.StatusOK, &c)
	s.note("struck: sent %d, lost %d", *c.Sent, *c.Lost)
	s.end(f)
	askControl(t, http.MethodPost, s.ready.Control, "/clock", `{"advance":"3m"}`, http.StatusOK, &c)
	s.note("after: sent %d, lost %d", *c.Sent, *c.Lost)
	s.note("after: [%s]", s.kept())
}

func (s *scene) retainedStale() {
	t := s.t
	t.Helper()
	s.kept()
	move(t, s.ready.Control, `{"advance":"2h"}`)
	first := func() string {
		lines := mosquittoSub(t, s.ready.MQTT, "-t", "tele/home-2/#")
		list := []string{nextLine(t, lines)}
		if s.advance(); strings.Contains(list[0], "SENSOR") || strings.Contains(list[0], "LWT") {
			for !strings.Contains(list[len(list)-1], "SENSOR 0") {
				list = append(list, nextLine(t, lines))
			}
		}
		slices.Sort(list)
		return strings.Join(list, "\n  ")
	}
	s.note("before:\n  %s", first())
	f := s.start("home-2", "grid", "")
	s.note("struck:\n  %s", first())
	s.end(f)
	s.note("after:\n  %s", first())
}

// parameters make faults quick to see.
var parameters = map[string]string{
	"late":  `,"parameters":{"by":"30ms"}`,
	"split": `,"parameters":{"pause":"1ms"}`,
	"wrap":  `,"parameters":{"margin_wh":"10"}`,
	"short": `,"parameters":{"by":"2"}`,
	"long":  `,"parameters":{"by":"2"}`,
}

// TestFaults: a naive reader of each transport sees each fault, just that, and
// sees nothing of it afterwards. A row of the table without a golden file fails.
func TestFaults(t *testing.T) {
	seen := map[string]bool{}
	for _, kind := range fault.Kinds() {
		seen[kind.Name+".txt"] = true
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			s := &scene{t: t, ready: startServing(t, wholeStreet(t)), fault: kind.Name, more: parameters[kind.Name]}
			s.watch(kind)
			golden := filepath.Join("testdata", "faults", kind.Name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(s.b.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("%v: run this test with -update, and look at what it wrote", err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(s.b.String(), "\n")); diff != "" {
				t.Error(diff)
			}
		})
	}
	files, err := os.ReadDir(filepath.Join("testdata", "faults"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !seen[f.Name()] {
			t.Errorf("testdata/faults/%s is of no fault, want one of %v", f.Name(), slices.Sorted(maps.Keys(seen)))
		}
	}
}

func (s *scene) watch(kind fault.Kind) {
	s.t.Helper()
	if do, ok := special[kind.Name]; ok {
		do(s)
		return
	}
	if len(kind.Transports) == 0 {
		s.values()
		return
	}
	for _, transport := range kind.Transports {
		switch transport {
		case wire.TCP:
			s.registers(transport, func() stream { return dialTCP(s.t, s.ready.Modbus) })
		case wire.TLS:
			s.registers(transport, func() stream { return dialTLS(s.t, s.ready.ModbusTLS) })
		case wire.RTUOverTCP:
			s.registers(transport, func() stream { return dialTCP(s.t, s.ready.RTUOverTCP) })
		case wire.RTU:
			s.registers(transport, func() stream { return openLine(s.t, s.ready.RTU) })
		case wire.P1TCP:
			s.telegrams(transport, dialTCP(s.t, addressOf(s.t, s.ready, "home-3", "grid", "p1+tcp")))
		case wire.P1Serial:
			s.telegrams(transport, pumped(s.t, openLine(s.t, s.ready.P1["home-3/grid"])))
		case wire.MQTT:
			s.subscription()
		case wire.HTTP:
			s.page()
		}
	}
}
