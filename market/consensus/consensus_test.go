package consensus

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/store"
)

// fourNodes is the usual street: gates are half an hour away, so nothing moves by itself.
func fourNodes(t testing.TB, homes int) *street {
	t.Helper()
	return newStreet(t, streetOptions{validators: 4, homes: homes, interval: time.Hour, rate: 1, next: 30 * time.Minute})
}

// C1, C2: what a person does is committed at once and everywhere; orders wait; an idle
// chain makes no blocks.
func TestFourValidators(t *testing.T) {
	t.Parallel()
	s := fourNodes(t, 2)
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admit(s.nodes[0], s.nodes, s.homes...)

	height := s.settled(s.nodes...)
	events, cancel := s.nodes[0].Subscribe()
	defer cancel()
	k := s.nodes[0].next()
	s.submit(s.nodes[1], s.order(s.homes[0], k, 500))
	s.awaitPool(1, s.nodes...)
	if h := s.settled(s.nodes...); h != height {
		t.Fatalf("an order made blocks %d to %d, want it to wait for its gate", height+1, h)
	}
	s.submit(s.nodes[2], s.preference(s.homes[1]))
	took := s.awaitState("preference and order committed", s.nodes, func(st *ledger.State) bool {
		h, _ := st.Household(s.homes[1].id)
		return h.PreferenceSeq > 0 && hasOrder(st, s.homes[0], k)
	})
	t.Logf("preference on all nodes after %v", took)
	s.settled(s.nodes...)
	s.sameHashes(s.nodes...)
	var hash []byte // after the one block that has transactions
	for len(events) > 0 {
		switch e := <-events; {
		case len(e.Receipts) == 2 && hash == nil:
			hash = e.AppHash
		case len(e.Receipts) > 0 || !bytes.Equal(e.AppHash, hash):
			t.Errorf("block %d has %d transactions and hash %x, want the two in one block and nothing after it", e.Height, len(e.Receipts), e.AppHash)
		}
	}
	if hash == nil {
		t.Error("no block had the preference and the order")
	}
	for _, m := range s.nodes {
		// The block and its proof, and at most two more, which on a busy machine have been
		// seen in one run of 24: empty, with the same hash (below).
		if st := m.Status(); st.Pool != 0 || st.Waiting != "" || !st.IsValidator || st.Height > height+4 {
			t.Errorf("%s: %+v, want an empty pool, nothing to wait for, and height %d at most", m.name, st, height+4)
		}
	}
}

// C2, C3: gates close on time, one after the other, on every node. An order waits until
// shortly before its gate, and is in its interval.
func TestGates(t *testing.T) {
	t.Parallel()
	const wall, gates = 2 * time.Second, 5
	s := newStreet(t, streetOptions{validators: 4, homes: 1, interval: time.Minute, rate: 30, next: 12 * time.Second})
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admit(s.nodes[0], s.nodes, s.homes...)
	closed := func(k market.Interval) func(*ledger.State) bool {
		return func(st *ledger.State) bool { return st.Next() > k }
	}
	k := s.nodes[0].next()
	s.awaitState("first gate closed", s.nodes, closed(k))
	height := s.nodes[0].Status().Height
	var gate time.Time
	for i := range gates {
		k = s.nodes[i%4].next()
		s.nodes[0].Read(func(st *ledger.State) { gate = wallGate(st, k) })
		submitted := time.Now()
		s.submit(s.nodes[i%4], s.order(s.homes[0], k, 100))
		s.awaitState("order committed", s.nodes[:1], func(st *ledger.State) bool { return hasOrder(st, s.homes[0], k) })
		ahead := time.Until(gate)
		if window := s.nodes[0].beforeGate; ahead > window && submitted.Before(gate.Add(-window)) {
			t.Errorf("gate %d: the order was committed %v before it, want at most %v", k, ahead, window)
		}
		s.awaitState(fmt.Sprintf("gate %d closed", k), s.nodes, closed(k))
		late := time.Since(gate)
		t.Logf("gate %d: order committed %v before, closed on all nodes %v after", k, ahead, late)
		if late < 0 || late > wall {
			t.Errorf("gate %d closed %v after its time, want 0 to %v", k, late, wall)
		}
	}
	// One block before each gate, one at it, each with its proof, and now and then one more.
	if got := s.nodes[0].Status().Height - height; got > 5*gates {
		t.Errorf("%d blocks for %d gates, want at most %d", got, gates, 5*gates)
	}
	s.sameHashes(s.nodes...)
}

