package meter_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter"
)

// telegram is that of a vector of dsmr-p1, with line ends as on the wire.
func telegram(t *testing.T, vector string) []byte {
	t.Helper()
	d, err := meter.FindDefinition("", "dsmr-p1")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range d.Tests {
		if v.Name == vector {
			return []byte(strings.ReplaceAll(v.Telegram, "\n", "\r\n"))
		}
	}
	t.Fatalf("dsmr-p1 has no vector %q", vector)
	return nil
}

const exporting = "exporting: import and export power are two numbers"

func openP1(t *testing.T, address string, change func(*meter.Config)) meter.Source {
	t.Helper()
	c := meter.Config{Definition: "dsmr-p1", Address: address, Now: func() time.Time { return noon }}
	if change != nil {
		change(&c)
	}
	source, err := meter.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = source.Close() })
	return source
}

// checkExporting reads the sample of the vector.
func checkExporting(t *testing.T, source meter.Source, quality meter.Quality) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := source.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if s.ImportWh == nil || *s.ImportWh != 6825 || s.ExportWh == nil || *s.ExportWh != 1237011 || s.PowerW == nil || *s.PowerW != -3107 || s.Quality != quality || !s.At.Equal(noon) {
		t.Errorf("got %s", sampleText(t, s))
	}
	if s.DeviceAt == nil || !s.DeviceAt.Equal(time.Date(2025, 1, 10, 11, 15, 30, 0, time.UTC)) || s.Identity.Serial != "E0031000012345678" || s.Source != "dsmr-p1@1" {
		t.Errorf("got %s", sampleText(t, s))
	}
}

