package consensus

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/cometbft/cometbft/types"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// GenesisHash names a community for those who check from outside: SHA-256 of its genesis
// document without the white space between its tokens. It says who the validators are, so
// whoever has it from somebody they trust needs to trust nobody else.
func GenesisHash(raw []byte) ([32]byte, error) {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return [32]byte{}, fmt.Errorf("%w: %w", ErrGenesis, err)
	}
	return sha256.Sum256(b.Bytes()), nil
}

// An Anchor is what a check without a node starts from: a genesis document whose hash is
// trusted. It is immutable.
type Anchor struct {
	chainID string
	genesis ledger.Genesis
	hash    [32]byte
	set     *types.ValidatorSet
}

// NewAnchor reads a genesis document. Whether its hash is the trusted one is for the caller
// to say, with GenesisHash.
func NewAnchor(genesis []byte) (*Anchor, error) {
	doc, g, err := parseGenesis(genesis)
	if err != nil {
		return nil, err
	}
	hash, err := GenesisHash(genesis)
	if err != nil {
		return nil, err
	}
	return &Anchor{chainID: doc.ChainID, genesis: g, hash: hash, set: validatorsOf(doc)}, nil
}

// validatorsOf are the validators, those of the genesis document for ever in this version.
func validatorsOf(doc *types.GenesisDoc) *types.ValidatorSet {
	all := make([]*types.Validator, len(doc.Validators))
	for i, v := range doc.Validators {
		all[i] = types.NewValidator(v.PubKey, v.Power)
	}
	return types.NewValidatorSet(all)
}

// ChainID returns the chain's name.
func (a *Anchor) ChainID() string { return a.chainID }

// Genesis returns what the ledger started from.
func (a *Anchor) Genesis() ledger.Genesis { return a.genesis }

// Hash returns the genesis document's GenesisHash.
func (a *Anchor) Hash() [32]byte { return a.hash }

// Check proves a header: that it is of this chain, that its validators are the chain's, that
// what was signed is this header, and that more than two thirds of them signed. Every
// signature that is there is checked, also those beyond two thirds. The error wraps
// ErrHeader or ErrSignature and names the field.
func (a *Anchor) Check(s *SignedHeader) error {
	h := s.Header
	switch {
	case h.ChainID != a.chainID:
		return fmt.Errorf("%w: header.chain_id: got %q, the genesis document says %q", ErrHeader, h.ChainID, a.chainID)
	case h.Height < 1:
		return fmt.Errorf("%w: header.height: got %d, want 1 or more", ErrHeader, h.Height)
	case !bytes.Equal(h.ValidatorsHash, a.set.Hash()):
		return fmt.Errorf("%w: header.validators_hash: got %s, the validators of the genesis document hash to %s",
			ErrHeader, h.ValidatorsHash, hex.EncodeToString(a.set.Hash()))
	case s.Commit.Height != h.Height:
		return fmt.Errorf("%w: commit.height: got %d, want the header's %d", ErrHeader, s.Commit.Height, h.Height)
	}
	header := h.engine()
	if err := header.ValidateBasic(); err != nil {
		return fmt.Errorf("%w: header: %w", ErrHeader, err)
	}
	if hash := header.Hash(); !bytes.Equal(hash, s.Commit.Block.Hash) {
		return fmt.Errorf("%w: the header hashes to %s, the validators signed %s: a field of the header or commit.block.hash has been changed",
			ErrHeader, hex.EncodeToString(hash), s.Commit.Block.Hash)
	}
	return a.checkCommit(s)
}

func (a *Anchor) checkCommit(s *SignedHeader) error {
	if got, want := len(s.Commit.Votes), a.set.Size(); got != want {
		return fmt.Errorf("%w: commit.votes: got %d, want one for each of the %d validators", ErrSignature, got, want)
	}
	commit, err := s.Commit.engine()
	if err != nil {
		return err
	}
	if err := commit.ValidateBasic(); err != nil {
		return fmt.Errorf("%w: commit: %w", ErrSignature, err)
	}
	// Each by itself first, so that the one that is wrong is named.
	var have, all int64
	for i, v := range s.Commit.Votes {
		address, validator := a.set.GetByIndex(int32(i))
		all += validator.VotingPower
		if !bytes.Equal(address, v.Validator) {
			return fmt.Errorf("%w: commit.votes[%d].validator: got %s, validator %d of the genesis document is %s",
				ErrSignature, i, v.Validator, i, hex.EncodeToString(address))
		}
		if v.For == voteAbsent {
			continue
		}
		if !validator.PubKey.VerifySignature(commit.VoteSignBytes(a.chainID, int32(i)), v.Signature) {
			return fmt.Errorf("%w: commit.votes[%d]: the signature is not that of validator %s on this block, round and time",
				ErrSignature, i, v.Validator)
		}
		if v.For == voteBlock {
			have += validator.VotingPower
		}
	}
	if 3*have <= 2*all { // bounded by types.MaxTotalVotingPower, an eighth of what fits
		return fmt.Errorf("%w: commit.votes: validators with %d of %d votes signed the block, want more than two thirds", ErrSignature, have, all)
	}
	if err := a.set.VerifyCommit(a.chainID, commit.BlockID, s.Header.Height, commit); err != nil { // the engine's own word on it
		return fmt.Errorf("%w: commit: %w", ErrSignature, err)
	}
	return nil
}
