//go:build linux

package store_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/commonwatt/commonwatt/agent/nemesis/card"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
)

// powerCuts is how often the plug is pulled from a process that commits.
const powerCuts = 20

// TestPowerCuts pulls the plug from a process that commits to a card of its own, again and
// again: no block that Commit has answered for is lost, and the file is whole each time.
func TestPowerCuts(t *testing.T) {
	p := newPlug(t)
	acknowledged := int64(0)
	for round := range powerCuts {
		last := p.pull(t, 2+round%7, false)
		acknowledged = max(acknowledged, last)
		s := open(t, p.path, p.c)
		if h := s.Height(); h != acknowledged && h != acknowledged+1 {
			t.Fatalf("cut %d: height %d, acknowledged %d", round, h, acknowledged)
		}
		for _, err := range s.State().Audit() {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		whole(t, p.path, p.c)
	}
	if acknowledged < 3*powerCuts {
		t.Errorf("only %d blocks in %d cuts", acknowledged, powerCuts)
	}
	t.Logf("%d power cuts, %d blocks acknowledged, 0 lost", powerCuts, acknowledged)
}

// TestPowerCutsShow is the proof that TestPowerCuts can fail: a store that does not sync
// loses what it has answered for, or does not open any more.
func TestPowerCutsShow(t *testing.T) {
	const cuts = 3
	shown := 0
	for range cuts {
		p := newPlug(t)
		acknowledged := p.pull(t, 20, true)
		s, err := openAndRead(p.path, p.c)
		if err != nil || s.Height < acknowledged {
			shown++
		}
	}
	if shown != cuts {
		t.Errorf("without syncing %d of %d cuts lost something, want all", shown, cuts)
	}
}

// plug is a card with a ledger, and the plug of the machine that writes on it.
type plug struct {
	card *card.Card
	path string
	c    *ledgertest.Community
}

func newPlug(t *testing.T) *plug {
	t.Helper()
	k, err := card.New(filepath.Join(t.TempDir(), "card"), card.MinSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Remove(); err != nil {
			t.Error(err)
		}
	})
	p := &plug{card: k, path: filepath.Join(k.Dir(), "ledger.db"), c: ledgertest.New(rules())}
	if err := open(t, p.path, p.c).Close(); err != nil {
		t.Fatal(err)
	}
	return p
}

// pull lets a process commit, pulls the plug after so many blocks and puts it in again. It
// returns the last block that was answered for.
func (p *plug) pull(t *testing.T, heights int, lazy bool) int64 {
	t.Helper()
	last, said := writer{path: p.path, lazy: lazy, heights: heights, stop: func(kill func()) {
		if err := p.card.Cut(); err != nil {
			t.Error(err)
		}
		kill()
	}}.run(t)
	if said != "" && said[:6] != "failed" {
		t.Fatal(said)
	}
	if err := errors.Join(p.card.Unmount(), p.card.Mount()); err != nil {
		t.Fatal(err)
	}
	return last
}
