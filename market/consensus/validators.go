package consensus

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"strings"

	abci "github.com/cometbft/cometbft/abci/types"
	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// The set of validators is the ledger's: transactions change it, the engine is told of each
// change by the block that makes it, and takes the new set from the block after the next on.

// engineUpdates are a block's changes of the set as the engine takes them.
func engineUpdates(updates []ledger.ValidatorUpdate) []abci.ValidatorUpdate {
	var out []abci.ValidatorUpdate
	for _, u := range updates {
		out = append(out, abci.Ed25519ValidatorUpdate(u.Key[:], u.Power))
	}
	return out
}

// engineSet makes the engine's set of the ledger's keys.
func engineSet(keys []ledger.Key) *types.ValidatorSet {
	all := make([]*types.Validator, len(keys))
	for i, k := range keys {
		all[i] = types.NewValidator(cmted25519.PubKey(k[:]), ledger.ValidatorPower)
	}
	return types.NewValidatorSet(all)
}

// appliedBlock is a decided block as the ledger applies it, from what the engine gives.
func appliedBlock(req *abci.RequestFinalizeBlock) (ledger.Block, error) {
	b := ledger.Block{Txs: req.Txs}
	if copy(b.Seed[:], req.Hash) != len(b.Seed) || len(req.Hash) != len(b.Seed) {
		return b, fmt.Errorf("block %d has a hash of %d bytes, want %d", req.Height, len(req.Hash), len(b.Seed))
	}
	for _, v := range req.DecidedLastCommit.Votes {
		if v.BlockIdFlag == cmtproto.BlockIDFlagCommit {
			b.Signed = append(b.Signed, addressOf(v.Validator.Address))
		}
	}
	for _, m := range req.Misbehavior {
		b.Faulty = append(b.Faulty, addressOf(m.Validator.Address))
	}
	return b, nil
}

// storedBlock is the same, from what the engine has stored.
func storedBlock(b *types.Block) ledger.Block {
	out := ledger.Block{Seed: [32]byte(b.Hash()), Txs: b.Txs.ToSliceOfBytes()}
	if b.LastCommit != nil {
		for _, s := range b.LastCommit.Signatures {
			if s.BlockIDFlag == types.BlockIDFlagCommit {
				out.Signed = append(out.Signed, addressOf(s.ValidatorAddress))
			}
		}
	}
	for _, m := range b.Evidence.Evidence.ToABCI() {
		out.Faulty = append(out.Faulty, addressOf(m.Validator.Address))
	}
	return out
}

// addressOf takes over an address; one of another length, which the engine never gives, is
// nobody's.
func addressOf(b []byte) (a ledger.ValidatorAddress) {
	if len(b) == len(a) {
		copy(a[:], b)
	}
	return a
}

// ownKey is this node's validator key, whether it is in the set or not.
func (n *Node) ownKey() ledger.Key {
	return ledger.KeyOf(ed25519.PublicKey(n.validator.Key.PubKey.Bytes()))
}

// isValidator says whether this node's key is in the set.
func (n *Node) isValidator() (is bool) {
	own := n.ownKey()
	n.book.read(func(s *ledger.State) { is = s.IsValidator(own) })
	return is
}

// validators returns the set with names for people: those of the genesis document, and of
// later ones the beginning of their household's id.
func (n *Node) validators() []ValidatorStatus {
	names := map[string]string{}
	for _, v := range n.doc.Validators {
		names[v.Address.String()] = v.Name
	}
	own := n.ownKey()
	var out []ValidatorStatus
	n.book.read(func(s *ledger.State) {
		for _, v := range s.Validators() {
			address := ledger.AddressOf(v.Key)
			text := strings.ToUpper(hex.EncodeToString(address[:]))
			name, ok := names[text]
			if !ok {
				name = "household " + v.Household.String()[:8]
			}
			out = append(out, ValidatorStatus{Name: name, Address: text, Power: v.Power, Self: v.Key == own})
		}
	})
	return out
}

// doubleVoted are the validators that signed two blocks of one height.
func (n *Node) doubleVoted() (all []DoubleVote) {
	names := genesisNames(n.doc)
	n.book.read(func(s *ledger.State) {
		for _, v := range s.Faulty() {
			a := ledger.AddressOf(v.Key)
			d := DoubleVote{Name: names[a], Address: addressText(a), Household: v.Household, Struck: v.Fault == ledger.FaultStruck}
			if d.Name == "" {
				d.Name = "household " + v.Household.String()[:8]
			}
			all = append(all, d)
		}
	})
	return all
}

// ProveValidatorKey signs, with a validator key file, that the key agrees to be given a
// vote: what goes into SetValidator.Possession. It signs nothing else.
func ProveValidatorKey(keyFile, chainID string, s ledger.SetValidator) (possession []byte, err error) {
	key, err := loadKey(keyFile)
	if err != nil {
		return nil, err
	}
	if pub := ledger.KeyOf(ed25519.PublicKey(key.PubKey.Bytes())); pub != s.Key {
		return nil, fmt.Errorf("%s holds key %s, want %s", keyFile, pub, s.Key)
	}
	return key.PrivKey.Sign(s.PossessionBytes(chainID))
}
