package consensus

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Parts of the write-ahead log that the engine has put aside go when blocks have come since,
// the one that it writes to stays, and the node goes on after a restart.
func TestTrimWAL(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 1, homes: 1, interval: time.Hour, rate: 1, next: 50 * time.Minute})
	m := s.nodes[0]
	s.start(m)
	s.admit(m, s.nodes, s.homes...)
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(m.cfg.Home, "data", "cs.wal", "wal")
	for _, part := range []string{".000", ".001", ".010"} {
		if err := os.WriteFile(log+part, []byte("of long ago"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.start(m)
	for range walBlocks {
		s.prefer(m, m)
	}
	await(t, 60*time.Second, "old parts are removed", func() bool {
		parts, err := walParts(m.cfg.Home)
		if err != nil {
			t.Fatal(err)
		}
		return len(parts) == 0
	})
	if _, err := os.Stat(log); err != nil {
		t.Error(err)
	}
	if err := m.stop(); err != nil {
		t.Fatal(err)
	}
	s.start(m)
	s.prefer(m, m)
}
