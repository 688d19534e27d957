//go:build linux

package joining

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/nemesis/card"
	"github.com/commonwatt/commonwatt/market"
)

// TestPowerCut: the use of an invitation, and that it is revoked, are on the card before anything is given for it (J1). Who
// pulls the plug right then does not get another use.
func TestPowerCut(t *testing.T) {
	c, err := card.New(filepath.Join(t.TempDir(), "card"), card.MinSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Remove(); err != nil {
			t.Error(err)
		}
	})
	cut := func() {
		t.Helper()
		if err := errors.Join(c.Cut(), c.Unmount(), c.Mount()); err != nil {
			t.Fatal(err)
		}
	}
	f, now := OpenFolder(c.Dir()), time.Now()
	issued, err := f.Issue("root", 1, now, now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	cut()
	if issued, err = f.read(issued.ID); err != nil {
		t.Fatalf("the invitation is gone: %v", err)
	}
	if err := f.take(issued, market.HouseholdID{1}); err != nil {
		t.Fatal(err)
	}
	cut()
	if issued, err = f.read(issued.ID); err != nil || issued.State(now) != CodeUsed {
		t.Fatalf("after its use: %v, %v", issued, err)
	}
	if err := f.take(issued, market.HouseholdID{2}); !errors.Is(err, errUsed) {
		t.Errorf("another household: got %v, want %v", err, errUsed)
	}
	if err := f.Revoke(issued.ID); err != nil {
		t.Fatal(err)
	}
	cut()
	if issued, err = f.read(issued.ID); err != nil || !issued.Revoked {
		t.Errorf("after it was revoked: %v, %v", issued, err)
	}
}
