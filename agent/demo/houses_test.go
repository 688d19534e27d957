package demo_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/p2p"
	"github.com/commonwatt/commonwatt/p2p/bed"
)

// houses is a street whose homes are in networks of their own: the first two in one house,
// the third in another, both behind routers, the fourth with a public address.
type houses struct {
	t     *testing.T
	bed   *bed.Bed
	dir   string
	where []string // namespace of home 1, 2, …
	ids   []string // network identity of home 1, 2, …
	stops []func()
}

const (
	paceOfHouses = 4 * time.Second
	portOfHouses = 8700            // and the next one; the demonstration's pages have those from 8601 on
	waitOfHouses = 3 * time.Minute // for any one thing; it takes seconds
)

// foundHouses has `commonwatt demo` found a street of four, all validators, and rewrites
// their agent.yaml for where they will be.
func foundHouses(t *testing.T, dir string) *houses {
	t.Helper()
	h := &houses{t: t, bed: bed.New(t), dir: dir, where: []string{"a1", "a2", "b1", "p"}}
	public, _ := h.bed.Public("p")
	h.bed.House("a", bed.Router{}, "a1", "a2")
	h.bed.House("b", bed.Router{}, "b1")

	// The deadline for reports has to allow for the time that the line is cut.
	t.Cleanup(func() {
		if t.Failed() {
			h.tell()
		}
	})
	r := start(t, dir, "--fresh", "--homes", "4", "--pace", paceOfHouses.String(), "--outage", "1000h+8h")
	r.until("founded", waitOfHouses, func() bool {
		for n := 1; n <= 4; n++ {
			if r.height(n) < 1 {
				return false
			}
		}
		return true
	})
	for n := 1; n <= 4; n++ {
		keys, err := household.LoadKeys(r.home(n))
		if err != nil {
			t.Fatal(err)
		}
		id, err := p2p.IDOf(keys.Network.Public().(ed25519.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		h.ids = append(h.ids, string(id))
	}
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	r.ended <- <-r.ended // it may complain that not all homes had joined yet; they will
	for n := 1; n <= 4; n++ {
		c, err := household.LoadConfig(filepath.Join(r.home(n), household.ConfigFile))
		if err != nil {
			t.Fatal(err)
		}
		c.Listen.Network = household.NetworkAddresses(portOfHouses + n%2) // one house, one port each
		c.Peers = household.PeersConfig{MDNS: true}
		if n != 4 {
			c.Peers.Bootstrap = []string{fmt.Sprintf("/ip4/%s/udp/%d/quic-v1/p2p/%s", public, portOfHouses, h.ids[3])}
		}
		if err := household.WriteConfig(r.home(n), c); err != nil {
			t.Fatal(err)
		}
	}
	return h
}

func (h *houses) home(n int) string { return filepath.Join(h.dir, "homes", fmt.Sprintf("home-%d", n)) }

// run starts home n: its meters, as the street's simulator has them, and its agent.
func (h *houses) run(n int) {
	h.t.Helper()
	raw, err := os.ReadFile(filepath.Join(h.dir, "firmware-sim.yaml"))
	if err != nil {
		h.t.Fatal(err)
	}
	world := filepath.Join(h.t.TempDir(), "firmware-sim.yaml") // with a journal of its own
	if err := os.WriteFile(world, raw, 0o600); err != nil {
		h.t.Fatal(err)
	}
	program := commonwatt(h.t)
	h.stops = append(h.stops,
		h.start(n, "firmware-sim", filepath.Join(filepath.Dir(program), "firmware-sim"), "run", "--config", world),
		h.start(n, "agent", program, "run", "--home", h.home(n)))
}

// start starts a program where home n is. What it returns ends it in order.
func (h *houses) start(n int, name string, argv ...string) func() {
	h.t.Helper()
	log, err := os.Create(filepath.Join(h.dir, "logs", fmt.Sprintf("houses-%d-%s.log", n, name)))
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := h.bed.Command(context.Background(), h.where[n-1], argv...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is asked to end
		close(ended)
	}()
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // nsenter has become the program
		<-ended
		_ = log.Close()
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	return stop
}

// tell shows the end of each log.
func (h *houses) tell() {
	logs, err := filepath.Glob(filepath.Join(h.dir, "logs", "*.log"))
	if err != nil {
		h.t.Error(err)
	}
	for _, log := range logs {
		if raw, err := os.ReadFile(log); err == nil {
			h.t.Logf("the last of %s:\n%s", filepath.Base(log), raw[max(0, len(raw)-4000):])
		}
	}
}

// get fetches one document of home n's page, from its own network.
func (h *houses) get(n int, path string, v any) bool {
	h.t.Helper()
	c, err := household.LoadConfig(filepath.Join(h.home(n), household.ConfigFile))
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(h.t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Listen.API+path, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	res, err := h.bed.Client(h.where[n-1]).Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK && json.NewDecoder(res.Body).Decode(v) == nil
}

// paths are how home n reaches the others: "local", "", and so on; "" is itself, or not.
func (h *houses) paths(n int) []string {
	var s api.Status
	out := make([]string, len(h.ids))
	if !h.get(n, "/api/status", &s) {
		return out
	}
	for _, p := range s.Ledger.Peers {
		if i := slices.Index(h.ids, p.ID); i >= 0 {
			out[i] = p.Path
		}
	}
	return out
}

// until waits for a condition.
func (h *houses) until(what string, ok func() bool) {
	h.t.Helper()
	begin := time.Now()
	for tick := time.Tick(200 * time.Millisecond); !ok(); <-tick {
		if time.Since(begin) > waitOfHouses {
			h.t.Fatalf("after %v: not %s; paths %q", waitOfHouses, what, [][]string{h.paths(1), h.paths(2), h.paths(3), h.paths(4)})
		}
	}
	h.t.Logf("%s: after %v", what, time.Since(begin).Round(100*time.Millisecond))
}

// see waits until the homes reach each other as they should: one row for each home.
func (h *houses) see(what string, want ...[]string) {
	h.t.Helper()
	h.until(what, func() bool {
		for i, row := range want {
			if row != nil && !slices.Equal(h.paths(i+1), row) {
				return false
			}
		}
		return true
	})
}

// settled are the intervals that home n shows as settled, and whether one of them traded.
func (h *houses) settled(n int) (map[int64]bool, bool) {
	var list api.Intervals
	out, traded := make(map[int64]bool), false
	if !h.get(n, "/api/intervals?limit=96", &list) {
		return out, false
	}
	for _, k := range list.Intervals {
		if k.State == api.StateSettled {
			out[k.Interval] = true
			traded = traded || k.BoughtWh != nil && *k.BoughtWh > 0 || k.SoldWh != nil && *k.SoldWh > 0
		}
	}
	return out, traded
}

// newest is the newest interval that all homes have settled; 0 if there is none.
func (h *houses) newest() int64 {
	var out int64
	for n := range h.ids {
		var own int64
		settled, _ := h.settled(n + 1)
		for k := range settled {
			own = max(own, k)
		}
		if n == 0 || own < out {
			out = own
		}
	}
	return out
}

// TestHouses is a community as homes have their networks: it trades over paths of all kinds,
// one house is cut off, so that there is no quorum, and when it is back everything is settled.
func TestHouses(t *testing.T) {
	t.Parallel()
	if !bed.Enter(t, programsEnv+"="+filepath.Dir(commonwatt(t))) {
		return
	}
	dir := filepath.Join(t.TempDir(), "street")
	h := foundHouses(t, dir)
	for n := range h.ids {
		h.run(n + 1)
	}
	whole := [][]string{
		{"", "local", "punched", "direct"},
		{"local", "", "punched", "direct"},
		{"punched", "punched", "", "direct"},
		{"direct", "direct", "direct", ""},
	}
	h.see("all reach each other", whole...)
	h.until("intervals are settled, with trade in all homes", func() bool {
		for n := range h.ids {
			if _, traded := h.settled(n + 1); !traded {
				return false
			}
		}
		return true
	})
	begin := h.newest()
	for n := range h.ids {
		cmd := h.bed.Command(t.Context(), h.where[n], commonwatt(t), "status", "--home", h.home(n+1))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("status of home %d: %v", n+1, err)
		}
		t.Logf("home %d:\n%s", n+1, out)
	}

	h.bed.Cut("a")
	h.see("house a is cut off", []string{"", "local", "", ""}, []string{"local", "", "", ""}, []string{"", "", "", "direct"}, []string{"", "", "direct", ""})
	away := h.newest()
	h.bed.Mend("a")
	h.see("house a is back", whole...)
	h.until("ten more intervals are settled", func() bool { return h.newest() >= away+10 })
	last := h.newest()
	for n := range h.ids {
		settled, _ := h.settled(n + 1)
		var missing []int64
		for k := begin; k <= last; k++ {
			if !settled[k] {
				missing = append(missing, k)
			}
		}
		if len(missing) > 0 {
			t.Errorf("home %d: of intervals %d to %d these are not settled: %d", n+1, begin, last, missing)
		}
	}

	for _, stop := range slices.Backward(h.stops) {
		stop()
	}
	out, err := exec.Command(commonwatt(t), "ledger", "check", dir).CombinedOutput()
	if err != nil || strings.Count(string(out), ": ok: ") != 4 {
		t.Errorf("ledger check: %v\n%s", err, out)
	}
	t.Logf("%s", out)
}
