package consensus

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"
	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// C3: the table of ticks, at 60-fold speed and at 1.
func TestTickRule(t *testing.T) {
	t.Parallel()
	for _, rate := range []int64{1, 60} {
		s := newStreet(t, streetOptions{
			validators: 1, interval: time.Hour, rate: rate, next: time.Minute, rules: func(r *ledger.Rules) { r.LeadS = 600 },
		})
		state, err := ledger.NewState(s.chain, s.genesis)
		if err != nil {
			t.Fatal(err)
		}
		k := state.Next()
		gate := wallGate(state, k)
		length := wallGate(state, k+1).Sub(gate)
		lead := state.Clock().Wall(state.Calendar().Start(k)).Sub(gate)
		for _, c := range []struct {
			name     string
			from, to market.Interval
			begun    market.Interval
			at       time.Duration // after the gate of k
			ok       bool
		}{
			{"in time", k, k, k, time.Millisecond, true},
			{"at the gate", k, k, k, 0, true},
			{"by a clock that is slow", k, k, k, -Tolerance, true},
			{"early", k, k, k, -Tolerance - 1, false},
			{"long after", k, k, k, 100 * length, true},
			{"not the next", k + 1, k + 1, k + 1, 2 * length, false},
			{"one that was", k - 1, k - 1, k - 1, length, false},
			{"several", k, k + 3, k, 3*length + 1, true},
			{"several, the last early", k, k + 4, k, 4*length - Tolerance - 1, false},
			{"several, all but one begun", k, k + 3, k + 3, 3*length + 1, true},
			{"begun by a clock that is slow", k, k, k + 1, lead - Tolerance, true},
			{"not begun yet", k, k, k + 1, lead - Tolerance - 1, false},
			{"begun, and not said", k, k, k, lead + 1, true},
		} {
			tx, err := ledger.DecodeTx(ledger.NewTick(c.from, c.to, c.begun))
			if err != nil {
				t.Fatal(err)
			}
			if err := checkTick(state, tx, gate.Add(c.at)); (err == nil) != c.ok {
				t.Errorf("rate %d, %s: %v, want accepted %v", rate, c.name, err, c.ok)
			}
		}
		if _, due := dueTick(state, gate); due {
			t.Errorf("rate %d: due at the gate's last instant", rate)
		}
		for _, c := range []struct {
			after time.Duration
			want  ledger.Tick
		}{
			{1, ledger.Tick{From: k, To: k, Begun: k}},
			{lead - 1, ledger.Tick{From: k, To: k, Begun: k}},
			{lead, ledger.Tick{From: k, To: k, Begun: k + 1}},
			{3*length + 1, ledger.Tick{From: k, To: k + 3, Begun: k + 3}},
			{3*length + lead, ledger.Tick{From: k, To: k + 3, Begun: k + 4}},
			{20_000 * length, ledger.Tick{From: k, To: k + ledger.MaxTickSpan - 1, Begun: k + ledger.MaxTickSpan}},
		} {
			if got, due := dueTick(state, gate.Add(c.after)); !due || got != c.want {
				t.Errorf("rate %d, %v after the gate: due %v %+v, want %+v", rate, c.after, due, got, c.want)
			}
		}
	}
}

// C3: what is accepted once is accepted ever after, and what an honest proposer makes is
// accepted by everybody whose clock is not more than Tolerance behind.
func TestTickNeverTurns(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 1, interval: time.Minute, rate: 30, next: time.Minute})
	state, err := ledger.NewState(s.chain, s.genesis)
	if err != nil {
		t.Fatal(err)
	}
	gate := wallGate(state, state.Next())
	rapid.Check(t, func(t *rapid.T) {
		at := gate.Add(time.Duration(rapid.Int64Range(-int64(time.Hour), int64(48*time.Hour)).Draw(t, "at")))
		tick, due := dueTick(state, at)
		if !due {
			return
		}
		tx, err := ledger.DecodeTx(ledger.NewTick(tick.From, tick.To, tick.Begun))
		if err != nil {
			t.Fatal(err)
		}
		later := time.Duration(rapid.Int64Range(-int64(Tolerance), int64(1000*time.Hour)).Draw(t, "later"))
		if err := checkTick(state, tx, at.Add(later)); err != nil {
			t.Fatalf("made at %v, refused %v later: %v", at, later, err)
		}
	})
}

