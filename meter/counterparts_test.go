package meter_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
)

// need fails a test that cannot run without an independent program. It does not skip: a test that did not run is no
// proof.
func need(tb testing.TB, program, debianPackage string) string {
	tb.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if path = filepath.Join("/usr/sbin", program); fileExists(path) {
			return path
		}
		tb.Fatalf("%s is missing: apt-get install %s", program, debianPackage)
	}
	return path
}

// run runs a program of another project to its end.
func run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// libmodbusServer compiles and starts the server of testdata with the registers of a definition's test vector as unit
// 1, and returns its address.
func libmodbusServer(t *testing.T, d meter.Definition, vector string) string {
	t.Helper()
	for _, v := range d.Tests {
		if v.Name == vector {
			return registerServer(t, libmodbusProgram(t), registerLines(1, v))
		}
	}
	t.Fatalf("definition %s has no vector %q", d.ID, vector)
	return ""
}

// libmodbusProgram compiles the server of testdata.
func libmodbusProgram(t *testing.T) string {
	t.Helper()
	need(t, "gcc", "gcc")
	need(t, "pkg-config", "pkg-config")
	flags, err := exec.CommandContext(t.Context(), "pkg-config", "--cflags", "--libs", "libmodbus").Output()
	if err != nil {
		t.Fatalf("libmodbus is missing: apt-get install libmodbus-dev (%v)", err)
	}
	binary := filepath.Join(t.TempDir(), "server")
	args := append([]string{"-Wall", "-Werror", "-o", binary, filepath.Join("testdata", "libmodbus_server.c")}, strings.Fields(string(flags))...)
	run(t, "gcc", args...)
	return binary
}

// registerLines is a vector as the servers of testdata read it.
func registerLines(unit int, v def.Vector) string {
	var lines strings.Builder
	for _, r := range v.Registers {
		fmt.Fprintf(&lines, "%d %d %d %s\n", unit, r.Function, r.Address, strings.Join(strings.Fields(r.Words), " "))
	}
	return lines.String()
}

// registerServer starts a server that is not ours with the registers, and returns its address.
func registerServer(t *testing.T, program string, lines string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...) // ends with its standard input
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", program, err, stderr.String())
		}
	})
	if _, err := io.WriteString(stdin, lines+"\n"); err != nil {
		t.Fatal(err)
	}
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("%s does not start: %v\n%s", program, err, stderr.String())
	}
	return "127.0.0.1:" + strings.TrimSpace(port)
}

// TestLibmodbus reads both Modbus definitions from a server that is not ours, twice on one connection.
func TestLibmodbus(t *testing.T) {
	for _, c := range []struct {
		id, vector          string
		importWh, exportWh  uint64
		powerW              int64
		maker, model, seria string
	}{
		{"eastron-sdm630", "a home that exports 1831.5 W", 12302420, 4728460, -1832, "Eastron", "SDM630", "20000001"},
		{"sunspec-meter", "common model of 66 registers at 40000", 12302420, 4728460, -732, "Sunny Meters", "SM-3P", "0123456789"},
		{"sunspec-meter", "common model of 65 registers, tenths of a watt, tens of Wh, at 0", 12302420, 0, 440, "Sunny Meters", "SM-3P", "0123456789"},
	} {
		t.Run(c.id+" "+c.vector, func(t *testing.T) {
			d, err := meter.FindDefinition("", c.id)
			if err != nil {
				t.Fatal(err)
			}
			host := libmodbusServer(t, d, c.vector)
			source, err := meter.Open(t.Context(), meter.Config{Definition: c.id, Address: "tcp://" + host, Now: func() time.Time { return noon }})
			if err != nil {
				t.Fatal(err)
			}
			defer source.Close()
			for range 2 {
				s, err := source.Read(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if s.ImportWh == nil || s.ExportWh == nil || s.PowerW == nil || *s.ImportWh != c.importWh || *s.ExportWh != c.exportWh || *s.PowerW != c.powerW {
					t.Errorf("got %s, expected %d, %d, %d", sampleText(t, s), c.importWh, c.exportWh, c.powerW)
				}
				if s.Quality != meter.Good || !s.At.Equal(noon) || s.Identity.Maker != c.maker || s.Identity.Model != c.model || s.Identity.Serial != c.seria {
					t.Errorf("got %s", sampleText(t, s))
				}
			}
			identity, err := source.Identity(t.Context())
			if err != nil || identity.Serial != c.seria {
				t.Errorf("identity: got %+v, %v", identity, err)
			}
		})
	}
}

// TestMbpoll: mbpoll, which is not ours either, reads the same numbers from the registers as we do.
func TestMbpoll(t *testing.T) {
	mbpoll := need(t, "mbpoll", "mbpoll")
	d, err := meter.FindDefinition("", "eastron-sdm630")
	if err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(libmodbusServer(t, d, "a home that exports 1831.5 W"))
	if err != nil {
		t.Fatal(err)
	}
	for register, want := range map[string]string{"53": "-1831.5", "73": "12302.4", "75": "4728.46"} {
		out, err := exec.CommandContext(t.Context(), mbpoll, "-m", "tcp", "-p", port, "-a", "1", "-t", "3:float", "-B", "-r", register, "-c", "1", "-1", host).CombinedOutput()
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("register %s: %v, expected %s in\n%s", register, err, want, out)
		}
	}
}

