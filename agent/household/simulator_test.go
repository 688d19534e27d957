package household

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// simulator builds firmware-sim once: the tests speak with the real program.
var simulator = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "firmware-sim")
	if err != nil {
		return "", err
	}
	builtSimulator = dir
	program := filepath.Join(dir, "firmware-sim")
	out, err := exec.Command("go", "build", "-o", program, "../../firmware-sim").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building firmware-sim: %w\n%s", err, out)
	}
	return program, nil
})

// builtSimulator is the folder that TestMain removes.
var builtSimulator string

// partner is a firmware-sim of one home, whose clock the test moves.
type partner struct {
	t       testing.TB
	control string
	address string // of its meter at the connection
	unit    uint8
}

// newPartner starts the program with a street file, whose meter is reached by the address
// that begins with a scheme.
func newPartner(t testing.TB, street, scheme string) *partner {
	t.Helper()
	program, err := simulator()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "street.yaml")
	if err := os.WriteFile(file, []byte(street), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "run", "--config", file, "--log-level", "error")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	var messages bytes.Buffer
	cmd.Stderr = &messages
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // it was interrupted; what it says then is nothing to a test
	var ready struct{ Control string }
	if err := json.NewDecoder(stdout).Decode(&ready); err != nil {
		_ = cmd.Wait()
		t.Fatalf("firmware-sim is not ready: %v\n%s", err, messages.String())
	}
	p := &partner{t: t, control: "http://" + ready.Control}
	var homes []struct {
		Devices []struct {
			Role      string
			Addresses []string
			Unit      uint8
		}
	}
	p.ask(http.MethodGet, "/homes", nil, &homes)
	for _, d := range homes[0].Devices {
		for _, a := range d.Addresses {
			if d.Role == "grid" && strings.HasPrefix(a, scheme+":") {
				p.address, p.unit = a, d.Unit
			}
		}
	}
	if p.address == "" {
		t.Fatalf("no address by %s: %+v", scheme, homes)
	}
	return p
}

func (p *partner) ask(method, path string, body, into any) {
	p.t.Helper()
	if err := p.request(method, path, body, into); err != nil {
		p.t.Fatal(err)
	}
}

func (p *partner) request(method, path string, body, into any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(p.t.Context(), method, p.control+path, content)
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode/100 != 2 {
		err = fmt.Errorf("%s: %s", res.Status, answer)
	}
	if err == nil && into != nil {
		err = json.Unmarshal(answer, into)
	}
	if err != nil {
		return fmt.Errorf("%s %s %s: %w", method, path, raw, err)
	}
	return nil
}

// move lets community time go on. What the meter sends by itself has left when it returns.
func (p *partner) move(to time.Time) {
	p.t.Helper()
	p.ask(http.MethodPost, "/clock", map[string]string{"to": to.Format(time.RFC3339)}, nil)
}

// counted is what the meter itself has counted by now, whatever it shows.
func (p *partner) counted() counters {
	p.t.Helper()
	var c struct {
		ImportWh uint64 `json:"import_wh"`
		ExportWh uint64 `json:"export_wh"`
	}
	p.ask(http.MethodGet, "/homes/home-1/counters", nil, &c)
	return counters{imported: c.ImportWh, exported: c.ExportWh}
}

// fault begins one; false if the meter cannot have it.
func (p *partner) fault(name string, lasts time.Duration, parameters map[string]string) bool {
	p.t.Helper()
	order := map[string]any{"fault": name, "for": lasts.String()}
	if parameters != nil {
		order["parameters"] = parameters
	}
	err := p.request(http.MethodPost, "/faults", order, nil)
	if err != nil && !strings.Contains(err.Error(), "strikes no device here") && !strings.Contains(err.Error(), "needs a broker of our own") {
		p.t.Fatal(err)
	}
	return err == nil
}
