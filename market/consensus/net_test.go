package consensus

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	enginep2p "github.com/cometbft/cometbft/p2p"
	"go.uber.org/goleak"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/p2p"
)

// testKey derives a key from words, so that every run has the same ones.
func testKey(words ...any) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(fmt.Sprint(words...)))
	return ed25519.NewKeyFromSeed(seed[:])
}

func publicKey(k ed25519.PrivateKey) ledger.Key {
	return ledger.KeyOf(k.Public().(ed25519.PublicKey))
}

// home is a household with its keys.
type home struct {
	id                  market.HouseholdID
	cold, device, meter ed25519.PrivateKey
	network             ed25519.PrivateKey
	seq                 uint64
}

func newHome(name string) *home {
	h := &home{cold: testKey(name, "cold"), device: testKey(name, "device"), meter: testKey(name, "meter"), network: testKey(name, "network")}
	h.id = market.HouseholdIDOf(h.cold.Public().(ed25519.PublicKey))
	return h
}

// street is a community of nodes in this process, with real engines in tunnels over loopback
// and real gossip.
type street struct {
	t        testing.TB
	listen   string
	open     bool
	patient  bool // light homes have the times of real life
	chain    string
	genesis  ledger.Genesis
	doc      []byte
	officers []ed25519.PrivateKey
	homes    []*home
	nodes    []*member
}

// member is one node. Its parts are made anew at each start; its folder and keys stay.
type member struct {
	s       *street
	name    string
	cfg     Config
	network ed25519.PrivateKey

	*Node
	host     *p2p.Host
	tunnels  *p2p.Tunnels
	gone     atomic.Bool // to its own host, nobody is a member
	topic    *p2p.Topic
	cancel   context.CancelFunc
	done     chan error
	verdicts [4]atomic.Uint64
	tamper   atomic.Pointer[tamper] // how it lies to light homes
}

type streetOptions struct {
	validators, replicas, homes int
	interval                    time.Duration // community time
	rate                        int64
	next                        time.Duration // wall time from now to the next gate
	tweak                       func(i int, c *Config)
	rules                       func(r *ledger.Rules)
	listen                      string // default listenTCP
	open                        bool   // the network lets everybody in, the engine does not
}

// The transports of a street.
const (
	listenTCP  = "/ip4/127.0.0.1/tcp/0"
	listenQUIC = "/ip4/127.0.0.1/udp/0/quic-v1"
)

const topicName = "commonwatt/test/1"

// newStreet makes the folders and keys of a community; start starts its nodes.
func newStreet(t testing.TB, o streetOptions) *street {
	t.Helper()
	s := &street{t: t, chain: "sim-" + strings.Map(letters, t.Name()), listen: o.listen, open: o.open}
	if s.listen == "" {
		s.listen = listenTCP
	}
	s.chain = s.chain[:min(len(s.chain), 40)]
	rules := ledger.DefaultRules()
	rules.IntervalS, rules.LeadS = int64(o.interval/time.Second), 0
	rules.ReadingToleranceS = 10
	if o.rules != nil {
		o.rules(&rules)
	}
	now := time.Now()
	epoch := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC).Truncate(o.interval)
	// At now+next it is the end of the first interval.
	start := now.Add(o.next - o.interval/time.Duration(o.rate))
	s.genesis = ledger.Genesis{Name: s.chain, Epoch: epoch, Start: start.UTC().Round(0), Rate: o.rate, Rules: rules}
	for i := range 2 {
		s.officers = append(s.officers, testKey("officer", i))
		s.genesis.Officers = append(s.genesis.Officers, publicKey(s.officers[i]))
	}
	for i := range o.homes {
		s.homes = append(s.homes, newHome(fmt.Sprint("home", i)))
	}
	var validators []Validator
	for i := range o.validators + o.replicas {
		m := &member{s: s, name: fmt.Sprint("node", i), network: testKey("node", i)}
		s.genesis.Founders = append(s.genesis.Founders, publicKey(m.network))
		dir := filepath.Join(t.TempDir(), m.name)
		m.cfg = Config{
			Home: dir, NodeKey: m.network,
			ValidatorKeyFile: filepath.Join(dir, "validator.key"), ValidatorStateFile: filepath.Join(dir, "validator.state"),
			Log: testLog(t, m.name),
		}
		pub, err := NewValidatorKey(m.cfg.ValidatorKeyFile, m.cfg.ValidatorStateFile)
		if err != nil {
			t.Fatal(err)
		}
		if i < o.validators {
			validators = append(validators, Validator{Name: m.name, PubKey: pub, Power: 1, Network: m.network.Public().(ed25519.PublicKey)})
		}
		s.nodes = append(s.nodes, m)
	}
	var err error
	if s.doc, err = GenesisDoc(s.chain, s.genesis, validators, now); err != nil {
		t.Fatal(err)
	}
	if _, s.genesis, err = ParseGenesis(s.doc); err != nil {
		t.Fatal(err)
	}
	for i, m := range s.nodes {
		m.cfg.Genesis = s.doc
		if o.tweak != nil {
			o.tweak(i, &m.cfg)
		}
	}
	t.Cleanup(func() {
		for _, m := range s.nodes {
			if m.cancel != nil {
				if err := m.stop(); err != nil {
					t.Errorf("%s: %v", m.name, err)
				}
			}
		}
	})
	return s
}