// TestP1Socat: socat, which is not ours, is the serial line and the network behind it: telegrams that a person's shell
// writes into a pseudo-terminal arrive through TCP and from the line itself.
func TestP1Socat(t *testing.T) {
	socat := need(t, "socat", "socat")
	dir := t.TempDir()
	meterEnd, ourEnd := filepath.Join(dir, "meter"), filepath.Join(dir, "ours")
	start := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), socat, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	}
	start("pty,raw,echo=0,link="+meterEnd, "pty,raw,echo=0,link="+ourEnd)
	port := freePort(t)
	file := filepath.Join(dir, "telegrams")
	raw := telegram(t, exporting)
	if err := os.WriteFile(file, append(raw[len(raw)/2:], raw...), 0o600); err != nil {
		t.Fatal(err)
	}
	start("TCP-LISTEN:"+port+",bind=127.0.0.1,reuseaddr,fork", "OPEN:"+file+",rdonly")
	checkExporting(t, openP1(t, "p1+tcp://127.0.0.1:"+port, nil), meter.Good)

	line := openP1(t, "p1://"+ourEnd+"?baud=9600&bits=7&parity=E", nil)
	got := make(chan struct{})
	go func() {
		defer close(got)
		checkExporting(t, line, meter.Good)
	}()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-got:
			return
		case <-ticker.C: // a line keeps what comes before it is opened only for a while
			if w, err := os.OpenFile(meterEnd, os.O_WRONLY, 0); err == nil {
				_, err = w.Write(raw)
				if err = errors.Join(err, w.Close()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestP1Bad: a wrong checksum is an error, never energy, and the source goes on; a telegram of another meter is marked;
// the same telegram again is stale; Close ends a Read that waits.
func TestP1Bad(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	source := openP1(t, "p1+tcp://"+l.Addr().String(), nil)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	say := func(raw []byte) {
		t.Helper()
		if _, err := conn.Write(raw); err != nil {
			t.Fatal(err)
		}
	}
	good := telegram(t, exporting)
	say(bytes.Replace(good, []byte("000004.426"), []byte("900004.426"), 1))
	if s, err := source.Read(t.Context()); !errors.Is(err, meter.ErrPayload) || !strings.Contains(err.Error(), "checksum: got ") || s.ImportWh != nil {
		t.Errorf("got %s, %v", sampleText(t, s), err)
	}
	say(good)
	checkExporting(t, source, meter.Good)
	say(good)
	checkExporting(t, source, meter.Stale)
	say(telegram(t, "DSMR 4.2"))
	if s, err := source.Read(t.Context()); err != nil || s.Quality != meter.IdentityChanged || s.Identity.Maker != "KFM" {
		t.Errorf("another meter: got %s, %v", sampleText(t, s), err)
	}
	got := make(chan error)
	go func() { _, err := source.Read(t.Context()); got <- err }()
	if err := source.Close(); err != nil {
		t.Error(err)
	}
	if err := <-got; !errors.Is(err, meter.ErrClosed) {
		t.Errorf("got %v, expected %v", err, meter.ErrClosed)
	}
	silent := openP1(t, "p1+tcp://127.0.0.1:1", func(c *meter.Config) { c.Timeout = 50 * time.Millisecond })
	readUntil(t, silent, "no message, 127.0.0.1:1 cannot be read: dial tcp 127.0.0.1:1: connect: connection refused")
}

// TestP1File: the newest telegram, each time that it is asked for.
func TestP1File(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "telegram 1.txt")
	write := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good, other := telegram(t, exporting), telegram(t, "DSMR 5: two tariffs each way add up")
	write(append(bytes.Repeat(other, 2000), good...)) // above 1 MB: the end is read
	source := openP1(t, "p1+file:"+path, nil)
	if source.Push() {
		t.Error("a file does not speak by itself")
	}
	if identity, err := source.Identity(t.Context()); err != nil || identity.Serial != "E0031000012345678" {
		t.Errorf("got %+v, %v", identity, err)
	}
	checkExporting(t, source, meter.Stale)
	write(append(other, good...))
	checkExporting(t, source, meter.Stale)
	write(append(good, other...))
	if s, err := source.Read(t.Context()); err != nil || s.Quality != meter.Good || *s.ExportWh != 2444 {
		t.Errorf("got %s, %v", sampleText(t, s), err)
	}
	checkExporting(t, func() meter.Source {
		write(bytes.ReplaceAll(good, []byte("\r\n"), []byte("\n")))
		return openP1(t, "p1+file://"+path, nil)
	}(), meter.Good)
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"empty": {nil, "got 0 bytes, expected text from a /"}, "cut": {good[:300], "it is cut off"},
		"damaged": {bytes.Replace(good, []byte("7.0("), []byte("7.1("), 1), "checksum: got "}, "noise": {make([]byte, 3<<20), "expected text from a /"},
	} {
		write(c.data)
		if s, err := source.Read(t.Context()); !errors.Is(err, meter.ErrPayload) || !strings.Contains(err.Error(), c.want) || s.ImportWh != nil {
			t.Errorf("%s: got %s, %v, expected %q", name, sampleText(t, s), err, c.want)
		}
	}
	for _, none := range []string{filepath.Join(dir, "none"), dir, "/dev/zero"} {
		if _, err := openP1(t, "p1+file:"+none, nil).Read(t.Context()); err == nil {
			t.Errorf("%s was read", none)
		}
	}
}

// TestP1HTTP: a reader that hands out the telegram as it came, and one that repeats it because the meter fell silent.
func TestP1HTTP(t *testing.T) {
	body := telegram(t, exporting)
	var path string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.Path
		_, _ = w.Write(body)
	}))
	defer s.Close()
	source := openP1(t, s.URL, nil)
	checkExporting(t, source, meter.Good)
	if path != "/api/v1/telegram" {
		t.Errorf("asked for %s", path)
	}
	checkExporting(t, source, meter.Stale)
	if identity, err := source.Identity(t.Context()); err != nil || identity.Model != `ISk5\2MT382-1000` {
		t.Errorf("got %+v, %v", identity, err)
	}
	elsewhere := openP1(t, s.URL+"/telegram", nil)
	checkExporting(t, elsewhere, meter.Good)
	if path != "/telegram" {
		t.Errorf("asked for %s", path)
	}
	body = []byte("telegram not available")
	if _, err := elsewhere.Read(t.Context()); !errors.Is(err, meter.ErrPayload) {
		t.Errorf("got %v", err)
	}
	if err := source.Close(); err != nil {
		t.Error(err)
	}
	if _, err := source.Read(t.Context()); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("after Close: got %v", err)
	}
}
