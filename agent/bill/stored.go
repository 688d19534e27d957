package bill

import (
	"context"
	"errors"
	"fmt"

	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/store"
)

// Stored is the Source of a node that is not running. Close gives its files back.
type Stored struct {
	*store.Store
	engine string
}

// OpenStored opens the ledger in the engine's folder of a node, to read. The error wraps
// store.ErrInUse if the node is running.
func OpenStored(engine string, genesis []byte) (*Stored, error) {
	chain, g, err := consensus.ParseGenesis(genesis)
	if err != nil {
		return nil, err
	}
	s, err := store.OpenReadOnly(consensus.LedgerFile(engine), chain, g)
	if err != nil {
		return nil, err
	}
	return &Stored{Store: s, engine: engine}, nil
}

// Read calls f with the state after the last block.
func (s *Stored) Read(f func(*ledger.State)) { f(s.State()) }

// Proof calls f with the state after the last block and returns the header that proves it.
func (s *Stored) Proof(_ context.Context, f func(*ledger.State)) (*consensus.SignedHeader, error) {
	f(s.State())
	h, err := consensus.StoredProof(s.engine, s.Height(), s.State().AppHash())
	if errors.Is(err, consensus.ErrUnproven) {
		err = fmt.Errorf("%w (run the agent for a moment, and it will come)", err)
	}
	return h, err
}
