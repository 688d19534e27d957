package household

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/store"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if builtSimulator != "" {
		_ = os.RemoveAll(builtSimulator) // in the folder for such things anyway
	}
	// What the engine leaves, for ever or for a second, see consensus.
	known := []goleak.Option{
		goleak.IgnoreTopFunction("github.com/cometbft/cometbft/libs/autofile.(*AutoFile).closeFileRoutine"),
		goleak.IgnoreTopFunction("github.com/cometbft/cometbft/libs/autofile.OpenAutoFile.func1"),
	}
	err := goleak.Find(known...) // with pauses of its own
	for deadline := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(deadline); {
		err = goleak.Find(known...)
	}
	if err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
		code = 1
	}
	os.Exit(code)
}

// dawn is when the towns of these tests begin.
var dawn = time.Date(2026, 6, 21, 6, 0, 0, 0, time.UTC)

// clock is a wall clock that moves when it is told to.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// town is a community on the real ledger and the real store, without consensus: block
// makes a block of what waits.
type town struct {
	t     testing.TB
	now   func() time.Time
	store *store.Store
	dirs  []string // the homes'

	mu       sync.RWMutex
	state    *ledger.State
	pool     [][]byte
	height   int64
	catching bool
	waiting  string              // for whom else there is
	seen     map[ledger.Kind]int // transactions that were new
	before   func(tx *ledger.Tx) error
	after    func(tx *ledger.Tx)
	subs     map[chan consensus.Event]bool
}

type townOptions struct {
	homes   int
	start   time.Time
	rate    int64
	now     func() time.Time
	rules   func(*ledger.Rules)
	network []ledger.Node
	node    string // where the homes hang
	meterOf func(Founder) (ed25519.PublicKey, error)
}

// found founds a community as Found does, and opens a ledger for it.
func found(t testing.TB, o townOptions) *town {
	t.Helper()
	dir := t.TempDir()
	rules := ledger.DefaultRules()
	if o.rules != nil {
		o.rules(&rules)
	}
	f := Founding{
		Name: "sim-town", Dir: filepath.Join(dir, "cooperative"), Epoch: dawn, Start: o.start, Rate: max(1, o.rate),
		Rules: rules, Network: o.network, MeterOf: o.meterOf,
	}
	tw := &town{t: t, now: o.now, seen: map[ledger.Kind]int{}, subs: map[chan consensus.Event]bool{}}
	for i := range max(1, o.homes) {
		home := filepath.Join(dir, fmt.Sprintf("home-%d", i+1))
		tw.dirs = append(tw.dirs, home)
		f.Homes = append(f.Homes, Founder{
			Name: filepath.Base(home), Dir: home, Validator: i == 0, Node: o.node,
			Meter: ledger.RegisterMeter{SignedBy: ledger.SignedByAgent, Definition: "eastron-sdm630@1"},
		})
	}
	if err := Found(f); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(tw.dirs[0], CommunityFile))
	if err != nil {
		t.Fatal(err)
	}
	chain, g, err := consensus.ParseGenesis(raw)
	if err != nil {
		t.Fatal(err)
	}
	if tw.store, err = store.Open(filepath.Join(dir, "ledger.db"), chain, g); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tw.store.Close(); err != nil {
			t.Error(err)
		}
	})
	tw.state = tw.store.State()
	return tw
}

// block makes a block of what waits, with a tick if gates have closed, and says whether
// there was anything to do.
func (tw *town) block() bool {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	txs := slices.Clone(tw.pool)
	clock, calendar := tw.state.Clock(), tw.state.Calendar()
	if to := calendar.NextGate(clock.Community(tw.now())) - 1; to >= tw.state.Next() {
		txs = append(txs, ledger.NewTick(tw.state.Next(), min(to, tw.state.Next()+ledger.MaxTickSpan-1), tw.state.Next()))
	}
	if len(txs) == 0 {
		return false
	}
	tw.height++
	seed := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(tw.height)))
	delta, receipts, err := ledger.Apply(tw.state, ledger.Block{Seed: seed, Txs: txs})
	if err == nil {
		err = tw.store.Commit(tw.height, delta)
	}
	if err != nil {
		tw.t.Errorf("block %d: %v", tw.height, err)
		return false
	}
	tw.state.Absorb(delta)
	tw.pool = nil
	for _, err := range tw.state.Audit() {
		tw.t.Errorf("block %d: %v", tw.height, err)
	}
	hash := delta.AppHash()
	for c := range tw.subs {
		select {
		case c <- consensus.Event{Height: tw.height, AppHash: hash[:], Receipts: receipts}:
		default:
		}
	}
	return true
}

func (tw *town) Read(f func(*ledger.State)) {
	tw.mu.RLock()
	defer tw.mu.RUnlock()
	f(tw.state)
}

