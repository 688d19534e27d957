package consensus

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market/store"
)

// healed has a node's folder healed by those of the street that run, without a network
// between.
func (m *member) healed(t *testing.T, restored bool) *Healed {
	t.Helper()
	j, end := m.join(t)
	defer end()
	done, err := Heal{Join: j, StateFile: m.cfg.ValidatorStateFile, Restored: restored}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// damage writes over the middle of a file.
func damage(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := len(b) / 4; i < len(b); i++ {
		b[i] ^= 0x55
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A validator whose ledger is damaged does not start; healed by the others it has their
// hash, signs on above what it has signed, and what was damaged is kept.
func TestHeal(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{
		validators: 4, homes: 1, interval: time.Hour, rate: 1, next: 50 * time.Minute,
		tweak: func(_ int, c *Config) { c.SnapshotEvery = 4; c.Pace.Backlog = 1 },
	})
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admitOrPrefer(s.nodes)
	for range 5 {
		s.prefer(s.nodes[0], s.nodes...)
	}
	s.awaitSnapshot(4, s.nodes[:3]...)
	s.settled(s.nodes...)
	m, others := s.nodes[3], s.nodes[:3]
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	damage(t, LedgerFile(m.cfg.Home))
	if n, err := New(m.cfg); !errors.Is(err, store.ErrCorrupt) {
		t.Fatalf("a damaged ledger: %v, %v, want ErrCorrupt", n, err)
	}
	signed, err := os.ReadFile(m.cfg.ValidatorStateFile)
	if err != nil {
		t.Fatal(err)
	}
	s.prefer(others[0], others...)
	done := m.healed(t, false)
	if done.Height < 4 || done.Unsigned || !strings.HasPrefix(filepath.Base(done.Kept), asidePrefix) {
		t.Errorf("healed: %+v, want a snapshot, and to sign on", done)
	}
	for _, name := range []string{"ledger.db", "data/blockstore.db", "data/state.db", "data/cs.wal"} {
		if _, err := os.Stat(filepath.Join(done.Kept, name)); err != nil {
			t.Errorf("what was damaged is not kept: %v", err)
		}
	}
	if now, err := os.ReadFile(m.cfg.ValidatorStateFile); err != nil || string(now) != string(signed) {
		t.Errorf("what it has signed was %s, is %s, %v", signed, now, err)
	}
	m.start()
	s.awaitSigns(t, m)
	s.sameFrom(done.Height, s.nodes...)
	s.noEvidence(s.nodes...)
}

// awaitSigns has blocks made until a validator has signed some that it had not signed before.
func (s *street) awaitSigns(t *testing.T, m *member) {
	t.Helper()
	s.awaitUp(s.nodes...)
	from := m.guard.signed()
	for m.guard.signed().height < from.height+2 {
		s.prefer(s.nodes[0], s.nodes...)
	}
	s.settled(s.nodes...)
}

// A validator that does not know what it has signed does not start. Healed, it follows, and
// signs nothing that it can have signed before; so does one whose folder came from a backup.
func TestHealLostSignatures(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{
		validators: 4, homes: 1, interval: time.Hour, rate: 1, next: 50 * time.Minute,
		tweak: func(_ int, c *Config) { c.Pace.Backlog = 1 },
	})
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admitOrPrefer(s.nodes)
	m := s.nodes[3]
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	old := m.guard.signed()
	backup, err := os.ReadFile(m.cfg.ValidatorStateFile)
	if err != nil {
		t.Fatal(err)
	}
	m.start()
	s.awaitSigns(t, m)
	for name, c := range map[string]struct {
		state    string
		restored bool
	}{
		"half a file": {string(backup[:len(backup)/2]), false},
		"a backup":    {string(backup), true},
	} {
		t.Log(name)
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
		signed := m.guard.signed()
		if err := os.WriteFile(m.cfg.ValidatorStateFile, []byte(c.state), 0o600); err != nil {
			t.Fatal(err)
		}
		if !c.restored {
			if n, err := New(m.cfg); !errors.Is(err, ErrSignState) {
				t.Fatalf("without what it has signed: %v, %v, want ErrSignState", n, err)
			}
		}
		if done := m.healed(t, c.restored); !done.Unsigned || done.Height != 0 {
			t.Errorf("%s: %+v, want that it does not sign, and no snapshot of a short chain", name, done)
		}
		m.start()
		await(t, patience, "it knows what it may sign", func() bool {
			return m.guard.isOpen() || m.guard.signed().height > 0 || s.nodes[0].Status().Height < 0
		})
		if from := m.guard.signed(); from.height <= signed.height || old.height == 0 {
			t.Errorf("%s: it signs from %+v on, and had signed %+v", name, from, signed)
		}
		s.awaitSigns(t, m)
		s.sameHashes(s.nodes...)
		s.noEvidence(s.nodes...)
		if _, err := os.Stat(lostMark(m.cfg.ValidatorStateFile)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the mark is still there: %v", name, err)
		}
	}
}

// Nothing is moved before somebody has been found who gives another, and a crash after any
// step is gone on from.
func TestHealFaults(t *testing.T) {
	t.Parallel()
	s, running, m := joinStreet(t, 5)
	s.awaitSnapshot(5, running...)
	if err := m.joinDirectly(running...).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	damage(t, LedgerFile(m.cfg.Home))
	heal := func(fault func(string) error, providers ...*member) (*Healed, error) {
		j := m.joinDirectly(providers...)
		j.fault, j.Patience = fault, time.Millisecond
		return Heal{Join: j, StateFile: m.cfg.ValidatorStateFile}.Run(t.Context())
	}
	before := folder(t, m.cfg.Home)
	if _, err := heal(nil); !errors.Is(err, ErrJoin) || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("nobody is there: %v, want ErrJoin", err)
	}
	if now := folder(t, m.cfg.Home); len(now) != len(before) {
		t.Errorf("nobody was there, and the folder has %d files, want %d", len(now), len(before))
	}
	crash := errors.New("crash")
	for _, at := range []string{"origin", "state", "finished", "engine", "aside", "joined"} {
		_, err := heal(func(step string) error {
			if step == at {
				return crash
			}
			return nil
		}, running...)
		if !errors.Is(err, crash) {
			t.Fatalf("%s: %v, want a crash there", at, err)
		}
	}
	if _, err := heal(nil, running...); err != nil {
		t.Fatal(err)
	}
	kept, err := filepath.Glob(filepath.Join(m.cfg.Home, asidePrefix+"*", "ledger.db"))
	if err != nil || len(kept) == 0 {
		t.Errorf("what was damaged: %v, %v, want it kept", kept, err)
	}
	m.start()
	s.awaitUp(append(running, m)...)
	s.sameFrom(m.Status().Height, append(running, m)...)
}