// With 1 of 4 away the others go on, and it catches up when it is back.
func TestOneAway(t *testing.T) {
	t.Parallel()
	s := fourNodes(t, 1)
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admit(s.nodes[0], s.nodes, s.homes...)
	away, rest := s.nodes[3], s.nodes[:3]
	if err := away.stop(); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		s.prefer(rest[i%3], rest...)
	}
	await(t, 10*time.Second, "one validator missed", func() bool {
		st := rest[0].Status()
		// In the order of their keys, which are drawn.
		i := slices.IndexFunc(st.Validators, func(v ValidatorStatus) bool { return v.Name == away.name })
		return i >= 0 && st.Waiting == "" && !st.Validators[i].Online
	})
	away.start()
	took := s.awaitState("caught up", s.nodes, s.preferred(s.homes[0]))
	t.Logf("caught up after %v", took)
	s.prefer(away, s.nodes...)
	s.sameHashes(s.nodes...)
}

// With 2 of 4 away nothing is committed and the status says why; when one is back, with an
// empty pool, what waited is committed: the echo bell.
func TestQuorumLostAndBack(t *testing.T) {
	t.Parallel()
	s := fourNodes(t, 1)
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admit(s.nodes[0], s.nodes, s.homes...)
	for round := range 3 {
		rest, back := s.nodes[:2], s.nodes[2]
		for _, m := range s.nodes[2:] {
			if err := m.stop(); err != nil {
				t.Fatal(err)
			}
		}
		height := s.settled(rest...)
		s.submit(rest[0], s.preference(s.homes[0]))
		await(t, 10*time.Second, "status says what is missing", func() bool {
			return strings.Contains(rest[0].Status().Waiting, "2 of 3 needed")
		})
		if h := s.settled(rest...); h != height {
			t.Fatalf("height %d without quorum, want %d", h, height)
		}
		back.start()
		three := s.nodes[:3]
		took := s.awaitState("committed with 3 of 4", three, s.preferred(s.homes[0]))
		t.Logf("round %d: committed %v after the third was started", round, took)
		s.nodes[3].start()
		s.awaitState("all four", s.nodes, s.preferred(s.homes[0]))
		s.sameHashes(s.nodes...)
	}
}

var errPowerCut = errors.New("power cut")

// C6: a node that dies around its commit replays what is missing, no more and no less.
func TestCrashAroundCommit(t *testing.T) {
	t.Parallel()
	s := fourNodes(t, 1)
	var crashAt atomic.Int64
	var crashStored atomic.Bool
	s.nodes[1].cfg.faults.commit = func(height int64, stored bool) error {
		if height == crashAt.Load() && stored == crashStored.Load() {
			return errPowerCut
		}
		return nil
	}
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admit(s.nodes[0], s.nodes, s.homes...)
	victim, rest := s.nodes[1], []*member{s.nodes[0], s.nodes[2], s.nodes[3]}
	for _, stored := range []bool{false, true} {
		height := s.settled(s.nodes...)
		crashStored.Store(stored)
		crashAt.Store(height + 1)
		s.prefer(s.nodes[0], rest...)
		err := <-victim.done
		if !errors.Is(err, ErrHalted) || !errors.Is(err, errPowerCut) {
			t.Fatalf("Run returned %v, want ErrHalted because of %v", err, errPowerCut)
		}
		victim.done <- err
		if err := victim.stop(); !errors.Is(err, errPowerCut) {
			t.Fatal(err)
		}
		crashAt.Store(0)
		want := height
		if stored {
			want++
		}
		victim.start()
		if got, _ := victim.book.tip(); got < want || !stored && got > want+2 {
			t.Errorf("restarted at height %d, want %d", got, want)
		}
		s.awaitState("replayed and caught up", s.nodes, s.preferred(s.homes[0]))
		s.prefer(victim, s.nodes...)
		s.sameHashes(s.nodes...)
	}
}

