package consensus

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// ConductFile is where a node keeps, beside its engine, what it saw validators do. It is
// this node's view: another may have held other orders.
func ConductFile(home string) string { return filepath.Join(home, "conduct.json") }

const (
	maxConduct      = 256       // validators; there are MaxValidators at a time
	maxConductBytes = 256 << 10 // of the file
)

// Seen is what a node saw a validator do as a proposer.
type Seen struct {
	// Omitted counts the orders that its blocks left out though this node had held them
	// for long, and OmittedAt is the last of those blocks (C11).
	Omitted   uint64 `json:"omitted"`
	OmittedAt int64  `json:"omitted_at,omitempty"`
	// Refused counts its proposals that this node refused, by their reason; RefusedAt is
	// the height of the last.
	Refused   map[string]uint64 `json:"refused,omitempty"`
	RefusedAt int64             `json:"refused_at,omitempty"`
}

// conductBook keeps what was seen, by address. Consensus writes, others read. It is not part
// of the ledger: a power cut may lose the last lines of it.
type conductBook struct {
	file string
	log  *slog.Logger

	mu      sync.Mutex
	seen    map[ledger.ValidatorAddress]Seen
	changed bool
}

// openConduct reads what earlier runs kept. A file that cannot be read is begun anew: nobody
// decides by it.
func openConduct(home string, log *slog.Logger) *conductBook {
	b := &conductBook{file: ConductFile(home), log: log, seen: map[ledger.ValidatorAddress]Seen{}}
	seen, err := loadConduct(home)
	if err != nil {
		log.Warn("what validators did before is forgotten", "err", err)
		return b
	}
	b.seen = seen
	return b
}

// loadConduct reads the file of a node; where there is none, nothing was seen.
func loadConduct(home string) (map[ledger.ValidatorAddress]Seen, error) {
	file, out := ConductFile(home), map[ledger.ValidatorAddress]Seen{}
	raw, err := readBounded(file, maxConductBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	var kept map[string]Seen
	if err := json.Unmarshal(raw, &kept); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for text, s := range kept {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != len(ledger.ValidatorAddress{}) || len(out) >= maxConduct {
			return nil, fmt.Errorf("%s: %q is no validator's address, want 40 hexadecimal digits, of at most %d validators", file, text, maxConduct)
		}
		out[addressOf(b)] = s
	}
	return out, nil
}

// readBounded reads a file of at most limit bytes.
func readBounded(file string, limit int64) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s: %d bytes, want at most %d", file, info.Size(), limit)
	}
	return os.ReadFile(file) //nolint:gosec // a file of this node's folder
}

func addressText(a ledger.ValidatorAddress) string { return strings.ToUpper(hex.EncodeToString(a[:])) }

// omitted notes what a block left out, and keeps what has changed since the last block.
func (b *conductBook) omitted(proposer ledger.ValidatorAddress, height int64, orders uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if orders > 0 {
		b.change(proposer, func(s *Seen) { s.Omitted, s.OmittedAt = s.Omitted+orders, height })
		b.log.Warn("a block left orders out that have waited here for long", "height", height, "proposer", addressText(proposer), "orders", orders)
	}
	if b.changed {
		b.changed = false
		if err := b.keep(); err != nil {
			b.log.Warn("what validators did is not kept", "err", err)
		}
	}
}

// refused notes a refused proposal; it is kept with the next block.
func (b *conductBook) refused(proposer ledger.ValidatorAddress, height int64, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.change(proposer, func(s *Seen) {
		refused := map[string]uint64{reason: 1}
		for r, n := range s.Refused { // never changed in place: readers have it
			refused[r] += n
		}
		s.Refused, s.RefusedAt = refused, height
	})
}

// change changes the lines of a proposer; the caller holds mu.
func (b *conductBook) change(proposer ledger.ValidatorAddress, f func(*Seen)) {
	s, ok := b.seen[proposer]
	if !ok && len(b.seen) >= maxConduct {
		return
	}
	f(&s)
	b.seen[proposer] = s
	b.changed = true
}

// keep writes the file anew; the caller holds mu.
func (b *conductBook) keep() error {
	kept := make(map[string]Seen, len(b.seen))
	for a, s := range b.seen {
		kept[addressText(a)] = s
	}
	raw, err := json.MarshalIndent(kept, "", "  ")
	if err != nil {
		return err
	}
	return writeSynced(b.file, append(raw, '\n'), 0o600)
}

// all returns what was seen of everybody.
func (b *conductBook) all() map[ledger.ValidatorAddress]Seen {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.seen)
}
