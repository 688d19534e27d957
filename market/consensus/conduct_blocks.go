package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	cmtstore "github.com/cometbft/cometbft/store"
	"github.com/cometbft/cometbft/types"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// Conduct is what blocks, and this node, say of the validators.
type Conduct struct {
	// First and Last are the blocks that were looked at: those that are stored. 0: none.
	First      int64              `json:"first_block"`
	Last       int64              `json:"last_block"`
	Validators []ValidatorConduct `json:"validators" nullable:"false"`
}

// ValidatorConduct is that of one of them, be it a validator still or not.
type ValidatorConduct struct {
	Name    string `json:"name"`
	Address string `json:"address" doc:"Hexadecimal"`
	Votes   bool   `json:"votes" doc:"It is a validator now"`
	// Proposed counts its blocks.
	Proposed int64 `json:"proposed"`
	// DoubleSigned are heights at which it is proven to have signed two blocks: everybody
	// who has these blocks sees them.
	DoubleSigned []int64 `json:"double_signed" nullable:"false"`
	// The rest is what this node saw.
	Seen
}

// maxDoubleSigned bounds the heights that are listed; a validator is struck after one.
const maxDoubleSigned = 100

// blockConduct counts what stored blocks say. It goes on where it was, since blocks do not
// change.
type blockConduct struct {
	mu       sync.Mutex
	first    int64
	next     int64
	proposed map[ledger.ValidatorAddress]int64
	double   map[ledger.ValidatorAddress][]int64
}

// storedBlocks is what it needs of the engine's block store.
type storedBlocks interface {
	Base() int64
	Height() int64
	LoadBlockMeta(height int64) *types.BlockMeta
	LoadBlock(height int64) *types.Block
}

var noEvidence = types.EvidenceList(nil).Hash()

// follow reads the blocks up to the newest.
func (c *blockConduct) follow(ctx context.Context, blocks storedBlocks) error {
	if c.next == 0 {
		c.proposed, c.double = map[ledger.ValidatorAddress]int64{}, map[ledger.ValidatorAddress][]int64{}
		c.first, c.next = blocks.Base(), blocks.Base()
	}
	for last := blocks.Height(); c.next <= last && last > 0; c.next++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		meta := blocks.LoadBlockMeta(c.next)
		if meta == nil {
			continue // pruned meanwhile
		}
		c.proposed[addressOf(meta.Header.ProposerAddress)]++
		if bytes.Equal(meta.Header.EvidenceHash, noEvidence) {
			continue
		}
		b := blocks.LoadBlock(c.next)
		if b == nil {
			continue
		}
		for _, m := range b.Evidence.Evidence.ToABCI() {
			if a := addressOf(m.Validator.Address); len(c.double[a]) < maxDoubleSigned && !slices.Contains(c.double[a], m.Height) {
				c.double[a] = append(c.double[a], m.Height)
			}
		}
	}
	return nil
}

// conduct joins what blocks say with what was seen; the caller holds mu.
func (c *blockConduct) conduct(seen map[ledger.ValidatorAddress]Seen, now map[ledger.ValidatorAddress]bool, names map[ledger.ValidatorAddress]string) Conduct {
	out := Conduct{First: c.first, Last: c.next - 1, Validators: []ValidatorConduct{}}
	all := map[ledger.ValidatorAddress]bool{}
	for a := range now {
		all[a] = true
	}
	for a := range c.proposed {
		all[a] = true
	}
	for a := range c.double {
		all[a] = true
	}
	for a := range seen {
		all[a] = true
	}
	for a := range all {
		v := ValidatorConduct{
			Name: names[a], Address: addressText(a), Votes: now[a], Proposed: c.proposed[a],
			DoubleSigned: append([]int64{}, c.double[a]...), Seen: seen[a],
		}
		out.Validators = append(out.Validators, v)
	}
	slices.SortFunc(out.Validators, func(a, b ValidatorConduct) int {
		return strings.Compare(a.Name+" "+a.Address, b.Name+" "+b.Address)
	})
	return out
}

// genesisNames are those that the genesis document gives.
func genesisNames(doc *types.GenesisDoc) map[ledger.ValidatorAddress]string {
	names := map[ledger.ValidatorAddress]string{}
	for _, v := range doc.Validators {
		names[addressOf(v.Address)] = v.Name
	}
	return names
}

// Conduct says how the validators have behaved (C11). The first call reads the headers of all
// stored blocks, later ones those that came since.
func (n *Node) Conduct(ctx context.Context) (Conduct, error) {
	e := n.engine.Load()
	if e == nil {
		return Conduct{}, errors.New("the ledger has not started yet")
	}
	names, now := genesisNames(n.doc), map[ledger.ValidatorAddress]bool{}
	n.book.read(func(s *ledger.State) {
		for _, v := range s.Validators() {
			a := ledger.AddressOf(v.Key)
			now[a] = true
			if names[a] == "" {
				names[a] = "household " + v.Household.String()[:8]
			}
		}
		for _, v := range s.Faulty() {
			if a := ledger.AddressOf(v.Key); names[a] == "" {
				names[a] = "household " + v.Household.String()[:8]
			}
		}
	})
	n.history.mu.Lock()
	defer n.history.mu.Unlock()
	if err := sound("block store", func() error { return n.history.follow(ctx, e.node.BlockStore()) }); err != nil {
		return Conduct{}, err
	}
	return n.history.conduct(n.conduct.all(), now, names), nil
}

// StoredConduct is Conduct of the node in home, which is not running.
func StoredConduct(ctx context.Context, home string) (Conduct, error) {
	raw, err := LoadGenesis(home)
	if err != nil {
		return Conduct{}, err
	}
	doc, g, err := parseGenesis(raw)
	if err != nil {
		return Conduct{}, fmt.Errorf("%s: %w", genesisFile(home), err)
	}
	changes, err := openChanges(home, g)
	if err != nil {
		return Conduct{}, err
	}
	seen, err := loadConduct(home)
	if err != nil {
		return Conduct{}, err
	}
	db, err := openReading(filepath.Join(home, "data"), "blockstore")
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Conduct{}, fmt.Errorf("%s holds no blocks yet: %w", home, err)
		}
		return Conduct{}, err
	}
	defer db.Close() //nolint:errcheck // opened for reading only
	var c blockConduct
	if err := sound("block store", func() error { return c.follow(ctx, cmtstore.NewBlockStore(db)) }); err != nil {
		return Conduct{}, err
	}
	now := map[ledger.ValidatorAddress]bool{}
	for _, k := range changes.setAt(c.next) {
		now[ledger.AddressOf(k)] = true
	}
	return c.conduct(seen, now, genesisNames(doc)), nil
}
