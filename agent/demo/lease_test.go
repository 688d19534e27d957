package demo_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/household"
)

// inverter is what firmware-sim says of home-1's at this moment: the truth, not what it tells by its registers.
type inverter struct {
	At       time.Time `json:"community_time"`
	Inverter struct {
		Mode        string `json:"mode"`
		SetPointW   *int64 `json:"set_point_w"`
		SecondsLeft *int64 `json:"seconds_left"`
	} `json:"inverter"`
}

func (r *run) inverter() (v inverter, ok bool) {
	raw, err := os.ReadFile(filepath.Join(r.dir, "firmware-sim.yaml"))
	if err != nil {
		return v, false
	}
	_, rest, ok := strings.Cut(string(raw), "control: {listen: ")
	address, _, ok2 := strings.Cut(rest, "}")
	if !ok || !ok2 {
		return v, false
	}
	client := http.Client{Timeout: 2 * time.Second}
	res, err := client.Get("http://" + address + "/homes/home-1/now")
	if err != nil {
		return v, false
	}
	defer res.Body.Close()
	return v, res.StatusCode == http.StatusOK && json.NewDecoder(res.Body).Decode(&v) == nil
}

// TestKilledWhileLeading: an agent that leads a battery is killed as by a power cut. The battery goes on with its set point
// for as long as the lease, and not an instant longer; then it is in its own mode, and nobody had to tell it. It is a winter
// night, so that the battery has room for what it is told to take.
func TestKilledWhileLeading(t *testing.T) {
	t.Parallel()
	const lease, power = 300, 700
	r := start(t, filepath.Join(t.TempDir(), "street"), "--fresh", "--homes", "1", "--battery", "self-consumption", "--from", "2026-01-20T22:00:00Z")
	r.until("reading its battery", 100*time.Second, func() bool {
		s, ok := ask[api.Status](r, 1, "/api/status")
		return ok && len(s.Controls) == 1 && s.Controls[0].Mode == "own"
	})
	r.kill(1)
	c, err := household.LoadConfig(filepath.Join(r.home(1), household.ConfigFile))
	if err != nil {
		t.Fatal(err)
	}
	c.Controls[0].Mode, c.Controls[0].PowerW, c.Controls[0].LeaseS = household.LeadCharge, power, lease
	if err := household.WriteConfig(r.home(1), c); err != nil {
		t.Fatal(err)
	}
	leading := exec.Command(commonwatt(t), "run", "--home", r.home(1))
	if err := leading.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = leading.Process.Kill(); _ = leading.Wait() })
	var seen []api.Control
	defer func() {
		if t.Failed() {
			raw, _ := json.Marshal(seen)
			t.Logf("its battery was last %s", raw)
		}
	}()
	r.until("leading its battery", 60*time.Second, func() bool {
		s, ok := ask[api.Status](r, 1, "/api/status")
		if ok {
			seen = s.Controls
		}
		return ok && s.Controls[0].Led && s.Controls[0].Mode == "charge" && *s.Controls[0].SetW == power
	})
	if err := leading.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = leading.Wait()

	first, ok := r.inverter()
	if !ok {
		t.Fatal("firmware-sim does not answer")
	}
	ends := first.At
	if left := first.Inverter.SecondsLeft; first.Inverter.Mode == "charge" {
		if left == nil || *left > lease {
			t.Fatalf("killed: got %v s left, expected at most %d", left, lease)
		}
		ends = ends.Add(time.Duration(*left) * time.Second)
	}
	var last inverter
	r.until("past the lease", 60*time.Second, func() bool {
		last, ok = r.inverter()
		if ok && last.At.Before(ends.Add(-time.Second)) && last.Inverter.Mode != "charge" {
			t.Fatalf("at %v: got %s, expected charge until %v", last.At, last.Inverter.Mode, ends)
		}
		return ok && last.At.After(ends.Add(time.Second))
	})
	if last.Inverter.Mode != "self-consumption" || last.Inverter.SetPointW != nil {
		t.Fatalf("after the lease: got %s, expected its own mode", last.Inverter.Mode)
	}
	t.Logf("killed at %v, the lease ends at %v; at %v it is in its own mode", first.At, ends, last.At)
}
