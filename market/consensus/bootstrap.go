package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	dbm "github.com/cometbft/cometbft-db"
	cmtversion "github.com/cometbft/cometbft/proto/tendermint/state"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	cmtstate "github.com/cometbft/cometbft/state"
	cmtstore "github.com/cometbft/cometbft/store"
	"github.com/cometbft/cometbft/types"
	"github.com/cometbft/cometbft/version"

	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/store"
)

// origin is what an engine begins from that has not the blocks before: a block, the next one
// in whose header the AppHash is, and the validators of three blocks. All of it has been
// verified by verifyOrigin.
type origin struct {
	manifest *store.Manifest
	block    *types.LightBlock // at the snapshot's height
	next     *types.LightBlock
	sets     [3]*types.ValidatorSet // of block, next, and the one behind it, each with its turns
	changes  []Change               // the way from the genesis document to the last of them
}

// verifyOrigin checks that the manifest's AppHash is in a header that the validators of this
// chain have signed. Whether the records hash to it is for store.BeginJoining to say. The
// error wraps ErrHeader, ErrSignature, ErrAnswer or store.ErrSnapshot.
func (a *Anchor) verifyOrigin(answer *ManifestAnswer) (*origin, error) {
	m, err := store.DecodeManifest(answer.Manifest, a.chainID)
	if err != nil {
		return nil, err
	}
	o := &origin{manifest: m}
	if o.changes, err = decodeChanges(answer.Changes); err != nil {
		return nil, err
	}
	if _, err := a.follow(o.changes); err != nil {
		return nil, err
	}
	for i, x := range []struct {
		to  **types.LightBlock
		raw []byte
	}{{&o.block, answer.Block}, {&o.next, answer.Next}} {
		b, err := decodeLightBlock(a.chainID, x.raw)
		if err != nil {
			return nil, err
		}
		if want := m.Height + int64(i); b.Height != want {
			return nil, fmt.Errorf("%w: header.height: got %d, want %d", ErrHeader, b.Height, want)
		}
		*x.to = b
	}
	if err := a.proveOrigin(o, answer.After); err != nil {
		return nil, err
	}
	switch {
	case !bytes.Equal(o.next.AppHash, m.AppHash[:]):
		return nil, fmt.Errorf("%w: the manifest says AppHash %x, the header of block %d says %s", store.ErrSnapshot, m.AppHash, o.next.Height, o.next.AppHash)
	case !o.next.LastBlockID.Equals(o.block.Commit.BlockID):
		return nil, fmt.Errorf("%w: block %d follows %v, not %v", ErrHeader, o.next.Height, o.next.LastBlockID, o.block.Commit.BlockID)
	}
	return o, nil
}

// proveOrigin checks the signatures, and finds whose turn it is to propose: that is in no
// header, but follows from the genesis and the changes of the set.
func (a *Anchor) proveOrigin(o *origin, after []byte) error {
	sets, err := a.setsAt(o.block.Height, o.changes)
	if err != nil {
		return err
	}
	o.sets = sets
	for i, b := range []*types.LightBlock{o.block, o.next} {
		if !bytes.Equal(sets[i].Hash(), b.ValidatorsHash) {
			return fmt.Errorf("%w: header.validators_hash of block %d: got %s, the chain's validators hash to %X", ErrHeader, b.Height, b.ValidatorsHash, sets[i].Hash())
		}
		if err := sets[i].VerifyCommit(a.chainID, b.Commit.BlockID, b.Height, b.Commit); err != nil {
			return fmt.Errorf("%w: block %d: %w", ErrSignature, b.Height, err)
		}
	}
	set, err := decodeValidators(after)
	if err != nil {
		return err
	}
	if hash := set.Hash(); !bytes.Equal(hash, o.next.NextValidatorsHash) || !bytes.Equal(hash, sets[2].Hash()) {
		return fmt.Errorf("%w: header.next_validators_hash of block %d: got %s, the validators hash to %X", ErrHeader, o.next.Height, o.next.NextValidatorsHash, hash)
	}
	return nil
}