// TestMain waits for the goroutines of all tests to end: the engine's gossip may sleep for
// two seconds. Two of each node never do, see engine.stop.
func TestMain(m *testing.M) {
	if path := os.Getenv(nodeEnv); path != "" {
		if err := runNode(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	known := []goleak.Option{
		goleak.IgnoreTopFunction("github.com/cometbft/cometbft/libs/autofile.(*AutoFile).closeFileRoutine"),
		goleak.IgnoreTopFunction("github.com/cometbft/cometbft/libs/autofile.OpenAutoFile.func1"),
	}
	deadline := time.Now().Add(10 * time.Second)
	err := goleak.Find(known...)
	for err != nil && time.Now().Before(deadline) {
		err = goleak.Find(known...) // with pauses of its own
	}
	if err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "goroutines are left:", err)
		code = 1
	}
	os.Exit(code)
}

func letters(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
		return r
	}
	if r >= 'A' && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return '-'
}

// testLog shows warnings of a failed test; COMMONWATT_TEST_LOG=debug shows all of it.
func testLog(t testing.TB, name string) *slog.Logger {
	t.Helper()
	level := slog.LevelWarn
	if os.Getenv("COMMONWATT_TEST_LOG") == "debug" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(&logWriter{t: t}, &slog.HandlerOptions{Level: level})).With("node", name)
}

type logWriter struct{ t testing.TB }

func (w *logWriter) Write(b []byte) (int, error) {
	if os.Getenv("COMMONWATT_TEST_LOG") != "" {
		_, _ = os.Stderr.Write(b)
	}
	return len(b), nil
}

func (s *street) start(nodes ...*member) {
	s.t.Helper()
	for _, m := range nodes {
		m.start()
	}
}