// Submit does as consensus.Node does.
func (tw *town) Submit(ctx context.Context, raw []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	tx, err := ledger.DecodeTx(raw)
	if err != nil {
		return err
	}
	tw.mu.Lock()
	before, after := tw.before, tw.after
	tw.mu.Unlock()
	if before != nil {
		if err := before(tx); err != nil {
			return err
		}
	}
	if err := tw.take(tx, raw); err != nil {
		return err
	}
	if after != nil {
		after(tx)
	}
	return nil
}

func (tw *town) take(tx *ledger.Tx, raw []byte) error {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	for _, b := range tw.pool {
		if string(b) == string(raw) {
			return nil
		}
	}
	if err := tw.state.CheckTx(tx); err != nil {
		return err
	}
	tw.seen[tx.Kind()]++
	tw.pool = append(tw.pool, raw)
	return nil
}

func (tw *town) Subscribe() (<-chan consensus.Event, func()) {
	c := make(chan consensus.Event, 16)
	tw.mu.Lock()
	defer tw.mu.Unlock()
	tw.subs[c] = true
	return c, func() {
		tw.mu.Lock()
		defer tw.mu.Unlock()
		delete(tw.subs, c)
	}
}

func (tw *town) Status() consensus.Status {
	tw.mu.RLock()
	defer tw.mu.RUnlock()
	hash := tw.state.AppHash()
	s := consensus.Status{
		ChainID: tw.state.ChainID(), Height: tw.height, AppHash: hash[:], CatchingUp: tw.catching, IsValidator: true,
		ValidatorsTotal: 1, Validators: []consensus.ValidatorStatus{{Name: "home-1", Power: 1, Self: true, Online: true}},
		Pool: len(tw.pool), Rejected: map[string]uint64{"gate-closed": 2}, Waiting: tw.waiting,
	}
	if tw.waiting != "" {
		s.Validators = append(s.Validators, consensus.ValidatorStatus{Name: "home-2", Power: 1})
	}
	return s
}

func (tw *town) AppHashAt(height int64) ([]byte, bool) { return tw.store.AppHashAt(height) }

func (tw *town) Settlements(h market.HouseholdID, from market.Interval, f func(*ledger.Settlement) bool) error {
	return tw.store.Settlements(h, from, f)
}

func (tw *town) Months(h market.HouseholdID) ([]ledger.Month, error) { return tw.store.Months(h) }

func (tw *town) Results(from market.Interval, f func(*ledger.MarketResult) bool) error {
	return tw.store.Results(from, f)
}

// wasSeen is how many transactions of a kind were new.
func (tw *town) wasSeen(k ledger.Kind) int {
	tw.mu.Lock()
	defer tw.mu.Unlock()
	return tw.seen[k]
}

// settlements gives the newest version of each settled Interval of a home.
func (tw *town) settlements(h market.HouseholdID) map[market.Interval]ledger.Settlement {
	tw.t.Helper()
	newest := map[market.Interval]ledger.Settlement{}
	err := tw.Settlements(h, 0, func(s *ledger.Settlement) bool {
		if old, ok := newest[s.Interval]; ok && s.Version != old.Version+1 {
			tw.t.Errorf("interval %d: version %d after %d", s.Interval, s.Version, old.Version)
		}
		newest[s.Interval] = *s
		return true
	})
	if err != nil {
		tw.t.Fatal(err)
	}
	return newest
}

// counted adds up what was settled as metered in the Intervals from first on, until the first
// that was not.
func (tw *town) counted(h market.HouseholdID, first market.Interval) (imported, exported market.WattHours, last market.Interval) {
	tw.t.Helper()
	all := tw.settlements(h)
	for last = first; metered(all[last].Quality); last++ {
		imported += all[last].Import
		exported += all[last].Export
	}
	return imported, exported, last - 1
}

// options are those of the i-th home.
func (tw *town) options(i int, c Config) Options {
	tw.t.Helper()
	keys, err := LoadKeys(tw.dirs[i])
	if err != nil {
		tw.t.Fatal(err)
	}
	return Options{Config: c, Dir: tw.dirs[i], Keys: keys, Ledger: tw, Now: tw.now, Log: slog.New(slog.DiscardHandler)}
}

// config is that of a home whose connection meter is at an address.
func config(definition, address string) Config {
	return Config{
		Name: "Number 1", Role: "validator", Log: "info", Clock: ClockTrusted,
		Listen: ListenConfig{API: "127.0.0.1:0", Network: []string{"/ip4/127.0.0.1/tcp/0"}},
		Meters: []MeterConfig{{Role: RoleConnection, Definition: definition, Address: address, Unit: 1}},
	}
}

// nowhere is an address at which no meter is, for homes whose samples the test brings.
const nowhere = "tcp://127.0.0.1:1"

func mustOpen(t testing.TB, o Options) *Home {
	t.Helper()
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func mustClose(t testing.TB, h *Home) {
	t.Helper()
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

// eventually waits for a condition on the wall clock.
func eventually(t testing.TB, within time.Duration, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

var errKilled = errors.New("killed")