// Everybody stops, everybody starts: the chain goes on where it was.
func TestRestart(t *testing.T) {
	t.Parallel()
	s := fourNodes(t, 1)
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admit(s.nodes[0], s.nodes, s.homes...)
	height := s.settled(s.nodes...)
	_, hash := s.nodes[0].book.tip()
	for range 2 {
		for _, m := range s.nodes {
			if err := m.stop(); err != nil {
				t.Fatal(err)
			}
		}
		s.start(s.nodes...)
		if h, got := s.nodes[3].book.tip(); h < height || got != hash {
			t.Fatalf("restarted at height %d with hash %x, want %d with %x", h, got, height, hash)
		}
		s.awaitUp(s.nodes...)
	}
	s.prefer(s.nodes[2], s.nodes...)
	s.sameHashes(s.nodes...)
}

// C3, C4: what a byzantine proposer brings is refused, and the chain goes on without it.
func TestBadProposer(t *testing.T) {
	t.Parallel()
	s := fourNodes(t, 2)
	var forged []byte
	var mode atomic.Value
	mode.Store("")
	var tried atomic.Int64
	s.nodes[0].cfg.faults.propose = func(_ int64, txs [][]byte) [][]byte {
		next := s.nodes[0].next()
		switch mode.Load() {
		case "early tick":
			txs = append(txs, ledger.NewTick(next, next, next))
		case "forged":
			txs = append(txs, forged)
		case "twice":
			if len(txs) > 0 {
				txs = append(txs, txs[0])
			}
		case "bell":
			txs = append(txs, append([]byte{bellKind}, make([]byte, 16)...))
		case "oversized":
			txs = append(txs, make([]byte, ledger.MaxTxBytes+1))
		case "behind the tick":
			txs = append([][]byte{ledger.NewTick(next, next, next)}, append(txs, forged)...)
		case "too many":
			for i := range market.Interval(maxBlockTxs + 2) {
				txs = append(txs, ledger.NewTick(next, next+i, next))
			}
		default:
			return txs
		}
		tried.Add(1)
		return txs
	}
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admit(s.nodes[0], s.nodes, s.homes...)
	k := s.nodes[0].next()
	forged = s.order(s.homes[0], k, 1)
	forged[len(forged)-1] ^= 1
	slowest := time.Duration(0)
	for _, m := range []string{"early tick", "forged", "twice", "bell", "oversized", "behind the tick", "too many"} {
		tried.Store(0)
		mode.Store(m)
		for tried.Load() == 0 {
			began := time.Now()
			s.prefer(s.nodes[1], s.nodes...)
			slowest = max(slowest, time.Since(began))
		}
		mode.Store("")
	}
	t.Logf("the slowest block of those with a bad proposal before it took %v", slowest)
	for _, m := range s.nodes[1:] {
		if st := m.Status(); len(st.BadProposals) != 1 || len(st.BadProposals[s.nodes[0].validator.GetAddress().String()]) < 5 {
			t.Errorf("%s counts bad proposals %v, want five reasons or more, of node 0 only", m.name, st.BadProposals)
		}
	}
	for _, m := range s.nodes {
		m.Read(func(st *ledger.State) {
			if st.Next() != k || hasOrder(st, s.homes[0], k) {
				t.Errorf("%s: next is %d, want %d, and no forged order", m.name, st.Next(), k)
			}
		})
		if n := len(m.Status().Rejected); n != 0 {
			t.Errorf("%s: blocks brought refusals: %v", m.name, m.Status().Rejected)
		}
	}
	s.sameHashes(s.nodes...)
}