// C1: a peer can neither ring nor fill the engine's mempool, and a bell does not outlive a
// commit.
func TestOnlyOwnBellRings(t *testing.T) {
	t.Parallel()
	n := &Node{bell: newBell(), book: &book{height: 6}}
	a := &app{n: n}
	check := func(tx []byte, kind abci.CheckTxType) bool {
		res, err := a.CheckTx(context.Background(), &abci.RequestCheckTx{Tx: tx, Type: kind})
		if err != nil {
			t.Fatal(err)
		}
		return res.IsOK()
	}
	for _, tx := range [][]byte{nil, {}, {bellKind}, make([]byte, bellBytes)} {
		if check(tx, abci.CheckTxType_New) {
			t.Errorf("%x rang before any bell was drawn", tx)
		}
	}
	if check(n.bell.draw(6), abci.CheckTxType_New) {
		t.Error("a bell for the block that has just come rang for the next one")
	}
	old := n.bell.draw(7)
	now := n.bell.draw(7)
	if !check(now, abci.CheckTxType_New) || check(old, abci.CheckTxType_New) {
		t.Error("want the last bell to ring, and the one before no more")
	}
	if check(now, abci.CheckTxType_Recheck) {
		t.Error("the bell outlives a commit")
	}
}

func TestGenesisIsStrict(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 3, interval: time.Hour, rate: 1, next: time.Minute})
	chain, g, err := ParseGenesis(s.doc)
	if err != nil || chain != s.chain || g.Name != s.genesis.Name || g.Rules.IntervalS != 3600 {
		t.Fatalf("%q, %+v, %v", chain, g, err)
	}
	change := func(f func(doc, state map[string]any)) []byte {
		var doc map[string]any
		if err := json.Unmarshal(s.doc, &doc); err != nil {
			t.Fatal(err)
		}
		f(doc, doc["app_state"].(map[string]any))
		raw, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for _, c := range []struct {
		want, name string
		raw        []byte
	}{
		{"ruels", "unknown key in app_state", change(func(_, st map[string]any) { st["ruels"] = 1 })},
		{"interval_sec", "unknown key in rules", change(func(_, st map[string]any) { st["rules"].(map[string]any)["interval_sec"] = 1 })},
		{"chainid", "unknown key", change(func(d, _ map[string]any) { d["chainid"] = "x" })},
		{"rules", "bad rule", change(func(_, st map[string]any) { st["rules"].(map[string]any)["interval_s"] = 7 })},
		{"validators", "no validators", change(func(d, _ map[string]any) { delete(d, "validators") })},
		{"validators[1]", "twice", change(func(d, _ map[string]any) { v := d["validators"].([]any); v[1] = v[0] })},
		{"validators[2]", "no power", change(func(d, _ map[string]any) { d["validators"].([]any)[2].(map[string]any)["power"] = "-1" })},
		{"initial_height", "height", change(func(d, _ map[string]any) { d["initial_height"] = "7" })},
		{"app_hash", "hash", change(func(d, _ map[string]any) { d["app_hash"] = "AA" })},
		{"max_bytes", "block size", change(func(d, _ map[string]any) {
			d["consensus_params"].(map[string]any)["block"].(map[string]any)["max_bytes"] = "5000000"
		})},
		{"app_state", "no state", change(func(d, _ map[string]any) { delete(d, "app_state") })},
		{"follows", "trailing", append(append([]byte{}, s.doc...), "{}"...)},
		{"", "not json", []byte("{")},
		{"at most", "huge", make([]byte, maxGenesisBytes+1)},
	} {
		if _, _, err := ParseGenesis(c.raw); !errors.Is(err, ErrGenesis) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want ErrGenesis that names %q", c.name, err, c.want)
		}
	}
	if _, err := GenesisDoc(s.chain, s.genesis, []Validator{{Name: "x", PubKey: make([]byte, 5), Power: 1}}, time.Now()); !errors.Is(err, ErrGenesis) {
		t.Errorf("short key: %v", err)
	}
	if _, err := GenesisDoc(strings.Repeat("x", 60), s.genesis, nil, time.Now()); !errors.Is(err, ErrGenesis) {
		t.Errorf("long chain id: %v", err)
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 2, interval: time.Hour, rate: 1, next: time.Minute})
	for _, c := range []struct {
		want string
		f    func(*Config)
	}{
		{"Home", func(c *Config) { c.Home = "" }},
		{"NodeKey", func(c *Config) { c.NodeKey = c.NodeKey[:12] }},
		{"ValidatorKeyFile", func(c *Config) { c.ValidatorKeyFile = "" }},
		{"MaxPeers", func(c *Config) { c.MaxPeers = -1 }},
		{"Pace", func(c *Config) { c.Pace.Heartbeat = time.Millisecond }},
		{"Pool", func(c *Config) { c.Pool.Own = -1 }},
	} {
		cfg := s.nodes[0].cfg
		c.f(&cfg)
		if _, err := New(cfg); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.want+":") && !strings.Contains(err.Error(), c.want+",") {
			t.Errorf("%v, want ErrConfig that names %s", err, c.want)
		}
	}
	open := func(c Config) (*Node, error) {
		n, err := New(c)
		if err == nil {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
		return n, err
	}
	if _, err := open(s.nodes[0].cfg); err != nil {
		t.Fatal(err)
	}
	other := newStreet(t, streetOptions{validators: 1, interval: time.Hour, rate: 1, next: time.Hour})
	cfg := s.nodes[0].cfg
	cfg.Genesis = other.doc
	if _, err := open(cfg); !errors.Is(err, ErrOtherChain) {
		t.Errorf("another community's document: %v, want ErrOtherChain", err)
	}
	n, err := New(s.nodes[0].cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(n.Close(), n.Close()); err != nil {
		t.Error(err)
	}
	if err := n.Run(context.Background(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Run after Close: %v, want ErrClosed", err)
	}
	if _, ok := n.AppHashAt(0); ok {
		t.Error("a closed node still reads its file")
	}
}

func TestValidatorKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, state := filepath.Join(dir, "a", "key"), filepath.Join(dir, "a", "state")
	pub, err := NewValidatorKey(key, state)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{key, state} {
		if info, err := os.Stat(f); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", f, info.Mode(), err)
		}
	}
	if _, err := NewValidatorKey(key, state); !errors.Is(err, fs.ErrExist) {
		t.Errorf("overwriting: %v, want fs.ErrExist", err)
	}
	if got, err := LoadValidatorKey(key); err != nil || !pub.Equal(got) {
		t.Errorf("loaded %x, %v; want %x", got, err, pub)
	}
	if pv, err := loadValidator(key, state); err != nil || pv.LastSignState.Height != 0 {
		t.Errorf("loaded %v, %v", pv, err)
	}
	write := func(f, text string, mode os.FileMode) string {
		f = filepath.Join(dir, f)
		if err := os.WriteFile(f, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return f
	}
	raw, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, key, state, want string }{
		{"no key", filepath.Join(dir, "none"), state, "no such file"},
		{"no state", key, filepath.Join(dir, "none"), "has signed is lost"},
		{"readable key", write("open", string(raw), 0o644), state, "chmod 600"},
		{"broken key", write("broken", string(raw[:50]), 0o600), state, "not a validator key"},
		{"broken state", key, write("state1", "{", 0o600), "reading validator state"},
		{"bad state", key, write("state2", `{"height":"-1","round":0,"step":0}`, 0o600), "do not fit"},
		{"half a state", key, write("state3", `{"height":"5","round":0,"step":3,"signbytes":"AA"}`, 0o600), "do not fit"},
	} {
		if _, err := loadValidator(c.key, c.state); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
	}
}

// A slow subscriber misses the oldest blocks, is told so, and holds nobody up.
func TestSubscribe(t *testing.T) {
	t.Parallel()
	n := &Node{}
	slow, cancelSlow := n.Subscribe()
	gone, cancelGone := n.Subscribe()
	cancelGone()
	cancelGone()
	if _, open := <-gone; open {
		t.Error("want the channel closed by cancel")
	}
	for h := range int64(eventQueue + 10) {
		n.events.send(Event{Height: h + 1})
	}
	var got []Event
	var missed uint64
	for range eventQueue {
		ev := <-slow
		got = append(got, ev)
		missed += ev.Missed
	}
	if first := got[0].Height; first != 11 || missed != 10 || got[len(got)-1].Height != eventQueue+10 {
		t.Errorf("first %d, last %d, missed %d; want 11, %d, 10", first, got[len(got)-1].Height, missed, eventQueue+10)
	}
	n.events.close()
	if _, open := <-slow; open {
		t.Error("want the channel closed with the node")
	}
	cancelSlow()
	if c, _ := n.Subscribe(); c != nil {
		if _, open := <-c; open {
			t.Error("want a closed channel after the node's end")
		}
	}
}