func decodeValidators(raw []byte) (set *types.ValidatorSet, err error) {
	if len(raw) == 0 || len(raw) > maxLightBlock {
		return nil, fmt.Errorf("%w: validators: %d bytes, want 1 to %d", ErrAnswer, len(raw), maxLightBlock)
	}
	defer func() {
		if r := recover(); r != nil { // see decodeLightBlock
			set, err = nil, fmt.Errorf("%w: validators: %s", ErrAnswer, firstLine(r))
		}
	}()
	p := new(cmtproto.ValidatorSet)
	if err := p.Unmarshal(raw); err != nil {
		return nil, fmt.Errorf("%w: validators: %w", ErrAnswer, err)
	}
	if set, err = types.ValidatorSetFromProto(p); err != nil {
		return nil, fmt.Errorf("%w: validators: %w", ErrAnswer, err)
	}
	return set, nil
}

// maxChangesBytes bounds the way from the genesis document in an answer: some hundred
// changes of a full set.
const maxChangesBytes = 3 << 20

func decodeChanges(raw []byte) (way []Change, err error) {
	if len(raw) > maxChangesBytes {
		return nil, fmt.Errorf("%w: changes: %d bytes, want at most %d", ErrAnswer, len(raw), maxChangesBytes)
	}
	if err := strictJSON(raw, &way); err != nil {
		return nil, fmt.Errorf("%w: changes: %w", ErrAnswer, err)
	}
	return way, nil
}

// setsAt derives the validators of a height and the two behind it, with their turns, as the
// engine does from block to block. The changes have been verified.
func (a *Anchor) setsAt(height int64, changes []Change) (sets [3]*types.ValidatorSet, err error) {
	set, at := a.set.Copy(), int64(1)
	turn := func(to int64) {
		for at < to {
			n := min(to-at, 1<<20)                  // the engine counts in 32 bits
			set.IncrementProposerPriority(int32(n)) //nolint:gosec // at most 1<<20
			at += n
		}
	}
	for at < height+3 {
		// The set of the next change holds from the block behind its header on.
		next := height + 3
		if len(changes) > 0 {
			next = min(next, changes[0].Header.Height+1)
		}
		for i := range sets {
			if h := height + int64(i); h >= at && h < next {
				turn(h)
				sets[i] = set.Copy()
			}
		}
		if next == height+3 {
			break
		}
		turn(next - 1)
		if err := set.UpdateWithChangeSet(difference(set, changes[0].Next)); err != nil {
			return sets, fmt.Errorf("%w: change of the validators at block %d: %w", ErrHeader, next, err)
		}
		set.IncrementProposerPriority(1)
		at, changes = next, changes[1:]
	}
	return sets, nil
}

// difference is what the engine is told when a set becomes another.
func difference(set *types.ValidatorSet, next []ledger.Key) (changes []*types.Validator) {
	to := engineSet(next)
	for _, v := range set.Validators {
		if !to.HasAddress(v.Address) {
			changes = append(changes, types.NewValidator(v.PubKey, 0))
		}
	}
	for _, v := range to.Validators {
		if !set.HasAddress(v.Address) {
			changes = append(changes, v)
		}
	}
	return changes
}

