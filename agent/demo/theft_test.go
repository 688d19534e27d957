package demo_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/bill"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/agent/paper"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/p2p"
)

// The homes of TestTheft, by their places.
const (
	sunny  = iota // a validator, whose roof the others buy from
	plain         // the other validator
	leaver        // a replica, which leaves before the month is over
	victim        // a replica, whose gateway is stolen
	thin          // a light home
)

const (
	chainOfTheft = "demo-theft"
	rateOfTheft  = 450                    // 15 minutes pass in 2 s
	waitOfTheft  = 3 * time.Minute        // for any one thing; it takes seconds
	lastEvening  = "2026-06-30T17:30:00Z" // when it begins: the sun shines, and the month is over soon
	lastMonth    = "2026-06"
)

// town is a community of real processes whose rules are short enough to see a month end.
type town struct {
	t       *testing.T
	dir     string
	genesis ledger.Genesis
	meters  string // where firmware-sim is
	ports   []int  // of the network
	pages   []string
	agents  map[string]*exec.Cmd // by folder
}

func (w *town) home(i int) string { return filepath.Join(w.dir, fmt.Sprintf("home-%d", i+1)) }

func (w *town) at(i int) string { return fmt.Sprintf("127.0.0.1:%d", w.ports[i]) }

func (w *town) officer(n int) string {
	return filepath.Join(w.dir, "cooperative", fmt.Sprintf("officer-%d.key", n))
}

// foundTown founds it and starts all that it has.
func foundTown(t *testing.T) *town {
	t.Helper()
	w := &town{t: t, dir: t.TempDir(), agents: map[string]*exec.Cmd{}}
	epoch, err := time.Parse(time.RFC3339, lastEvening)
	if err != nil {
		t.Fatal(err)
	}
	definition, err := meter.FindDefinition("", "eastron-sdm630")
	if err != nil {
		t.Fatal(err)
	}
	rules := ledger.DefaultRules()
	rules.ReadingToleranceS = 899
	rules.ReportDeadlineS = 10 * rateOfTheft // ten seconds of the wall clock
	rules.CorrectionWindowS = 10 * rateOfTheft
	f := household.Founding{
		Name: chainOfTheft, Dir: filepath.Join(w.dir, "cooperative"),
		Epoch: epoch, Start: time.Now().UTC().Truncate(time.Millisecond), Rate: rateOfTheft, Rules: rules,
	}
	for i := range thin + 1 {
		f.Homes = append(f.Homes, household.Founder{
			Name: fmt.Sprintf("home-%d", i+1), Dir: w.home(i), Validator: i <= plain,
			Meter: ledger.RegisterMeter{SignedBy: ledger.SignedByAgent, Definition: definition.Source()},
		})
	}
	if err := household.Found(f); err != nil {
		t.Fatal(err)
	}
	w.genesis = ledger.Genesis{Epoch: f.Epoch, Rules: rules}
	t.Cleanup(func() {
		if t.Failed() {
			w.tell()
		}
	})
	w.simulate(f)
	w.configure()
	for i := range thin + 1 {
		w.run(w.home(i))
	}
	return w
}

// simulate starts firmware-sim with a meter for each home.
func (w *town) simulate(f household.Founding) {
	w.t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "clock: {epoch: %s, start: %s, rate: %d}\ninterval: 15m\nrefresh: 15m\nseed: 42\nweather: {cloudiness: 0}\n",
		f.Epoch.Format(time.RFC3339), f.Start.Format(time.RFC3339Nano), f.Rate)
	port := freePort(w.t)
	fmt.Fprintf(&text, "modbus: {listen: 127.0.0.1:%d}\nhomes:\n", port)
	for i := range thin + 1 {
		fmt.Fprintf(&text, "  - id: home-%d\n    load: {model: household, yearly_kwh: 6000}\n", i+1)
		if i == sunny {
			fmt.Fprint(&text, "    solar: {kwp: 20, azimuth: 280, tilt: 60}\n")
		}
		fmt.Fprintf(&text, "    devices:\n      - {role: grid, definition: eastron-sdm630, unit: %d}\n", i+1)
	}
	file := filepath.Join(w.dir, "firmware-sim.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		w.t.Fatal(err)
	}
	process(w.t, filepath.Join(w.dir, "firmware-sim.log"), filepath.Join(filepath.Dir(commonwatt(w.t)), "firmware-sim"), "run", "--config", file)
	w.meters = fmt.Sprintf("tcp://127.0.0.1:%d", port)
}

