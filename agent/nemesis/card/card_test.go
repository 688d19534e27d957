//go:build linux

package card_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/commonwatt/commonwatt/agent/nemesis/card"
)

func newCard(t *testing.T) *card.Card {
	t.Helper()
	c, err := card.New(filepath.Join(t.TempDir(), "card"), card.MinSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(c.Remove(), c.Remove()); err != nil {
			t.Error(err)
		}
	})
	return c
}

// K1: what was synced is there after a cut, and what was not is gone.
func TestCut(t *testing.T) {
	c := newCard(t)
	write := func(name string, sync bool) {
		f, err := os.Create(filepath.Join(c.Dir(), name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("kept"); err != nil {
			t.Fatal(err)
		}
		if sync {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write("synced", true)
	write("lost", false)
	if err := c.Cut(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Dir(), "after"), nil, 0o600); !errors.Is(err, syscall.EIO) {
		t.Errorf("writing without power: %v, want EIO", err)
	}
	if err := errors.Join(c.Unmount(), c.Mount()); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(c.Dir(), "synced")); string(b) != "kept" {
		t.Errorf("what was synced: %q, %v", b, err)
	}
	if b, err := os.ReadFile(filepath.Join(c.Dir(), "lost")); string(b) == "kept" {
		t.Errorf("what was not synced is there: %v; the cut cuts nothing", err)
	}
}

// K2: a full card takes nothing, and with room again it does.
func TestFill(t *testing.T) {
	c := newCard(t)
	path := filepath.Join(c.Dir(), "file")
	if err := c.Fill(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("writing on a full card: %v, want ENOSPC", err)
	}
	if err := c.Free(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, make([]byte, 4096), 0o600); err != nil {
		t.Error(err)
	}
	if err := c.ReadOnly(true); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Errorf("writing on a read-only card: %v, want EROFS", err)
	}
	if err := c.ReadOnly(false); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Error(err)
	}
}

func TestSmall(t *testing.T) {
	if _, err := card.New(filepath.Join(t.TempDir(), "card"), 5); err == nil {
		t.Error("a card of 5 bytes was made")
	}
}
