package meter_test

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/httpjson"
)

func openHTTP(t *testing.T, definition, address string, change func(*meter.Config)) meter.Source {
	t.Helper()
	c := meter.Config{
		Definition: definition, Address: address, Now: func() time.Time { return noon },
		HTTPPool: httpjson.NewPool(httpjson.Options{BackoffStep: time.Nanosecond, DialEvery: time.Nanosecond}),
	}
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

// answersOf serves the answers of a definition's vector.
func answersOf(t *testing.T, definition, vector string) map[string]string {
	t.Helper()
	d, err := meter.FindDefinition("", definition)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range d.Tests {
		if v.Name != vector {
			continue
		}
		answers := map[string]string{}
		for _, m := range v.Messages {
			answers[m.Path] = m.Payload
		}
		return answers
	}
	t.Fatalf("%s has no vector %q", definition, vector)
	return nil
}

// TestHTTPPython: the web server of Python, which is not ours, serves what devices answer as files, as text without a
// type and over HTTP/1.0.
func TestHTTPPython(t *testing.T) {
	python := need(t, "/usr/bin/python3", "python3")
	dir := t.TempDir()
	for _, c := range []struct{ definition, vector string }{
		{"homewizard-p1", "totals, and a home that exports"},
		{"shelly-3em", "all at once"},
		{"youless-ls120", "a list of one"},
		{"slimmelezer", "its web server"},
		{"shelly-pro-3em", "the full status"},
	} {
		for path, answer := range answersOf(t, c.definition, c.vector) {
			file := filepath.Join(dir, filepath.FromSlash(path))
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(answer), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	port := freePort(t)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), python, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", dir, port)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		definition         string
		importWh, exportWh uint64
		powerW             int64
	}{
		{"homewizard-p1", 13779338, 13086777, -543},
		{"shelly-3em", 2771353, 428962, 213},
		{"youless-ls120", 9194193, 29, 2382},
		{"slimmelezer", 3016829, 251, -1500},
		{"shelly-pro-3em", 95884, 5123, -143},
	} {
		source := openHTTP(t, c.definition, "http://127.0.0.1:"+port, nil)
		for range 2 {
			s, err := source.Read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if s.ImportWh == nil || *s.ImportWh != c.importWh || s.ExportWh == nil || *s.ExportWh != c.exportWh || s.PowerW == nil || *s.PowerW != c.powerW || s.Quality != meter.Good || s.AskedAt.IsZero() {
				t.Errorf("%s: got %s", c.definition, sampleText(t, s))
			}
		}
	}
	if _, err := openHTTP(t, "homewizard-p1", "http://127.0.0.1:"+port+"/elsewhere", nil).Read(t.Context()); err == nil || !strings.Contains(err.Error(), "got status 404") {
		t.Errorf("a path that is not there: got %v", err)
	}
}

// TestHTTPDevice: prefix and query of the path, an identity that changes, and answers that are none.
func TestHTTPDevice(t *testing.T) {
	const query = "/solar_api/v1/GetMeterRealtimeData.cgi?Scope=Device&DeviceId=0"
	body := answersOf(t, "fronius-solar-api", "a home that exports")[query]
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RequestURI() != "/proxy"+query {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(body))
	}))
	defer s.Close()
	source := openHTTP(t, "fronius-solar-api", s.URL+"/proxy/", nil)
	if source.Push() {
		t.Error("a device that is asked does not speak by itself")
	}
	identity, err := source.Identity(t.Context())
	if err != nil || identity.Serial != "19280280" || identity.Maker != "Fronius" {
		t.Errorf("got %+v, %v", identity, err)
	}
	good := body
	body = strings.Replace(good, "19280280", "19280281", 1)
	if s, err := source.Read(t.Context()); err != nil || s.Quality != meter.IdentityChanged || s.Identity.Serial != "19280281" {
		t.Errorf("another meter: got %s, %v", sampleText(t, s), err)
	}
	for name, c := range map[string]struct{ body, want string }{
		"half":     {good[:200], "decoding JSON"},
		"two":      {good + good, "expected one value"},
		"nothing":  {"", "decoding JSON"},
		"a number": {"5", "expected an object"},
		"too deep": {strings.Repeat("[", 20000), "expected at most 64 levels"},
		"too long": {strings.Repeat(" ", 64<<10) + good, "answer is too long"},
	} {
		body = c.body
		if s, err := source.Read(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) || s.ImportWh != nil {
			t.Errorf("%s: got %s, %v, expected %q", name, sampleText(t, s), err, c.want)
		}
	}
	body = strings.Replace(good, "206254,", `"206254",`, 2)
	if s, err := source.Read(t.Context()); err != nil || s.Quality&meter.DeviceError == 0 || s.ImportWh != nil {
		t.Errorf("text where a number was: got %s, %v", sampleText(t, s), err)
	}
	if err := source.Close(); err != nil {
		t.Error(err)
	}
	if _, err := source.Read(t.Context()); !errors.Is(err, httpjson.ErrClosed) {
		t.Errorf("after Close: got %v", err)
	}
}
