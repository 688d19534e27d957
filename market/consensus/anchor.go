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
	first := make([]ledger.Key, len(g.Validators))
	for i, v := range g.Validators {
		first[i] = v.Key
	}
	return &Anchor{chainID: doc.ChainID, genesis: g, hash: hash, set: engineSet(first)}, nil
}

// ChainID returns the chain's name.
func (a *Anchor) ChainID() string { return a.chainID }

// Genesis returns what the ledger started from.
func (a *Anchor) Genesis() ledger.Genesis { return a.genesis }

// Hash returns the genesis document's GenesisHash.
func (a *Anchor) Hash() [32]byte { return a.hash }

// Check proves a header: that it is of this chain, that its validators are the chain's, that
// what was signed is this header, and that more than two thirds of them signed. Every
// signature that is there is checked, also those beyond two thirds. Who the validators are
// follows from the genesis document and from Changes, each of which those before it signed.
// The error wraps ErrHeader or ErrSignature and names the field.
func (a *Anchor) Check(s *SignedHeader) error {
	set, err := a.follow(s.Changes)
	if err != nil {
		return err
	}
	if n := len(s.Changes); n > 0 && s.Changes[n-1].Header.Height >= s.Header.Height {
		return fmt.Errorf("%w: changes[%d]: header.height: got %d, want less than %d, of the block that is proven",
			ErrHeader, n-1, s.Changes[n-1].Header.Height, s.Header.Height)
	}
	return a.check("", s.Header, s.Commit, set)
}

// follow returns the validators to whom changes lead.
func (a *Anchor) follow(way []Change) (*types.ValidatorSet, error) {
	if len(way) > MaxChanges {
		return nil, fmt.Errorf("%w: changes: got %d, want at most %d", ErrHeader, len(way), MaxChanges)
	}
	set, last := a.set, int64(0)
	for i, c := range way {
		place := fmt.Sprintf("changes[%d]: ", i)
		if c.Header.Height <= last {
			return nil, fmt.Errorf("%w: %sheader.height: got %d, want more than %d, of the change before", ErrHeader, place, c.Header.Height, last)
		}
		if err := a.check(place, c.Header, c.Commit, set); err != nil {
			return nil, err
		}
		if err := sortedSet(c.Next); err != nil {
			return nil, fmt.Errorf("%w: %snext: %w", ErrHeader, place, err)
		}
		next := engineSet(c.Next)
		if !bytes.Equal(next.Hash(), c.Header.NextValidatorsHash) {
			return nil, fmt.Errorf("%w: %snext: the keys hash to %s, the header says %s: one of them has been changed",
				ErrHeader, place, hex.EncodeToString(next.Hash()), c.Header.NextValidatorsHash)
		}
		if bytes.Equal(next.Hash(), set.Hash()) {
			return nil, fmt.Errorf("%w: %snext: is the set that it was before", ErrHeader, place)
		}
		set, last = next, c.Header.Height
	}
	return set, nil
}

// check proves one header against the validators of its block; place begins its errors.
func (a *Anchor) check(place string, h Header, c Commit, set *types.ValidatorSet) error {
	switch {
	case h.ChainID != a.chainID:
		return fmt.Errorf("%w: %sheader.chain_id: got %q, the genesis document says %q", ErrHeader, place, h.ChainID, a.chainID)
	case h.Height < 1:
		return fmt.Errorf("%w: %sheader.height: got %d, want 1 or more", ErrHeader, place, h.Height)
	case !bytes.Equal(h.ValidatorsHash, set.Hash()):
		return fmt.Errorf("%w: %sheader.validators_hash: got %s, the validators of that block hash to %s, by the genesis document and the changes that are there",
			ErrHeader, place, h.ValidatorsHash, hex.EncodeToString(set.Hash()))
	case c.Height != h.Height:
		return fmt.Errorf("%w: %scommit.height: got %d, want the header's %d", ErrHeader, place, c.Height, h.Height)
	}
	header := h.engine()
	if err := header.ValidateBasic(); err != nil {
		return fmt.Errorf("%w: %sheader: %w", ErrHeader, place, err)
	}
	if hash := header.Hash(); !bytes.Equal(hash, c.Block.Hash) {
		return fmt.Errorf("%w: %sthe header hashes to %s, the validators signed %s: a field of the header or commit.block.hash has been changed",
			ErrHeader, place, hex.EncodeToString(hash), c.Block.Hash)
	}
	return a.checkCommit(place, c, set)
}

func (a *Anchor) checkCommit(place string, c Commit, set *types.ValidatorSet) error {
	if got, want := len(c.Votes), set.Size(); got != want {
		return fmt.Errorf("%w: %scommit.votes: got %d, want one for each of the %d validators", ErrSignature, place, got, want)
	}
	commit, err := c.engine()
	if err != nil {
		return fmt.Errorf("%w%s", err, in(place))
	}
	if err := commit.ValidateBasic(); err != nil {
		return fmt.Errorf("%w: %scommit: %w", ErrSignature, place, err)
	}
	// Each by itself first, so that the one that is wrong is named.
	have := 0
	for i, v := range c.Votes {
		address, validator := set.GetByIndex(int32(i))
		if !bytes.Equal(address, v.Validator) {
			return fmt.Errorf("%w: %scommit.votes[%d].validator: got %s, validator %d of that block is %s",
				ErrSignature, place, i, v.Validator, i, hex.EncodeToString(address))
		}
		if v.For == voteAbsent {
			continue
		}
		if !validator.PubKey.VerifySignature(commit.VoteSignBytes(a.chainID, int32(i)), v.Signature) {
			return fmt.Errorf("%w: %scommit.votes[%d]: the signature is not that of validator %s on this block, round and time",
				ErrSignature, place, i, v.Validator)
		}
		if v.For == voteBlock {
			have++
		}
	}
	if have < quorum(len(c.Votes)) {
		return fmt.Errorf("%w: %scommit.votes: %d of %d validators signed the block, want more than two thirds", ErrSignature, place, have, len(c.Votes))
	}
	if err := set.VerifyCommit(a.chainID, commit.BlockID, c.Height, commit); err != nil { // the engine's own word on it
		return fmt.Errorf("%w: %scommit: %w", ErrSignature, place, err)
	}
	return nil
}

// in names the place behind an error that begins with another.
func in(place string) string {
	if place == "" {
		return ""
	}
	return " in " + place[:len(place)-2]
}
