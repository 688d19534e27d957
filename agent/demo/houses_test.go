package demo_test

import (
	"bytes"
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
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/access"
	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/p2p"
	"github.com/commonwatt/commonwatt/p2p/bed"
)

// houses is a street whose homes are in networks of their own: one with a public address,
// which founds the community and invites the others; two in one house, one in another, both
// behind routers; and a light home behind a third router.
type houses struct {
	t     *testing.T
	bed   *bed.Bed
	dir   string
	lives []resident
	ids   []string // network identity of home 1, 2, …
	stops []func()
	agent map[int]func() // ends the agent of a home
}

// resident is a home: where it is, what it is to be, and what stands on its roof.
type resident struct {
	name  string // of its folder
	place string // its network namespace
	role  string
	solar int // kWp
}

const (
	paceOfHouses = 4 * time.Second
	waitOfHouses = 3 * time.Minute // for any one thing; it takes seconds
	founder      = 1               // home with the public address
	first        = 2               // in house a, with home 3
	far          = 4               // in house b
	light        = 5               // in house c
)

// foundHouses types what docs/joining.md says: the first home founds the community and runs,
// the others join with an invitation each, two officers admit them, and they run.
func foundHouses(t *testing.T, dir string) *houses {
	t.Helper()
	h := &houses{t: t, bed: bed.New(t), dir: dir, agent: make(map[int]func()), lives: []resident{
		{"street/corner", "p", household.RoleValidator, 3},
		{"anna", "a1", household.RoleValidator, 4},
		{"ben", "a2", household.RoleReplica, 0},
		{"cleo", "b1", household.RoleValidator, 0},
		{"dora", "c1", household.RoleLight, 0},
	}}
	public, _ := h.bed.Public("p")
	h.bed.House("a", bed.Router{}, "a1", "a2")
	h.bed.House("b", bed.Router{}, "b1")
	h.bed.House("c", bed.Router{}, "c1")
	if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			h.tell()
		}
	})
	h.write("community.yaml", fmt.Sprintf(`name: sim-street
simulation: {rate: %d, from: 2026-06-21T08:00:00Z}
homes: [{name: corner, definition: eastron-sdm630, address: "tcp://127.0.0.1:502", host: %s}]
`, int64(15*time.Minute/paceOfHouses), public))
	t.Logf("%s", h.types(founder, "community", "create", filepath.Join(dir, "street"), "--file", filepath.Join(dir, "community.yaml")))
	h.run(founder)
	h.join()
	for n := range h.lives {
		keys, err := household.LoadKeys(h.home(n + 1))
		if err != nil {
			t.Fatal(err)
		}
		id, err := p2p.IDOf(keys.Network.Public().(ed25519.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		h.ids = append(h.ids, string(id))
	}
	for n := first; n <= light; n++ {
		h.run(n)
	}
	return h
}

// join has all other homes join at once; the officers admit whoever asks.
func (h *houses) join() {
	h.t.Helper()
	var joined sync.WaitGroup
	defer joined.Wait()
	for n := first; n <= light; n++ {
		var invitation []byte
		h.until("an invitation is made", func() (ok bool) {
			var err error
			invitation, err = h.command(founder, "community", "invite", "--home", h.home(founder), "--text").Output()
			return err == nil
		})
		cmd := h.command(n, "join", strings.TrimSpace(string(invitation)), "--home", h.home(n), "--role", h.lives[n-1].role, "--words-later")
		joined.Go(func() {
			if out, err := cmd.CombinedOutput(); err != nil {
				h.t.Errorf("join of home %d: %v\n%s", n, err, out)
			}
		})
	}
	var asking []struct{ ID string }
	h.until("all have asked for admission", func() bool {
		raw := h.types(founder, "community", "requests", "--home", h.home(founder), "--output", "json")
		return json.Unmarshal([]byte(raw), &asking) == nil && len(asking) == len(h.lives)-1
	})
	for _, a := range asking {
		for _, officer := range h.officers() {
			h.types(founder, "community", "admit", a.ID, "--home", h.home(founder), "--key", officer)
		}
	}
}

// officers are the two who sign.
func (h *houses) officers() []string {
	folder := filepath.Join(h.dir, "street", "cooperative")
	return []string{filepath.Join(folder, "officer-1.key"), filepath.Join(folder, "officer-3.key")}
}

// elect makes home n a validator, by the officers' vote, and waits until as many are.
func (h *houses) elect(n int, total int64) {
	h.t.Helper()
	file := filepath.Join(h.dir, fmt.Sprintf("validator-%d.json", n))
	officers := h.officers()
	h.until("a vote is proposed", func() bool { // as soon as its own ledger knows that it is a member
		return h.command(n, "community", "propose", "validator", "--home", h.home(n), "--out", file).Run() == nil
	})
	for _, officer := range officers {
		h.types(n, "community", "approve", file, "--home", h.home(n), "--key", officer)
	}
	h.types(n, "community", "submit", file, "--home", h.home(n), "--key", officers[0])
	h.until(fmt.Sprintf("%d validators", total), func() bool {
		for n := range h.lives {
			var s api.Status
			if n+1 == light {
				continue // it follows; who is connected with whom is none of its business
			}
			if !h.get(n+1, "/api/status", &s) || s.Ledger.ValidatorsTotal == nil || *s.Ledger.ValidatorsTotal != total ||
				s.Ledger.ValidatorsUp == nil || *s.Ledger.ValidatorsUp != total {
				return false
			}
		}
		return true
	})
}

func (h *houses) home(n int) string { return filepath.Join(h.dir, h.lives[n-1].name) }

// write writes a file into the street's folder and returns its path.
func (h *houses) write(name, text string) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// command is what somebody types where home n is.
func (h *houses) command(n int, args ...string) *exec.Cmd {
	return h.bed.Command(h.t.Context(), h.lives[n-1].place, append([]string{commonwatt(h.t)}, args...)...)
}

// types runs it and returns what it prints; it has to succeed.
func (h *houses) types(n int, args ...string) string {
	h.t.Helper()
	var out, errs bytes.Buffer
	cmd := h.command(n, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		h.t.Fatalf("home %d: commonwatt %s: %v\n%s%s", n, strings.Join(args, " "), err, out.Bytes(), errs.Bytes())
	}
	return out.String()
}

// run starts home n: its meter, in the time of the community, and its agent.
func (h *houses) run(n int) {
	h.t.Helper()
	raw, err := os.ReadFile(filepath.Join(h.home(founder), household.CommunityFile))
	if err != nil {
		h.t.Fatal(err)
	}
	_, g, err := consensus.ParseGenesis(raw)
	if err != nil {
		h.t.Fatal(err)
	}
	world := fmt.Sprintf("clock: {epoch: %s, start: %s, rate: %d}\n", g.Epoch.Format(time.RFC3339Nano), g.Start.Format(time.RFC3339Nano), g.Rate)
	// The counters go on in the middle of an interval, so that a reading a little late is the boundary's.
	world += "interval: 15m\nrefresh: 7m30s\nseed: 42\nmodbus: {listen: 127.0.0.1:502}\nhomes:\n"
	world += fmt.Sprintf("  - id: home-%d\n    load: {model: household, yearly_kwh: 4000}\n", n)
	if kwp := h.lives[n-1].solar; kwp > 0 {
		world += fmt.Sprintf("    solar: {kwp: %d, azimuth: 180, tilt: 35}\n", kwp)
	}
	world += "    devices: [{role: grid, definition: eastron-sdm630, unit: 1}]\n"
	meters := filepath.Join(filepath.Dir(commonwatt(h.t)), "firmware-sim")
	h.stops = append(h.stops,
		h.start(n, "firmware-sim", meters, "run", "--config", h.write(fmt.Sprintf("world-%d.yaml", n), world)))
	h.runAgent(n, commonwatt(h.t))
}

// runAgent starts a home's agent, or another program in its place; the one before has ended.
func (h *houses) runAgent(n int, argv ...string) {
	h.t.Helper()
	h.agent[n] = h.start(n, "agent", append(argv, "run", "--home", h.home(n))...)
	h.stops = append(h.stops, h.agent[n])
}

// start starts a program where home n is. What it returns ends it in order.
func (h *houses) start(n int, name string, argv ...string) func() {
	h.t.Helper()
	file := filepath.Join(h.dir, "logs", fmt.Sprintf("home-%d-%s.log", n, name))
	log, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := h.bed.Command(context.Background(), h.lives[n-1].place, argv...)
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
	token, err := access.ReadToken(h.home(n)) // the agent writes it when it starts
	if err != nil {
		return false
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := h.bed.Client(h.lives[n-1].place).Do(req)
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
			var paths [][]string
			for n := range h.ids {
				paths = append(paths, h.paths(n+1))
			}
			h.t.Fatalf("after %v: not %s; paths %q", waitOfHouses, what, paths)
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
	out := h.newestOf(1)
	for n := 2; n <= len(h.ids); n++ {
		out = min(out, h.newestOf(n))
	}
	return out
}

// newestOf is the newest interval that home n shows as settled; 0 if there is none.
func (h *houses) newestOf(n int) (newest int64) {
	settled, _ := h.settled(n)
	for k := range settled {
		newest = max(newest, k)
	}
	return newest
}

// TestHouses is a community as homes have their networks, founded and joined by the commands
// that people type: it trades over paths of all kinds, one house is cut off, so that there is
// no quorum, and when it is back everything is settled; and the light home proves its bill,
// also when the home that invited it lies.
func TestHouses(t *testing.T) {
	t.Parallel()
	liar := buildLiar(t)
	if !bed.Enter(t, programsEnv+"="+filepath.Dir(commonwatt(t))) {
		return
	}
	h := foundHouses(t, t.TempDir())
	h.until("all reach the home that invited them", func() bool {
		for n := first; n <= light; n++ {
			if h.paths(n)[founder-1] != "direct" {
				return false
			}
		}
		return true
	})
	h.elect(first, 2)
	h.elect(far, 3)
	whole := [][]string{
		{"", "direct", "direct", "direct", "direct"},
		{"direct", "", "local", "punched", "punched"},
		{"direct", "local", "", "punched", "punched"},
		{"direct", "punched", "punched", "", "punched"},
		{"direct", "punched", "punched", "punched", ""},
	}
	h.see("all reach each other", whole...)
	h.until("all know whether they are reached from outside", func() bool {
		for n := range h.ids {
			var s api.Status
			if !h.get(n+1, "/api/status", &s) || s.Ledger.Reached == nil || *s.Ledger.Reached != (n+1 == founder) {
				return false
			}
		}
		return true
	})
	h.until("intervals are settled, with trade in all homes", func() bool {
		for n := range h.ids {
			if _, traded := h.settled(n + 1); !traded {
				return false
			}
		}
		return true
	})
	h.meets(liar)
	begin := h.newest()
	for n := range h.ids {
		t.Logf("home %d:\n%s", n+1, h.types(n+1, "status", "--home", h.home(n+1)))
	}

	h.bed.Cut("a")
	h.see("house a is cut off", []string{"", "", "", "direct", "direct"}, []string{"", "", "local", "", ""},
		[]string{"", "local", "", "", ""}, []string{"direct", "", "", "", "punched"}, []string{"direct", "", "", "punched", ""})
	away := h.newest()
	h.bed.Mend("a")
	h.see("house a is back", whole...)
	h.until("ten more intervals are settled", func() bool { return h.newest() >= away+10 })
	h.complete(begin, h.newest())
	h.proves(light)
	h.lies(liar)

	for _, stop := range slices.Backward(h.stops) {
		stop()
	}
	for n := founder; n < light; n++ {
		t.Logf("%s", h.types(n, "ledger", "check", h.home(n)))
	}
}

// complete waits until all homes have settled all these intervals: the last reports of some
// may come after those of later ones.
func (h *houses) complete(begin, last int64) {
	h.t.Helper()
	h.until(fmt.Sprintf("all of the intervals %d to %d are settled", begin, last), func() bool {
		for n := range h.ids {
			settled, _ := h.settled(n + 1)
			for k := begin; k <= last; k++ {
				if !settled[k] {
					return false
				}
			}
		}
		return true
	})
}

// proves has home n prove its bill, and somebody else's machine check it.
func (h *houses) proves(n int) {
	h.t.Helper()
	file := filepath.Join(h.dir, "bill.json")
	h.types(n, "bill", "--home", h.home(n), "--proof", file)
	trust := strings.TrimSpace(h.types(founder, "ledger", "genesis-hash", h.home(founder)))
	h.t.Logf("%s", h.types(founder, "verify", file, "--trust", trust))
}
