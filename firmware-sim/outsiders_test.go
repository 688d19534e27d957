package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/firmware-sim/control"
)

// TestMbpollOnEveryDoor reads a counter of float32 kWh with mbpoll by TCP and on
// the pseudo-terminal, there by its link, from two units of one line.
func TestMbpollOnEveryDoor(t *testing.T) {
	path, err := exec.LookPath("mbpoll")
	if err != nil {
		t.Fatal("mbpoll is missing: install the Debian package mbpoll")
	}
	file := wholeStreet(t)
	r := startServing(t, file)
	host, port, err := net.SplitHostPort(r.Modbus)
	if err != nil {
		t.Fatal(err)
	}
	poll := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), path, append([]string{"-1", "-o", "5"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("mbpoll %v: %v: %s", args, err, out)
		}
		_, value, _ := strings.Cut(string(out), "]:")
		return strings.Fields(value)[0]
	}
	link := filepath.Join(filepath.Dir(file), "line")
	for _, door := range [][]string{{"-m", "tcp", "-p", port, host}, {"-m", "rtu", "-b", "9600", "-P", "none", link}} {
		address := door[len(door)-1]
		with := func(args ...string) string {
			return poll(slices.Concat(door[:len(door)-1], args, []string{address})...)
		}
		var solar, grid control.Counters
		get(t, r.Control, "/homes/home-1/counters?role=solar", &solar)
		get(t, r.Control, "/homes/home-1/counters?role=grid", &grid)
		kwh, err := strconv.ParseFloat(with("-a", "2", "-t", "3:float", "-B", "-r", "73", "-c", "1"), 64) // counts from 1; high word first
		if difference := kwh*1000 - float64(solar.ImportWh); err != nil || difference > 10 || difference < -10 {
			t.Errorf("%v: %v kWh, the meter counted %d Wh: %v", door, kwh, solar.ImportWh, err)
		}
		if got := with("-a", "1", "-t", "4:int", "-B", "-r", "40117", "-c", "1"); got != strconv.FormatUint(grid.ImportWh, 10) {
			t.Errorf("%v: imported %s Wh, the meter counted %d", door, got, grid.ImportWh)
		}
	}
	if to, err := os.Readlink(link); err != nil || to != r.RTU {
		t.Errorf("the link goes to %s, %v, the ready line says %s", to, err, r.RTU)
	}
}

// TestPlainReaderOfP1: whoever connects gets whole telegrams, whose CRC a second
// implementation finds right, with the counters that the meter has.
func TestPlainReaderOfP1(t *testing.T) {
	r := startServing(t, wholeStreet(t))
	line := dialTCP(t, addressOf(t, r, "home-3", "grid", "p1+tcp"))
	for range 20 {
		text, _ := readUntil(t, line, []byte("\r\n!"))
		end := string(readAtLeast(t, line, 6))
		if want := fmt.Sprintf("%04X\r\n", crcModbus(text, 0)); end != want {
			t.Fatalf("CRC %q, want %q, of %q", end, want, text)
		}
		wh := func(code string) (sum uint64) {
			for _, tariff := range []string{"1", "2"} {
				_, value, _ := bytes.Cut(text, []byte("1-0:"+code+"."+tariff+"("))
				digits := strings.ReplaceAll(string(value[:10]), ".", "")
				n, err := strconv.ParseUint(digits, 10, 64)
				if err != nil {
					t.Fatalf("%q: %v", text, err)
				}
				sum += n
			}
			return sum
		}
		var c control.Counters
		get(t, r.Control, "/homes/home-3/counters", &c)
		if wh("1.8") != c.ImportWh || wh("2.8") != c.ExportWh {
			t.Errorf("%d and %d Wh, the meter counted %+v", wh("1.8"), wh("2.8"), c)
		}
		move(t, r.Control, `{"advance":"3m"}`)
	}
}

// TestBrokerWithLoginAndTLS: mosquitto_sub gets in with the password and the
// certificate's authority, and not without.
func TestBrokerWithLoginAndTLS(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir)
	file := filepath.Join(dir, "street.yaml")
	for name, text := range map[string]string{
		"password": "open sesame\n",
		"street.yaml": `
clock: {manual: true, epoch: 2026-06-21T08:00:00Z}
mqtt: {tls: {listen: 127.0.0.1:0, cert: cert.pem, key: key.pem, client_ca: cert.pem}, user: reader, password_file: password}
homes:
  - id: home-1
    load: {model: household, yearly_kwh: 3500}
    devices: [{role: grid, definition: tasmota, topic: home-1}]
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := startServing(t, file)
	if r.MQTT != "" {
		t.Errorf("the devices' own listener %s is told", r.MQTT)
	}
	if got, want := addressOf(t, r, "home-1", "grid", "mqtts"), r.MQTTS+"/home-1"; got != want {
		t.Errorf("address %s, want %s", got, want)
	}
	pem := []string{"--cafile", filepath.Join(dir, "cert.pem"), "--cert", filepath.Join(dir, "cert.pem"), "--key", filepath.Join(dir, "key.pem"), "-t", "tele/#"}
	lines := mosquittoSub(t, r.MQTTS, append(slices.Clone(pem), "-u", "reader", "-P", "open sesame")...)
	if got := nextLine(t, lines); got != "tele/home-1/LWT 1 Online" {
		t.Errorf("got %s", got)
	}
	move(t, r.Control, `{"advance":"3m"}`)
	if got := nextLine(t, lines); !strings.Contains(got, `SENSOR 0 {"Time":"2026-06-21T08:03:00"`) {
		t.Errorf("got %s", got)
	}
	for name, args := range map[string][]string{
		"another password": append(slices.Clone(pem), "-u", "reader", "-P", "sesame"),
		"nobody":           pem,
		"no certificate":   {"--cafile", filepath.Join(dir, "cert.pem"), "-t", "tele/#", "-u", "reader", "-P", "open sesame"},
	} {
		host, port, err := net.SplitHostPort(r.MQTTS)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "mosquitto_sub", append([]string{"-h", host, "-p", port, "-W", "10", "-C", "1"}, args...)...).CombinedOutput()
		if err == nil || strings.Contains(string(out), "Online") {
			t.Errorf("%s: was let in: %s", name, out)
		}
	}
}