// start starts the node and its gossip.
func (m *member) start() {
	t := m.s.t
	t.Helper()
	cfg := m.cfg
	cfg.Publish = func(ctx context.Context, b []byte) error { return m.topic.Publish(ctx, b) }
	cfg.Ask = func(ctx context.Context, to ed25519.PublicKey, question []byte) ([]byte, error) {
		return askHost(ctx, m.host, to, question)
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.Node = n
	var boot []string
	for _, o := range m.s.nodes {
		if o.host != nil {
			boot = append(boot, o.host.Addrs()...)
		}
	}
	m.host, err = p2p.New(p2p.Config{
		Key: m.network, Listen: []string{m.s.listen}, Bootstrap: boot,
		Member: func(pub ed25519.PublicKey) (ok bool) {
			n.Read(func(s *ledger.State) { ok = s.IsMember(pub) })
			return (ok || m.s.open) && !m.gone.Load()
		},
		Log: m.cfg.Log,
	})
	if err != nil {
		t.Fatal(err)
	}
	if m.tunnels, err = m.host.Tunnel(TunnelProtocol, TunnelsPerPeer); err != nil {
		t.Fatal(err)
	}
	m.topic, err = m.host.Join(topicName, MaxBundleBytes,
		func(_ context.Context, _ p2p.PeerID, b []byte) p2p.Verdict {
			v := n.Validate(b)
			m.verdicts[v].Add(1)
			return p2p.Verdict(v)
		}, func(p2p.PeerID, []byte) {})
	if err != nil {
		t.Fatal(err)
	}
	m.host.Handle(AnswerProtocol, MaxQuestion, m.answer)
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel, m.done = cancel, make(chan error, 1)
	go func() { m.done <- n.Run(ctx, m.tunnels) }()
}

func askHost(ctx context.Context, host *p2p.Host, to ed25519.PublicKey, question []byte) ([]byte, error) {
	id, err := p2p.IDOf(to)
	if err != nil {
		return nil, err
	}
	return host.Request(ctx, id, AnswerProtocol, question, MaxAnswer)
}

// stop ends the node and returns what Run did.
func (m *member) stop() error {
	m.cancel()
	err := <-m.done
	m.cancel = nil
	if cerr := m.host.Close(); cerr != nil {
		m.s.t.Error(cerr)
	}
	m.host = nil
	return err
}

// await fails the test unless cond holds within a time.
func await(t testing.TB, within time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(within)
	for {
		if cond() {
			return time.Since(start)
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("after %v still not: %s", within, what)
		}
	}
}

// awaitUp waits until all nodes given see each other and follow the chain.
func (s *street) awaitUp(nodes ...*member) {
	s.t.Helper()
	await(s.t, 60*time.Second, "all nodes up", func() bool {
		for _, m := range nodes {
			st := m.Status()
			if st.CatchingUp || st.Peers < len(nodes)-1 || m.topic.Peers() < len(nodes)-1 || st.Height < 1 {
				return false
			}
		}
		return true
	})
}

// admit registers the homes and their meters through a node, and waits until all have them.
func (s *street) admit(via *member, nodes []*member, homes ...*home) {
	s.t.Helper()
	for _, h := range homes {
		s.submit(via, s.admission(h))
	}
	s.awaitState("households registered", nodes, func(st *ledger.State) bool {
		for _, h := range homes {
			if _, ok := st.Household(h.id); !ok {
				return false
			}
		}
		return true
	})
	for _, h := range homes {
		s.submit(via, s.meterAdmission(h))
	}
	s.awaitState("meters registered", nodes, func(st *ledger.State) bool {
		for _, h := range homes {
			if r, ok := st.Household(h.id); !ok || !r.HasMeter {
				return false
			}
		}
		return true
	})
}

func (s *street) meterAdmission(h *home) []byte {
	r := &ledger.RegisterMeter{Key: publicKey(h.meter), SignedBy: ledger.SignedByAgent, Definition: "test@1"}
	for i, o := range s.officers {
		r.Approvals = append(r.Approvals, ledger.Approval{Officer: uint64(i), Signature: ed25519.Sign(o, r.AdmissionBytes(s.chain, h.id))})
	}
	return r.Sign(s.chain, h.id, h.device)
}

func (s *street) admission(h *home) []byte {
	r := &ledger.RegisterHousehold{Key: publicKey(h.cold), Device: publicKey(h.device), Network: publicKey(h.network), Node: ledger.RootNode}
	for i, o := range s.officers {
		r.Approvals = append(r.Approvals, ledger.Approval{Officer: uint64(i), Signature: ed25519.Sign(o, r.AdmissionBytes(s.chain))})
	}
	return r.Sign(s.chain, h.cold)
}

func (s *street) submit(via *member, tx []byte) {
	s.t.Helper()
	if err := via.Submit(context.Background(), tx); err != nil {
		s.t.Fatalf("submitting at %s: %v", via.name, err)
	}
}

// awaitState waits until the state of all nodes fulfils ok.
func (s *street) awaitState(what string, nodes []*member, ok func(*ledger.State) bool) time.Duration {
	s.t.Helper()
	return await(s.t, 60*time.Second, what, func() bool {
		for _, m := range nodes {
			good := false
			m.Read(func(st *ledger.State) { good = ok(st) })
			if !good {
				return false
			}
		}
		return true
	})
}

// order makes a signed offer of one step.
func (s *street) order(h *home, k market.Interval, wh int64) []byte {
	h.seq++
	o := &ledger.PlaceOrder{Interval: k, Seq: h.seq, Side: market.Offer, Steps: []ledger.Step{{Price: 100_000, WattHours: market.WattHours(wh)}}}
	return o.Sign(s.chain, h.id, h.device)
}

// preference makes a transaction that does not wait for a gate.
func (s *street) preference(h *home) []byte {
	h.seq++
	p := &ledger.SetPreference{Seq: h.seq, MinSell: 80_000, MaxBuy: 300_000}
	return p.Sign(s.chain, h.id, h.device)
}

func hasOrder(st *ledger.State, h *home, k market.Interval) bool {
	r, ok := st.Interval(k)
	if !ok {
		return false
	}
	e, ok := r.Entry(h.id)
	return ok && e.OfferSeq > 0
}

func (m *member) next() (k market.Interval) {
	m.Read(func(s *ledger.State) { k = s.Next() })
	return k
}

// sameHashes compares all nodes at every height that they have in common.
func (s *street) sameHashes(nodes ...*member) {
	s.t.Helper()
	top := nodes[0].Status().Height
	for _, m := range nodes {
		top = min(top, m.Status().Height)
	}
	for h := int64(1); h <= top; h++ {
		want, ok := nodes[0].AppHashAt(h)
		if !ok {
			s.t.Fatalf("%s has no hash at %d", nodes[0].name, h)
		}
		for _, m := range nodes[1:] {
			if got, ok := m.AppHashAt(h); !ok || !bytes.Equal(got, want) {
				s.t.Fatalf("height %d: %s has %x, %s has %x", h, nodes[0].name, want, m.name, got)
			}
		}
	}
}

// settled waits until the chain is idle: no proof block is outstanding.
func (s *street) settled(nodes ...*member) int64 {
	s.t.Helper()
	var height int64
	since := time.Now()
	await(s.t, 30*time.Second, "chain idle", func() bool {
		for _, m := range nodes {
			if h := m.Status().Height; h != height {
				height, since = max(h, height), time.Now()
			}
		}
		return time.Since(since) > 1500*time.Millisecond
	})
	return height
}

func isRefusal(err error, code ledger.Code) bool {
	var r *ledger.Refusal
	return errors.As(err, &r) && r.Code == code
}

func nonce(n uint64) (b [nonceSize]byte) {
	binary.BigEndian.PutUint64(b[:], n)
	return b
}

// idOf is the engine's type of a node's name.
type idOf = enginep2p.ID

// prefer commits something that does not wait for a gate, and waits for it.
func (s *street) prefer(via *member, on ...*member) {
	s.t.Helper()
	s.submit(via, s.preference(s.homes[0]))
	s.awaitState("preference committed", on, s.preferred(s.homes[0]))
}

// preferred says whether the home's last preference is in the state.
func (s *street) preferred(h *home) func(*ledger.State) bool {
	seq := h.seq
	return func(st *ledger.State) bool {
		r, ok := st.Household(h.id)
		return ok && r.PreferenceSeq >= seq
	}
}

// admitOrPrefer makes one block on nodes, whatever the state of the first home.
func (s *street) admitOrPrefer(nodes []*member) {
	s.t.Helper()
	known := false
	nodes[0].Read(func(st *ledger.State) { _, known = st.Household(s.homes[0].id) })
	if !known {
		s.admit(nodes[0], nodes, s.homes[0])
		return
	}
	s.prefer(nodes[0], nodes...)
}

func (s *street) awaitPool(n int, nodes ...*member) {
	s.t.Helper()
	await(s.t, 10*time.Second, fmt.Sprintf("%d transactions in all pools", n), func() bool {
		for _, m := range nodes {
			if m.Status().Pool != n {
				return false
			}
		}
		return true
	})
}
