package household

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A password is the first line of a file of its owner alone, and a mistake names the file,
// never what is in it.
func TestReadPassword(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "password")
	for content, want := range map[string]string{"secret\n": "secret", "two words": "two words", "a\r\nb\n": "a", "": "", "\nx": "", strings.Repeat("x", maxPassword+1): ""} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadPassword(path)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%.10q: got %.10q, %v", content, got, err)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPassword(path); err == nil || !strings.Contains(err.Error(), "chmod 600 "+path) {
		t.Errorf("readable by others: got %v", err)
	}
}

// Mistakes in what a meter wants to be shown are found at the start, with their line.
func TestMeterAccess(t *testing.T) {
	t.Parallel()
	tw := found(t, townOptions{start: dawn, now: (&clock{now: dawn}).Now})
	for name, c := range map[string]struct {
		change func(*MeterConfig)
		want   string
	}{
		"no password file":        {func(m *MeterConfig) { m.PasswordFile = "nothing" }, "meters[0].password_file: open "},
		"no authority":            {func(m *MeterConfig) { m.CAFile = "nothing.pem" }, `meters[0].ca_file: got "`},
		"a certificate alone":     {func(m *MeterConfig) { m.CertFile = "nothing.pem" }, "meters[0].key_file: got"},
		"unknown definition":      {func(m *MeterConfig) { m.Definition = "shelly" }, "meters[0].definition: got \"shelly\", want one of the"},
		"an address of no scheme": {func(m *MeterConfig) { m.Address = "broker:1883" }, "meters[0].address: got"},
	} {
		o := tw.options(0, config("tasmota", "mqtts://127.0.0.1:1/kitchen"))
		c.change(&o.Config.Meters[0])
		if err := WriteConfig(o.Dir, o.Config); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		h, err := New(o)
		if err == nil {
			mustClose(t, h)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), ConfigFile+":") {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}