// broker is a mosquitto of one's own that can be killed and started again on its port.
type broker struct {
	t    *testing.T
	port string
	cmd  *exec.Cmd
	log  bytes.Buffer
	rest chan struct{} // closed when the rest of its messages was read away
	conf string
}

func newBroker(t *testing.T, config string) *broker {
	t.Helper()
	need(t, "mosquitto", "mosquitto")
	need(t, "mosquitto_pub", "mosquitto-clients")
	b := &broker{t: t, port: freePort(t), conf: filepath.Join(t.TempDir(), "mosquitto.conf")}
	if err := os.WriteFile(b.conf, []byte("user root\nlistener "+b.port+" 127.0.0.1\npersistence false\n"+config), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	t.Cleanup(b.kill)
	return b
}

// freePort finds a port below the range that the system hands out, so that no client takes it meanwhile.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(12000))
		if l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address); err == nil {
			_ = l.Close()
			return strings.TrimPrefix(address, "127.0.0.1:")
		}
	}
	t.Fatal("no free port between 20000 and 32000")
	return ""
}

func (b *broker) start() {
	b.t.Helper()
	b.cmd = exec.CommandContext(context.WithoutCancel(b.t.Context()), need(b.t, "mosquitto", "mosquitto"), "-c", b.conf)
	stderr, err := b.cmd.StderrPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		fmt.Fprintln(&b.log, lines.Text())
		if strings.Contains(lines.Text(), "running") {
			b.rest = make(chan struct{})
			go func() {
				defer close(b.rest)
				_, _ = io.Copy(io.Discard, stderr)
			}()
			return
		}
	}
	b.t.Fatalf("mosquitto does not start:\n%s", b.log.String())
}

func (b *broker) kill() {
	if b.cmd == nil {
		return
	}
	_ = b.cmd.Process.Kill()
	<-b.rest
	_ = b.cmd.Wait()
	b.cmd = nil
}

func (b *broker) publish(topic, payload string, more ...string) {
	b.t.Helper()
	args := append([]string{"-h", "127.0.0.1", "-p", b.port, "-t", topic, "-s"}, more...)
	cmd := exec.CommandContext(b.t.Context(), need(b.t, "mosquitto_pub", "mosquitto-clients"), args...)
	cmd.Stdin = strings.NewReader(payload)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("mosquitto_pub: %v\n%s", err, out)
	}
}

// readWhile publishes again and again until the source has read a sample: a subscription cannot be seen from outside.
func (b *broker) readWhile(source meter.Source, topic, payload string, more ...string) meter.Sample {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 30*time.Second)
	defer cancel()
	type result struct {
		s   meter.Sample
		err error
	}
	got := make(chan result, 1)
	go func() {
		s, err := source.Read(ctx)
		got <- result{s, err}
	}()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		b.publish(topic, payload, more...)
		select {
		case r := <-got:
			if r.err != nil {
				b.t.Fatal(r.err)
			}
			return r.s
		case <-ticker.C:
		}
	}
}

func sampleText(t *testing.T, s meter.Sample) string {
	t.Helper()
	data, err := s.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
