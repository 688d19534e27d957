package consensus

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/store"
	"github.com/commonwatt/commonwatt/p2p"
)

// joinStreet is a street with a validator and a replica at work, which have snapshots, and
// a third node that has not been started yet.
func joinStreet(t *testing.T, every int64) (s *street, running []*member, joiner *member) {
	t.Helper()
	s = newStreet(t, streetOptions{
		validators: 1, replicas: 2, homes: 2, interval: 15 * time.Minute, rate: 1800, next: 3 * time.Second,
		rules: func(r *ledger.Rules) { r.ReportDeadlineS, r.CorrectionWindowS = 900, 3600 },
		tweak: func(_ int, c *Config) { c.SnapshotEvery = every; c.Pace.Backlog = 1 },
	})
	running, joiner = s.nodes[:2], s.nodes[2]
	for _, m := range running {
		m.start()
	}
	s.awaitUp(running...)
	s.admit(running[0], running, s.homes...)
	return s, running, joiner
}

// awaitSnapshot waits until all have made one of the same block at or above a height.
func (s *street) awaitSnapshot(above int64, nodes ...*member) int64 {
	s.t.Helper()
	var height int64
	await(s.t, 90*time.Second, "snapshots", func() bool {
		var ids [][32]byte
		for _, m := range nodes {
			if all := m.snapshots.list(); len(all) > 0 && all[0].Manifest.Height >= above && m.Status().Height > all[0].Manifest.Height {
				height = all[0].Manifest.Height
				ids = append(ids, all[0].Manifest.ID())
			}
		}
		if len(ids) < len(nodes) {
			return false
		}
		for _, id := range ids {
			if id != ids[0] {
				return false
			}
		}
		return true
	})
	return height
}

// join is the joiner's Join over a host of its own, which has to be closed before the node's
// begins: they have one key.
func (m *member) join(t *testing.T) (j Join, end func()) {
	t.Helper()
	var boot []string
	for _, o := range m.s.nodes {
		if o.host != nil {
			boot = append(boot, o.host.Addrs()...)
		}
	}
	h, err := p2p.New(p2p.Config{
		Key: m.network, Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Bootstrap: boot,
		Member: func(ed25519.PublicKey) bool { return true },
	})
	if err != nil {
		t.Fatal(err)
	}
	end = func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	}
	await(t, 30*time.Second, "connected", func() bool { return len(h.Peers()) >= 2 })
	return Join{
		Home: m.cfg.Home, Genesis: m.cfg.Genesis, Mode: JoinSnapshot, every: 10 * time.Millisecond, Log: m.cfg.Log,
		Ask: func(ctx context.Context, provider string, q []byte) ([]byte, error) {
			return h.Request(ctx, p2p.PeerID(provider), AnswerProtocol, q, MaxAnswer)
		},
		Providers: func() (all []Provider) {
			for _, p := range h.Peers() {
				key, err := p2p.KeyOf(p.ID)
				if err != nil {
					t.Error(err)
				}
				all = append(all, Provider{ID: string(p.ID), Key: key})
			}
			return all
		},
	}, end
}

// joinDirectly is Join without a network between: as fast as one may ask.
func (m *member) joinDirectly(providers ...*member) Join {
	key := m.network.Public().(ed25519.PublicKey)
	return Join{
		Home: m.cfg.Home, Genesis: m.cfg.Genesis, Mode: JoinSnapshot, every: 10 * time.Millisecond, Log: m.cfg.Log,
		Ask: func(ctx context.Context, provider string, q []byte) ([]byte, error) {
			for _, p := range providers {
				if p.name == provider {
					return p.Answer(ctx, key, q)
				}
			}
			return nil, errors.New("no such node")
		},
		Providers: func() (all []Provider) {
			for _, p := range providers {
				all = append(all, Provider{ID: p.name, Key: p.network.Public().(ed25519.PublicKey)})
			}
			return all
		},
	}
}

// sameFrom compares the hashes of all nodes from a height on.
func (s *street) sameFrom(height int64, nodes ...*member) {
	s.t.Helper()
	for h := height; ; h++ {
		want, ok := nodes[0].AppHashAt(h)
		if !ok {
			return
		}
		for _, m := range nodes[1:] {
			if got, ok := m.AppHashAt(h); ok && !bytes.Equal(got, want) {
				s.t.Fatalf("height %d: %s has %x, %s has %x", h, nodes[0].name, want, m.name, got)
			} else if !ok && h == height {
				s.t.Fatalf("%s has no hash at %d", m.name, h)
			}
		}
	}
}