// configure writes each home's agent.yaml.
func (w *town) configure() {
	w.t.Helper()
	network, reached := make([][]string, thin+1), make([]string, thin+1)
	for i := range thin + 1 {
		id, err := p2p.IDOf(w.keys(w.home(i)).Network.Public().(ed25519.PublicKey))
		if err != nil {
			w.t.Fatal(err)
		}
		w.ports = append(w.ports, freePort(w.t))
		network[i] = []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", w.ports[i]), fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", w.ports[i])}
		reached[i] = network[i][1] + "/p2p/" + string(id)
	}
	for i, role := range []string{household.RoleValidator, household.RoleValidator, household.RoleReplica, household.RoleReplica, household.RoleLight} {
		page := fmt.Sprintf("127.0.0.1:%d", freePort(w.t))
		w.pages = append(w.pages, "http://"+page)
		others := slices.Concat(reached[:i], reached[i+1:])
		if i == thin {
			others = reached[:leaver] // whom it names it lets in, whatever became of them
		}
		err := household.WriteConfig(w.home(i), household.Config{
			Name: fmt.Sprintf("home-%d", i+1), Role: role, Clock: household.ClockTrusted, Access: household.AccessOpen,
			Listen: household.ListenConfig{API: page, Network: network[i]},
			Peers:  household.PeersConfig{Bootstrap: others},
			Meters: []household.MeterConfig{{Role: household.RoleConnection, Definition: "eastron-sdm630", Address: w.meters, Unit: uint8(i + 1)}},
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *town) keys(home string) *household.Keys {
	w.t.Helper()
	keys, err := household.LoadKeys(home)
	if err != nil {
		w.t.Fatal(err)
	}
	return keys
}

// run starts the agent of a folder.
func (w *town) run(home string) {
	w.t.Helper()
	w.agents[home] = process(w.t, filepath.Join(w.dir, filepath.Base(home)+".log"), commonwatt(w.t), "run", "--home", home)
}

// cut ends an agent as a power cut does.
func (w *town) cut(home string) {
	w.t.Helper()
	if err := w.agents[home].Process.Kill(); err != nil {
		w.t.Fatal(err)
	}
	_ = w.agents[home].Wait() // it was killed
}

// tell shows the end of each log.
func (w *town) tell() {
	logs, err := filepath.Glob(filepath.Join(w.dir, "*.log"))
	if err != nil {
		w.t.Error(err)
	}
	for _, log := range logs {
		if raw, err := os.ReadFile(log); err == nil {
			w.t.Logf("the last of %s:\n%s", filepath.Base(log), raw[max(0, len(raw)-300):])
		}
	}
}

// say runs a command with so much on its standard input.
func (w *town) say(in string, args ...string) (string, error) {
	cmd := exec.Command(commonwatt(w.t), args...)
	cmd.Stdin = strings.NewReader(in)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must runs a command that has to succeed.
func (w *town) must(in string, args ...string) string {
	w.t.Helper()
	out, err := w.say(in, args...)
	if err != nil {
		w.t.Fatalf("commonwatt %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// until waits for a condition.
func (w *town) until(what string, ok func() bool) {
	w.t.Helper()
	begin := time.Now()
	for tick := time.Tick(200 * time.Millisecond); !ok(); <-tick {
		if time.Since(begin) > waitOfTheft {
			w.t.Fatalf("after %v: not %s", waitOfTheft, what)
		}
	}
	w.t.Logf("%s: after %v", what, time.Since(begin).Round(100*time.Millisecond))
}

// status is what `status` says, and its height; -1 if nothing or none.
func (w *town) status(home string) (s api.Status, height int64) {
	cmd := exec.Command(commonwatt(w.t), "status", "--home", home, "--output", "json")
	out, err := cmd.Output()
	if err != nil || json.Unmarshal(out, &s) != nil || s.Ledger.Height == nil {
		return s, -1
	}
	return s, *s.Ledger.Height
}

// bill is what `bill` says; nil if nothing.
func (w *town) bill(home string, args ...string) *bill.Statement {
	out, err := exec.Command(commonwatt(w.t), append([]string{"bill", "--home", home, "--output", "json"}, args...)...).Output()
	st := new(bill.Statement)
	if err != nil || json.Unmarshal(out, st) != nil {
		return nil
	}
	return st
}

// linesOf a bill, in the ledger's order. Which block had them is not known everywhere.
func linesOf(st *bill.Statement) (out []bill.Line) {
	if st == nil {
		return nil
	}
	for _, d := range st.Days {
		out = append(out, d.Lines...)
	}
	slices.SortFunc(out, func(a, b bill.Line) int { return int(a.Number) - int(b.Number) })
	for i := range out {
		out[i].Block = 0
	}
	return out
}

// submit hands a transaction to the page of home i, and returns what it answers.
func (w *town) submit(i int, tx []byte) (int, string) {
	w.t.Helper()
	body, err := json.Marshal(api.Submission{Transaction: hex.EncodeToString(tx)})
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.pages[i]+"/api/transactions", bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// refuse has homes refuse what the stolen device key signs, as soon as they have the newest
// block of the first.
func (w *town) refuse(id market.HouseholdID, device ed25519.PrivateKey, code string, homes ...int) {
	w.t.Helper()
	_, height := w.status(w.home(sunny))
	for _, i := range homes {
		w.until(fmt.Sprintf("home-%d at block %d", i+1, height), func() bool {
			_, h := w.status(w.home(i))
			return h >= height
		})
		g := w.bill(w.home(sunny))
		next := w.genesis.Calendar().At(g.AsOf) + 4
		for name, tx := range map[string][]byte{
			"order":      (&ledger.PlaceOrder{Interval: next, Seq: 1 << 40, Side: market.Bid, Steps: []ledger.Step{{WattHours: 10, Price: 200_000}}}).Sign(chainOfTheft, id, device),
			"preference": (&ledger.SetPreference{Seq: 1 << 40, MinSell: 100_000, MaxBuy: 200_000}).Sign(chainOfTheft, id, device),
			"departure":  (&ledger.Depart{From: next, By: ledger.DepartByDevice}).Sign(chainOfTheft, id, device),
		} {
			if status, text := w.submit(i, tx); status != http.StatusConflict || !strings.Contains(text, code) {
				w.t.Errorf("home-%d, a stolen gateway's %s: got %d %s, want 409 with %s", i+1, name, status, text, code)
			}
		}
	}
}

// TestTheft: a gateway is stolen, and the household goes on with another. Nothing that the
// old one's keys sign counts anywhere, from the block with the revocation on; balance and
// history are there again. Meanwhile another household leaves, and its last bill becomes final.
func TestTheft(t *testing.T) {
	t.Parallel()
	w := foundTown(t)
	id, device := w.keys(w.home(victim)).ID(), w.keys(w.home(victim)).Device
	words := strings.Join(paper.RecoveryWords([32]byte(w.keys(w.home(victim)).Household.Seed())), " ") + "\n"
	shares := regexp.MustCompile(`(?m)^commonwatt-share:\S+`).FindAllString(
		w.must("", "keys", "share", "--home", w.home(victim), "--to", "3", "--need", "2", "--show"), -1)
	w.must("", "keys", "forget", "--home", w.home(victim))

	w.until("the leaving household has a bill", func() bool { return len(linesOf(w.bill(w.home(leaver)))) > 0 })
	left := w.leave()
	var before *bill.Statement
	w.until("the victim has money", func() bool {
		before = w.bill(w.home(victim))
		return len(linesOf(before)) >= 3 && before.Totals.Closing != 0 && before.Totals.Bought > 0
	})

	// The theft.
	w.cut(w.home(victim))
	thief := filepath.Join(w.dir, "thief")
	if out, err := exec.Command("cp", "-a", w.home(victim), thief).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out := w.must(words, "keys", "revoke", "--words", "--at", w.at(plain)); !strings.Contains(out, "is revoked: its keys are worthless") {
		t.Errorf("revoke: %s", out)
	}
	_, revoked := w.status(w.home(sunny))
	w.refuse(id, device, "no-device", sunny, plain, leaver, thin)
	w.run(thief)
	w.until("others are five blocks further than the revocation, and the thief's agent answers", func() bool {
		s, h := w.status(thief)
		if h >= revoked {
			t.Fatalf("the thief has block %d, the revocation was in %d or before", h, revoked)
		}
		_, now := w.status(w.home(sunny))
		return h >= 0 && now >= revoked+5 && len(s.Ledger.Peers) == 0
	})

	// The words bring it back, and two of three shares do.
	again := w.recover("again", []string{"--words", "--at", w.at(sunny)}, words)
	w.sameAccount(again, id, before)
	w.refuse(id, device, "bad-signature", sunny, plain, thin)
	w.goOn(again)
	before = w.bill(again, "--month", lastMonth)

	third := w.recover("third", []string{"--share", shares[2], "--share", shares[0], "--at", w.at(plain)}, "")
	w.sameAccount(third, id, before)
	w.refuse(id, device, "bad-signature", sunny, plain, thin)
	w.refuse(id, w.keys(again).Device, "bad-signature", sunny, plain, thin)
	if s, h := w.status(thief); h >= revoked || len(s.Ledger.Peers) > 0 {
		t.Errorf("the thief: block %d, peers %+v", h, s.Ledger.Peers)
	}
	w.gone(left)
}

// recover makes a folder for the victim's household, and starts its agent.
func (w *town) recover(name string, proof []string, in string) string {
	w.t.Helper()
	home := filepath.Join(w.dir, name)
	out := w.must(in, append([]string{
		"recover", "--home", home, "--address", w.meters, "--unit", strconv.Itoa(victim + 1),
		"--page", fmt.Sprintf("127.0.0.1:%d", freePort(w.t)), "--network-port", strconv.Itoa(freePort(w.t)),
	}, proof...)...)
	if !strings.Contains(out, "the old one's keys are worthless") {
		w.t.Errorf("recover: %s", out)
	}
	w.run(home)
	return home
}

// sameAccount waits until the new gateway has the ledger, and holds its account against what
// the old one had, and against what the others have.
func (w *town) sameAccount(home string, id market.HouseholdID, before *bill.Statement) {
	w.t.Helper()
	old := linesOf(before)
	var own, other *bill.Statement
	w.until(filepath.Base(home)+" has the account that the others have", func() bool {
		own, other = w.bill(home, "--month", lastMonth), w.bill(w.home(plain), "--month", lastMonth, "--household", id.String())
		return own != nil && other != nil && len(linesOf(own)) >= len(old) && own.Totals.Lines == other.Totals.Lines
	})
	if !slices.Equal(linesOf(own)[:len(old)], old) {
		w.t.Errorf("%s: the history begins with %+v, the old gateway had %+v", home, linesOf(own)[:len(old)], old)
	}
	if !slices.Equal(linesOf(own), linesOf(other)) || own.Totals != other.Totals {
		w.t.Errorf("%s: the account is %+v, with others %+v", home, own.Totals, other.Totals)
	}
	s, height := w.status(home)
	if s.Home.ID != id.String() || height < 1 || len(s.Ledger.Peers) == 0 {
		w.t.Errorf("%s: status: household %s, block %d, peers %+v", home, s.Home.ID, height, s.Ledger.Peers)
	}
}

// goOn has officers approve the meter's readings by the new gateway, which then orders and
// meters again.
func (w *town) goOn(home string) {
	w.t.Helper()
	file := filepath.Join(w.dir, filepath.Base(home)+".json")
	out := w.must("", "meter", "replace", "--home", home, "--reason", "new gateway", "--out", file)
	from := numberIn(w.t, out)
	for n := range 2 {
		w.must("", "community", "approve", file, "--home", w.home(sunny), "--key", w.officer(n+1))
	}
	w.must("", "meter", "replace", "--home", home, "--submit", file)
	w.until(filepath.Base(home)+" orders and meters", func() bool {
		return slices.ContainsFunc(linesOf(w.bill(home)), func(l bill.Line) bool {
			return int64(l.Interval) >= from && l.Bid > 0 && l.ReadingEnd > 0 && l.Quality == "good" && l.Import > 0
		})
	})
}

// numberIn finds "(interval N)".
func numberIn(t *testing.T, text string) int64 {
	t.Helper()
	m := regexp.MustCompile(`\(interval (\d+)\)`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no interval in %q", text)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// leave ends a household's membership, and returns the first interval without it.
func (w *town) leave() int64 {
	w.t.Helper()
	out := w.must("", "leave", "--home", w.home(leaver), "--yes")
	if out, err := w.say("", "bill", "--home", w.home(leaver), "--final"); err == nil || !strings.Contains(out, "is not final") ||
		!strings.Contains(out, "hint: it is when the month is over and its correction window has passed") {
		w.t.Errorf("a bill right after leaving: %v\n%s", err, out)
	}
	return numberIn(w.t, out)
}

// gone waits until nothing can change the last bill of the household that left, and holds
// what it and the others have against what has to be there.
func (w *town) gone(from int64) {
	w.t.Helper()
	id := w.keys(w.home(leaver)).ID()
	for _, home := range []string{w.home(sunny), w.home(leaver)} {
		args := []string{"--household", id.String(), "--month", lastMonth, "--final"}
		w.until("its bill is final for "+filepath.Base(home), func() bool { return w.bill(home, args...) != nil })
		st := w.bill(home, args...)
		lines := linesOf(st)
		if last := lines[len(lines)-1]; !st.Final || int64(last.Interval) >= from {
			w.t.Errorf("%s: the last bill ends with interval %d and is final: %v; the household left with interval %d", home, last.Interval, st.Final, from)
		}
	}
	if last := linesOf(w.bill(w.home(sunny))); int64(last[len(last)-1].Interval) <= from {
		w.t.Errorf("nothing is settled after interval %d", from)
	}
}