// A replica joins late, has everything, hands on transactions, and never counts as a validator.
func TestReplicaJoinsLate(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 4, replicas: 1, homes: 1, interval: time.Hour, rate: 1, next: 30 * time.Minute})
	validators, replica := s.nodes[:4], s.nodes[4]
	s.start(validators...)
	s.awaitUp(validators...)
	s.admit(s.nodes[0], validators, s.homes...)
	for i := range 8 {
		s.prefer(validators[i%4], validators...)
	}
	events, cancel := validators[0].Subscribe()
	defer cancel()
	replica.start()
	took := s.awaitState("replica has everything", s.nodes, s.preferred(s.homes[0]))
	t.Logf("replica has everything after %v", took)
	await(t, 20*time.Second, "replica follows", func() bool { return !replica.Status().CatchingUp && replica.topic.Peers() == 4 })
	s.prefer(replica, s.nodes...)
	s.sameHashes(s.nodes...)
	if st := replica.Status(); st.IsValidator || st.ValidatorsTotal != 4 {
		t.Errorf("replica: %+v", st)
	}
	select {
	case ev := <-events:
		if want, ok := validators[0].AppHashAt(ev.Height); !ok || !bytes.Equal(ev.AppHash, want) {
			t.Errorf("event %d has hash %x, want %x", ev.Height, ev.AppHash, want)
		}
	case <-time.After(10 * time.Second):
		t.Error("no event for a committed block")
	}
}

// Only members' engines may connect, whoever they are to the chain otherwise: the network
// refuses them, and if it lets somebody in all the same, the engine does.
func TestOutsiderRefused(t *testing.T) {
	t.Parallel()
	t.Run("by the network", func(t *testing.T) { outsiderRefused(t, false) })
	t.Run("by the engine", func(t *testing.T) { outsiderRefused(t, true) })
}

func outsiderRefused(t *testing.T, open bool) {
	t.Helper()
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 4, replicas: 1, homes: 1, interval: time.Hour, rate: 1, next: 30 * time.Minute, open: open})
	outsider := s.nodes[4]
	outsider.network = testKey("nobody")
	outsider.cfg.NodeKey = outsider.network
	s.start(s.nodes[:4]...)
	s.awaitUp(s.nodes[:4]...)
	for _, m := range s.nodes[:4] {
		if m.isMember(outsider.engineID()) {
			t.Fatal("the outsider is a member")
		}
	}
	outsider.start()
	if open {
		await(t, 60*time.Second, "the network is connected", func() bool { return len(outsider.tunnels.Peers()) == 4 })
	}
	for range 4 {
		s.admitOrPrefer(s.nodes[:4])
		for _, m := range s.nodes[:4] {
			if st := m.Status(); st.Peers != 3 {
				t.Errorf("%s has %d engine peers, want the 3 validators", m.name, st.Peers)
			}
		}
	}
	if st := outsider.Status(); st.Height != 0 || st.Peers != 0 || !st.CatchingUp {
		t.Errorf("outsider: %+v, want nothing", st)
	}

	// The same key is let in as soon as the ledger knows it.
	h := newHome("newcomer")
	h.network = outsider.network
	s.admit(s.nodes[0], s.nodes[:4], h)
	s.awaitState("newcomer has everything", s.nodes, func(st *ledger.State) bool {
		_, ok := st.Household(h.id)
		return ok
	})
}

// A port that another program takes first does not end a start; another one is drawn.
func TestPortInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	var draws atomic.Int32
	s := newStreet(t, streetOptions{validators: 2, homes: 1, interval: time.Hour, rate: 1, next: 30 * time.Minute, tweak: func(i int, c *Config) {
		if i == 1 {
			c.faults.port = func() (int, error) {
				if draws.Add(1) <= 3 {
					return taken.Addr().(*net.TCPAddr).Port, nil
				}
				return drawPort()
			}
		}
	}})
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admitOrPrefer(s.nodes)
	if n := draws.Load(); n != 4 {
		t.Errorf("%d ports drawn, want 4: three were taken", n)
	}
	if _, err := New(s.nodes[0].cfg); !errors.Is(err, store.ErrInUse) {
		t.Errorf("a second node in the same folder: %v, want ErrInUse", err)
	}
}

// When all ports that are tried are taken, the error says which.
func TestNoPort(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := newStreet(t, streetOptions{validators: 1, interval: time.Hour, rate: 1, next: time.Minute, tweak: func(_ int, c *Config) {
		c.faults.port = func() (int, error) { return taken.Addr().(*net.TCPAddr).Port, nil }
	}})
	n, err := New(s.nodes[0].cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Run(t.Context(), nil); !errors.Is(err, ErrListen) || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("got %v, want ErrListen that names %s", err, taken.Addr())
	}
}

func (m *member) engineID() (id idOf) {
	return engineID(m.network.Public().(ed25519.PublicKey))
}