// A replica joins by a snapshot that two nodes offer, follows the chain, has the same
// history and hashes, makes the same snapshots itself, and a check finds nothing. It may
// also be stopped before it has fetched its first block.
func TestJoinBySnapshot(t *testing.T) {
	t.Parallel()
	s, running, joiner := joinStreet(t, 16)
	s.awaitSnapshot(32, running...)
	j, end := joiner.join(t)
	var steps []string
	j.Progress = func(p JoinProgress) {
		if len(steps) == 0 || steps[len(steps)-1] != p.Step {
			steps = append(steps, p.Step)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := j.Run(ctx); err != nil {
		t.Fatal(err)
	}
	end()
	t.Log(strings.Join(steps, ", "))
	// Started without anybody to fetch blocks from, and stopped.
	joiner.gone.Store(true)
	joiner.start()
	await(t, 30*time.Second, "started", func() bool { return joiner.engine.Load() != nil })
	base := joiner.Status().Height
	if base < 32 || joiner.book.store.Base() != base {
		t.Errorf("began at %d, base %d", base, joiner.book.store.Base())
	}
	if err := joiner.stop(); err != nil {
		t.Fatal(err)
	}
	joiner.gone.Store(false)
	joiner.start()
	all := []*member{running[0], running[1], joiner}
	await(t, 60*time.Second, "caught up", func() bool {
		return joiner.Status().Height > base+8 && !joiner.Status().CatchingUp
	})
	s.prefer(running[0], all...)
	s.sameFrom(base, all...)
	s.awaitSnapshot(base+16, all...)
	sameTurns(t, running[0], joiner)
	sameLines(t, s, running[0], joiner)
	for _, m := range all {
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range all {
		checkFolder(t, s, m)
	}
}

// sameTurns compares the validators with whose turn it is to propose, which the joined node
// has derived from the genesis.
func sameTurns(t *testing.T, want, got *member) {
	t.Helper()
	height := got.Status().Height
	a, err := want.engine.Load().states.LoadValidators(height)
	if err != nil {
		t.Fatal(err)
	}
	b, err := got.engine.Load().states.LoadValidators(height)
	if err != nil {
		t.Fatal(err)
	}
	if a.String() != b.String() {
		t.Errorf("validators at %d:\n%v\nwant\n%v", height, b, a)
	}
}

// sameLines compares what both have of the lines that the first has.
func sameLines(t *testing.T, s *street, want, got *member) {
	t.Helper()
	lines := func(m *member) map[string]string {
		all := map[string]string{}
		for _, h := range s.homes {
			if err := m.Settlements(h.id, 0, func(x *ledger.Settlement) bool {
				all[fmt.Sprint(h.id, x.Interval, x.Version)] = fmt.Sprintf("%x", x.Encode())
				return true
			}); err != nil {
				t.Fatal(err)
			}
		}
		return all
	}
	a, b := lines(want), lines(got)
	for k, v := range a {
		if w, ok := b[k]; ok && w != v {
			t.Errorf("line %s differs", k)
		}
	}
	if len(b) < len(a)-8 || len(a) == 0 {
		t.Errorf("%d lines, want about %d", len(b), len(a))
	}
}

// checkFolder is what `ledger check` does.
func checkFolder(t *testing.T, s *street, m *member) {
	t.Helper()
	r, err := store.Check(LedgerFile(m.cfg.Home), s.chain, s.genesis, func(yield func(store.Committed, error) bool) {
		for b, err := range Blocks(m.cfg.Home) {
			if err != nil {
				t.Errorf("%s: %v", m.name, err)
				continue
			}
			if !yield(store.Committed{Height: b.Height, Block: b.Block, AppHash: b.AppHash}, nil) {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range r.Differences {
		t.Errorf("%s: %s", m.name, d)
	}
	if r.Replayed == 0 && r.Followed == 0 {
		t.Errorf("%s: no block was looked at", m.name)
	}
}

var errFault = errors.New("killed here")

// The crash table of joining: killed after each step, whether or not what it wrote had
// reached the disk; the next start goes on or begins anew, and there is never a ledger
// that is not whole.
func TestJoinCrashes(t *testing.T) {
	t.Parallel()
	s, running, joiner := joinStreet(t, 16)
	s.awaitSnapshot(16, running...)
	steps := []string{"origin", "chunk", "state", "page", "finished", "engine", "joined"}
	for _, step := range steps {
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/lost=%v", step, lost), func(t *testing.T) {
				home := t.TempDir()
				j := joiner.joinDirectly(running...)
				j.Home = home
				before := map[string][]byte{}
				hit := 0
				j.fault = func(at string) error {
					if at != step {
						return nil
					}
					hit++
					return errFault
				}
				if lost {
					// What the step wrote is gone again, or half of it.
					j.fault = func(at string) error {
						if at != step {
							before = folder(t, home)
							return nil
						}
						hit++
						if step == "joined" { // the folder's new name was not on disk yet
							if err := os.Rename(joinedFolder(home), joinFolder(home)); err != nil {
								t.Error(err)
							}
							return errFault
						}
						tear(t, home, before)
						return errFault
					}
				}
				ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
				defer cancel()
				if err := j.Run(ctx); !errors.Is(err, errFault) || hit != 1 {
					t.Fatalf("hit %d times, %v", hit, err)
				}
				if _, err := os.Stat(LedgerFile(home)); !errors.Is(err, os.ErrNotExist) {
					t.Fatalf("there is a ledger already: %v", err)
				}
				j.fault = nil
				if err := j.Run(ctx); err != nil {
					t.Fatal(err)
				}
				r, err := store.Check(LedgerFile(home), s.chain, s.genesis, nil)
				if err != nil || !r.OK() {
					t.Fatalf("%v, %v", err, r.Differences)
				}
				if entries, err := os.ReadDir(home); err != nil || len(entries) != 2 { // data, ledger.db
					t.Errorf("left behind: %v, %v", entries, err)
				}
			})
		}
	}
}

// A crash while the files are moved to their places: whichever of them have been, the next
// start moves the rest, even if it is one that was not asked to join.
func TestJoinInstallCrashes(t *testing.T) {
	t.Parallel()
	s, running, joiner := joinStreet(t, 16)
	s.awaitSnapshot(16, running...)
	files := []string{"engine/blockstore.db", "engine/state.db", "ledger.db"}
	for moved := range len(files) + 1 {
		j := joiner.joinDirectly(running...)
		j.Home = t.TempDir()
		j.fault = func(at string) error {
			if at == "joined" {
				return errFault
			}
			return nil
		}
		if err := j.Run(t.Context()); !errors.Is(err, errFault) {
			t.Fatal(err)
		}
		to := []string{"data/blockstore.db", "data/state.db", "ledger.db"}
		if err := os.MkdirAll(filepath.Join(j.Home, "data"), 0o700); err != nil {
			t.Fatal(err)
		}
		for i := range moved {
			if err := os.Rename(filepath.Join(joinedFolder(j.Home), files[i]), filepath.Join(j.Home, to[i])); err != nil {
				t.Fatal(err)
			}
		}
		cfg := joiner.cfg
		cfg.Home = j.Home
		n, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if n.Status().Height < 16 {
			t.Errorf("after %d moves the ledger is at %d", moved, n.Status().Height)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
		for _, f := range to {
			if _, err := os.Stat(filepath.Join(j.Home, f)); err != nil {
				t.Error(err)
			}
		}
	}
}

// liar is a provider that changes what others answer.
func liar(ask Ask, who string, bend func(q Question, answer []byte) []byte) Ask {
	return func(ctx context.Context, provider string, question []byte) ([]byte, error) {
		a, err := ask(ctx, provider, question)
		if err == nil && provider == who {
			a = bend(Question(question[0]), a)
		}
		return a, err
	}
}

// Whatever one provider changes in whatever it answers, the snapshot is refused with words
// that name it, or the change has no effect, and the honest one's gets through.
func TestJoinFlips(t *testing.T) {
	t.Parallel()
	s, running, joiner := joinStreet(t, 16)
	s.awaitSnapshot(16, running...)
	base := joiner.joinDirectly(running[1], running[0]) // the liar is asked first
	who, honest := running[1].name, running[0].name
	for _, kind := range []Question{AskOffers, AskManifest, AskChunk, AskPage, AskHeader} {
		t.Run(kind.String(), func(t *testing.T) {
			named := 0
			for seed := range uint64(12) {
				rng := rand.New(rand.NewPCG(seed, uint64(kind)))
				var mu sync.Mutex
				j := base
				j.Home = t.TempDir()
				bent := 0
				j.Ask = liar(base.Ask, who, func(q Question, a []byte) []byte {
					mu.Lock()
					defer mu.Unlock()
					if q == kind && len(a) > 0 {
						a = bytes.Clone(a)
						a[rng.IntN(len(a))] ^= 1 << rng.IntN(8)
						bent++
					}
					return a
				})
				ask := j.Ask
				j.Ask = func(ctx context.Context, provider string, q []byte) ([]byte, error) {
					mu.Lock()
					wait := bent == 0
					mu.Unlock()
					if kind == AskChunk && Question(q[0]) == kind && provider == honest && wait {
						return nil, errors.New("not before the liar")
					}
					return ask(ctx, provider, q)
				}
				var troubles []string
				j.Progress = func(p JoinProgress) { troubles = append(troubles, p.Trouble) }
				ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
				if err := j.Run(ctx); err != nil {
					t.Fatal(err)
				}
				cancel()
				words := strings.Join(troubles, "\n")
				if strings.Contains(words, who) {
					named++
				}
				if strings.Contains(words, honest+" was refused") {
					t.Errorf("the honest one was refused:\n%s", words)
				}
				r, err := store.Check(LedgerFile(j.Home), s.chain, s.genesis, nil)
				if err != nil || !r.OK() || r.Base == 0 {
					t.Fatalf("%v, %+v", err, r)
				}
			}
			t.Logf("the liar was named %d times in 12", named)
			if named == 0 && kind != AskOffers && kind != AskHeader {
				t.Error("the liar was never named")
			}
		})
	}
}

// A snapshot behind changes of the validators brings the way to them: the joined node knows
// whose turn it is, proves what it has, and an archive executes the changes.
func TestJoinAfterChanges(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{
		validators: 2, replicas: 2, interval: time.Hour, rate: 1, next: 30 * time.Minute,
		tweak: func(_ int, c *Config) { c.SnapshotEvery = 8 },
	})
	for _, m := range s.nodes {
		s.homes = append(s.homes, m.household(t))
	}
	running, joiner := s.nodes[:3], s.nodes[3]
	s.start(running...)
	s.awaitUp(running...)
	s.admit(running[0], running, s.homes...)
	s.submit(running[0], s.vote(s.homes[2], running[2], 1))
	s.awaitVote(running[0], running, s.homes[0], running[2].validatorKey(t), true)
	gone := running[1].validatorKey(t)
	s.submit(running[0], s.approved(ledger.SetValidator{Number: 2, Household: s.homes[1].id, Key: gone, Remove: true}))
	s.awaitVote(running[0], running, s.homes[0], gone, false)
	changed := running[0].Status().Height
	await(t, 90*time.Second, "a snapshot behind the changes", func() bool {
		s.prefer(running[0], running...)
		all := running[0].snapshots.list()
		return len(all) > 0 && all[0].Manifest.Height > changed && running[0].Status().Height > all[0].Manifest.Height
	})
	j, end := joiner.join(t)
	if err := j.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	end()
	joiner.start()
	s.awaitUp(s.nodes...)
	s.prefer(running[0], s.nodes...)
	sameTurns(t, running[0], joiner)
	anchor, err := NewAnchor(s.doc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	h, err := joiner.Proof(ctx, func(*ledger.State) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := anchor.Check(h); err != nil || len(h.Changes) != 2 {
		t.Errorf("%v, with %d changes, want 2", err, len(h.Changes))
	}
	for _, m := range s.nodes {
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
		checkFolder(t, s, m)
	}
	raw, a := archiveOf(t, running[0])
	if c, err := archives(nil, raw); err != nil || c.Height() != a.Height {
		t.Errorf("archive: %v", err)
	}
}

// Nobody but members is answered, and a machine that asks for what is not there gets words.
func TestSnapshotStrangers(t *testing.T) {
	t.Parallel()
	s, running, _ := joinStreet(t, 16)
	height := s.awaitSnapshot(16, running...)
	n := running[0].Node
	stranger := testKey("stranger").Public().(ed25519.PublicKey)
	member := running[1].network.Public().(ed25519.PublicKey)
	for _, row := range []struct {
		kind Question
		q    any
		want string
	}{
		{AskOffers, OffersQuestion{}, ""},
		{AskManifest, ManifestQuestion{Height: height}, ""},
		{AskManifest, ManifestQuestion{Height: height + 1}, "no such snapshot"},
		{AskChunk, ChunkQuestion{Height: height}, ""},
		{AskChunk, ChunkQuestion{Height: height, Chunk: 1 << 31}, "no such snapshot: chunk 2147483648"},
		{AskPage, store.Want{Height: height, Part: store.PartMonths}, ""},
		{AskPage, store.Want{Height: height, Part: store.PartSettlements, Month: market.Month(2026*12 + 5)}, ""},
		{AskPage, store.Want{Height: 1 << 40, Part: store.PartMonths}, "no such snapshot: block 1099511627776"},
		{AskPage, store.Want{Height: height, Part: 9}, "part 9, want 1 to 3"},
		{AskPage, store.Want{Height: height, Part: store.PartSettlements}, "month 0 of settlements"},
	} {
		q, err := encodeQuestion(row.kind, row.q)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Answer(t.Context(), stranger, q); !errors.Is(err, errStranger) {
			t.Errorf("%s: a stranger got %v", row.kind, err)
		}
		_, err = n.Answer(t.Context(), member, q)
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", row.kind, err, row.want)
		}
	}
}

// A full disk is told with what to do about it, and so is a provider that goes away: the
// next start, or the provider's return, goes on where it was.
func TestJoinTrouble(t *testing.T) {
	t.Parallel()
	s, running, joiner := joinStreet(t, 16)
	s.awaitSnapshot(16, running...)
	for _, step := range []string{"chunk", "page"} {
		j := joiner.joinDirectly(running...)
		j.Home = t.TempDir()
		j.fault = func(at string) error {
			if at == step {
				return &os.PathError{Op: "write", Path: "ledger.db", Err: syscall.ENOSPC}
			}
			return nil
		}
		if err := j.Run(t.Context()); !errors.Is(err, ErrJoin) || !strings.Contains(err.Error(), "the disk is full: make room and start again, it goes on where it was") {
			t.Errorf("at %s: %v", step, err)
		}
		// All are away for a while, then one of them answers again.
		asked := 0
		var mu sync.Mutex
		ask := j.Ask
		j.fault = nil
		j.Ask = func(ctx context.Context, provider string, q []byte) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			if asked++; asked < 12 || provider != running[1].name {
				return nil, errors.New("no route to host")
			}
			return ask(ctx, provider, q)
		}
		var troubles []string
		j.Progress = func(p JoinProgress) { troubles = append(troubles, p.Trouble) }
		if err := j.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(troubles, "\n"), running[0].name+": asking for") {
			t.Errorf("at %s nobody said who is away: %q", step, troubles)
		}
		r, err := store.Check(LedgerFile(j.Home), s.chain, s.genesis, nil)
		if err != nil || !r.OK() {
			t.Errorf("%v, %v", err, r.Differences)
		}
	}
	// Where all providers have pruned, the first block cannot be had.
	j := joiner.joinDirectly(running...)
	j.Home, j.Mode = t.TempDir(), JoinGenesis
	ask := j.Ask
	j.Ask = func(ctx context.Context, provider string, q []byte) ([]byte, error) {
		raw, err := ask(ctx, provider, q)
		var a OffersAnswer
		if err != nil || Question(q[0]) != AskOffers || decodeAnswer(raw, &a) != nil {
			return raw, err
		}
		a.Base = 9
		return bundleEnc.Marshal(a)
	}
	if err := j.Run(t.Context()); !errors.Is(err, ErrJoin) || !strings.Contains(err.Error(), `nobody who can be asked keeps blocks before 9 any more: write "join: snapshot" into agent.yaml`) {
		t.Errorf("got %v", err)
	}
	j.Mode = "quickly"
	if err := j.Run(t.Context()); !errors.Is(err, ErrConfig) {
		t.Errorf("got %v", err)
	}
}