// writeEngine makes the engine's stores in a folder as they are after the block, in place of
// what is there. The next Run fetches the blocks behind it.
func (o *origin) writeEngine(dir string, doc *types.GenesisDoc) error {
	state := cmtstate.State{
		ChainID: doc.ChainID, InitialHeight: doc.InitialHeight,
		Version:         cmtversion.Version{Consensus: o.next.Version, Software: version.TMCoreSemVer},
		LastBlockHeight: o.block.Height, LastBlockTime: o.block.Time, LastBlockID: o.block.Commit.BlockID,
		LastValidators: o.sets[0], Validators: o.sets[1], NextValidators: o.sets[2],
		LastHeightValidatorsChanged: o.next.Height + 1,
		ConsensusParams:             *doc.ConsensusParams, // this chain changes none
		AppHash:                     o.next.AppHash, LastResultsHash: o.next.LastResultsHash,
	}
	state.LastHeightConsensusParamsChanged = o.next.Height
	if hash := state.ConsensusParams.Hash(); !bytes.Equal(hash, o.next.ConsensusHash) {
		return fmt.Errorf("%w: header.consensus_hash: got %s, the genesis document's parameters hash to %X", ErrHeader, o.next.ConsensusHash, hash)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("writing the engine's stores: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("writing the engine's stores: %w", err)
	}
	return sound("the engine's stores", func() error {
		return withStores(dir, func(blocks *cmtstore.BlockStore, states cmtstate.Store) error {
			if err := states.Bootstrap(state); err != nil {
				return err
			}
			if err := blocks.SaveSeenCommit(o.block.Height, o.block.Commit); err != nil {
				return err
			}
			return states.SetOfflineStateSyncHeight(o.block.Height)
		})
	})
}

// withStores opens the engine's two stores in a folder, or makes them.
func withStores(dir string, f func(*cmtstore.BlockStore, cmtstate.Store) error) (err error) {
	blocks, err := dbm.NewGoLevelDB("blockstore", dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, blocks.Close()) }()
	states, err := dbm.NewGoLevelDB("state", dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, states.Close()) }()
	return f(cmtstore.NewBlockStore(blocks), cmtstate.NewStore(states, cmtstate.StoreOptions{DiscardABCIResponses: true}))
}

// mendBootstrap tells the engine once more that it began with a snapshot, as long as it has
// no block of its own: it forgets that at each start, and would not start again.
func (n *Node) mendBootstrap() error {
	height, _ := n.book.tip()
	if base := n.book.store.Base(); base == 0 || base != height {
		return nil
	}
	return sound("the engine's stores", func() error {
		return withStores(filepath.Join(n.cfg.Home, "data"), func(blocks *cmtstore.BlockStore, states cmtstate.Store) error {
			if !blocks.IsEmpty() {
				return nil
			}
			return states.SetOfflineStateSyncHeight(height)
		})
	})
}

// Folders of a node that joins. Everything is made in joinFolder; when all of it is whole
// and checked the folder gets the name joinedFolder, and its content is moved to its place,
// which can be done again after a crash at any point.
func joinFolder(home string) string   { return filepath.Join(home, "join") }
func joinedFolder(home string) string { return filepath.Join(home, "joined") }

const (
	joinLedger = "ledger.db"
	joinEngine = "engine"
)

// installJoined moves a ledger that has been joined to its place, if there is one that
// waits for it.
func installJoined(home string) error {
	from := joinedFolder(home)
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("installing the joined ledger: %w", err)
	}
	data := filepath.Join(home, "data")
	err := os.MkdirAll(data, 0o700)
	for _, m := range [][2]string{
		{filepath.Join(from, joinEngine, "blockstore.db"), filepath.Join(data, "blockstore.db")},
		{filepath.Join(from, joinEngine, "state.db"), filepath.Join(data, "state.db")},
		{changesDir(from), changesDir(home)},
		{filepath.Join(from, joinLedger), LedgerFile(home)},
	} {
		if err != nil {
			break
		}
		if _, gone := os.Stat(m[0]); errors.Is(gone, fs.ErrNotExist) {
			continue // it has been moved before
		}
		err = os.Rename(m[0], m[1])
	}
	if err == nil {
		err = errors.Join(syncFolder(data), syncFolder(home))
	}
	if err == nil {
		err = os.RemoveAll(from)
	}
	if err != nil {
		return fmt.Errorf("installing the joined ledger: %w", err)
	}
	return nil
}

func syncFolder(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the node's own folder
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
