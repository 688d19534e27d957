package consensus

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/p2p"
)

// tamper changes an answer on its way out of a node; nil leaves it.
type tamper func(kind Question, question, answer []byte) []byte

// lightHome is a home that asks the nodes over real connections.
type lightHome struct {
	*Light
	s      *street
	host   *p2p.Host
	cancel context.CancelFunc
	done   chan error
}

// newLightHome starts a light home of a household that is admitted. It has a network host
// of its own, and no ledger.
// It asks the node first, if one is named.
func (s *street) newLightHome(h *home, dir string, first *member) *lightHome {
	s.t.Helper()
	var boot []string
	members := map[string]bool{}
	for _, m := range s.nodes {
		members[string(m.network.Public().(ed25519.PublicKey))] = true
		if m.host != nil {
			boot = append(boot, m.host.Addrs()...)
		}
	}
	l := &lightHome{s: s}
	var err error
	l.host, err = p2p.New(p2p.Config{Key: h.network, Bootstrap: boot, Member: func(pub ed25519.PublicKey) bool { return members[string(pub)] }})
	if err != nil {
		s.t.Fatal(err)
	}
	cfg := LightConfig{
		Genesis: s.doc, Household: h.id, File: filepath.Join(dir, "headers"),
		Lag: 500 * time.Millisecond, Pause: 50 * time.Millisecond, Wait: time.Second,
		Ask: func(ctx context.Context, provider string, q []byte) ([]byte, error) {
			return l.host.Request(ctx, p2p.PeerID(provider), AnswerProtocol, q, MaxAnswer)
		},
		Providers: func() (all []Provider) {
			for _, p := range l.host.Peers() {
				if key, err := p2p.KeyOf(p.ID); err == nil {
					all = append(all, Provider{ID: string(p.ID), Key: key})
				}
			}
			return all
		},
		Log: testLog(s.t, "light"),
	}
	if s.patient {
		cfg.Lag, cfg.Pause, cfg.Wait = 0, 0, 0 // the defaults
	}
	l.Light, err = NewLight(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	await(s.t, 60*time.Second, "all nodes connected", func() bool { return len(l.host.Peers()) == len(members) })
	if first != nil {
		l.askFirst(first)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel, l.done = cancel, make(chan error, 1)
	go func() { l.done <- l.Run(ctx) }()
	s.t.Cleanup(l.stop)
	return l
}

func (l *lightHome) stop() {
	if l.cancel == nil {
		return
	}
	l.cancel()
	l.cancel = nil
	if err := <-l.done; err != nil {
		l.s.t.Error(err)
	}
	if err := l.host.Close(); err != nil {
		l.s.t.Error(err)
	}
}

// level waits until the light home is where a node is.
func (l *lightHome) level(m *member) {
	l.s.t.Helper()
	await(l.s.t, 60*time.Second, "the light home is level", func() bool {
		var want, got [32]byte
		m.Read(func(s *ledger.State) { want = s.AppHash() })
		l.Read(func(s *ledger.State) { got = s.AppHash() })
		return want == got
	})
}

// accused waits until a node has been named, and returns why.
func (l *lightHome) accused(m *member) (why string) {
	l.s.t.Helper()
	await(l.s.t, 60*time.Second, m.name+" is named", func() bool {
		for _, a := range l.Status().Accused {
			if bytes.Equal(a.Key, m.network.Public().(ed25519.PublicKey)) {
				why = a.Why
				return true
			}
		}
		return false
	})
	return why
}

// tamperWith makes a node lie from now on.
func (m *member) tamperWith(f tamper) { m.tamper.Store(&f) }

// answer is what the node says over the network.
func (m *member) answer(ctx context.Context, from p2p.PeerID, q []byte) ([]byte, error) {
	key, err := p2p.KeyOf(from)
	if err != nil {
		return nil, err
	}
	a, err := m.Answer(ctx, key, q)
	if f := m.tamper.Load(); f != nil && err == nil {
		if changed := (*f)(Question(q[0]), q[1:], a); changed != nil {
			return changed, nil
		}
	}
	return a, err
}

// alter decodes an answer, has it changed and encodes it again.
func alter[A any](answer []byte, f func(*A)) []byte {
	a := new(A)
	if err := decodeAnswer(answer, a); err != nil {
		panic(err)
	}
	f(a)
	raw, err := bundleEnc.Marshal(a)
	if err != nil {
		panic(err)
	}
	return raw
}

// settlingStreet has homes that trade and are settled within seconds.
func settlingStreet(t *testing.T, homes int) *street {
	t.Helper()
	s := newStreet(t, streetOptions{
		validators: 4, homes: homes, interval: time.Minute, rate: 30, next: 12 * time.Second,
		rules: func(r *ledger.Rules) { r.ReportDeadlineS = 0 },
	})
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admit(s.nodes[0], s.nodes, s.homes...)
	return s
}

// N1, N2, N5: a light home has the state that the nodes have, of its own account and of the
// market; what it submits is in the ledger; its settlements and the results are the nodes';
// after a restart it goes on from its file, which is small.
func TestLightFollows(t *testing.T) {
	t.Parallel()
	s := settlingStreet(t, 2)
	dir := t.TempDir()
	own, other := s.homes[0], s.homes[1]
	l := s.newLightHome(own, dir, nil)
	l.level(s.nodes[0])
	for range 3 {
		var k market.Interval
		l.Read(func(st *ledger.State) { k = st.Next() })
		if err := l.Submit(t.Context(), s.order(own, k+1, 300)); err != nil {
			t.Fatal(err)
		}
		s.awaitState("the order is in the ledger", s.nodes[:1], func(st *ledger.State) bool { return st.Next() > k })
	}
	await(t, 60*time.Second, "own settlements", func() bool {
		n := 0
		if err := l.Settlements(own.id, 0, func(*ledger.Settlement) bool { n++; return true }); err != nil {
			t.Fatal(err)
		}
		return n >= 3
	})
	l.level(s.nodes[1])
	l.Read(func(st *ledger.State) {
		if !st.Partial() || !st.Holds(ledger.HouseholdKey(own.id)) || !st.Missing(ledger.HouseholdKey(other.id)) {
			t.Error("it should hold its own record, and not the neighbour's")
		}
	})
	if err := l.Settlements(other.id, 0, nil); !errors.Is(err, ErrOnlyOwn) {
		t.Errorf("the neighbour's settlements: %v, want ErrOnlyOwn", err)
	}
	sameHistory(t, s.nodes[1], l.Light, own)
	if signed, err := l.Proof(t.Context(), func(*ledger.State) {}); err != nil || l.anchor.Check(signed) != nil {
		t.Errorf("proof: %v", err)
	}
	if err := l.Submit(t.Context(), s.order(other, 1, 300)); !isRefusal(err, ledger.CodeGateClosed) {
		t.Errorf("an order after its gate: %v, want gate-closed", err)
	}
	st := l.Status()
	if len(st.Accused) > 0 || st.Fork != nil || st.Alone || st.Waiting != "" || len(st.Validators) != 4 || len(st.Providers) != 4 {
		t.Errorf("status %+v", st)
	}
	l.stop()
	info, err := os.Stat(filepath.Join(dir, "headers"))
	if err != nil || info.Size() > 20_000 {
		t.Errorf("the file of headers: %v, %v", info, err)
	}
	height := l.now().height
	again := s.newLightHome(own, dir, nil)
	if b, err := again.headers.newest(); err != nil || b == nil || b.Height != height {
		t.Errorf("after a restart it begins with %v, %v, want block %d", b, err, height)
	}
	again.level(s.nodes[2])
	sameHistory(t, s.nodes[2], again.Light, own)
}

// sameHistory compares what a light home and a node say of settlements and results, as far
// as the light home is.
func sameHistory(t *testing.T, m *member, l *Light, h *home) {
	t.Helper()
	k := l.now()
	record, _ := k.state.Household(h.id)
	var want, got []string
	if err := m.Settlements(h.id, 0, func(s *ledger.Settlement) bool {
		want = append(want, fmt.Sprintf("%x", s.Encode()))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	for _, lines := range k.lines {
		for _, s := range lines.lines {
			got = append(got, fmt.Sprintf("%x", s.Encode()))
		}
	}
	if len(got) == 0 || uint64(len(got)) != record.Settled || strings.Join(want[:len(got)], "") != strings.Join(got, "") {
		t.Errorf("%d settlements, the record counts %d, the node has %d", len(got), record.Settled, len(want))
	}
	want, got = nil, nil
	if err := m.Results(0, func(r *ledger.MarketResult) bool {
		want = append(want, fmt.Sprintf("%x", r.Encode()))
		return true
	}); err != nil {
		t.Fatal(err)
	}
	for _, r := range k.results.lines {
		got = append(got, fmt.Sprintf("%x", r.Encode()))
	}
	if len(got) == 0 || strings.Join(want[:len(got)], "") != strings.Join(got, "") {
		t.Errorf("%d results, the node has %d", len(got), len(want))
	}
}
