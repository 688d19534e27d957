package consensus

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/cometbft/cometbft/types"
)

// A SignedHeader is a block's header with the signatures of those who committed it: what a
// machine that has no block can hold on to. The header of a block has the AppHash after the
// block before it, so that one SignedHeader proves a state (see Anchor.Check).
//
// Its JSON names everything in words and leaves nothing out, so that each digit of it
// counts: a changed one is either another header or a wrong signature.
type SignedHeader struct {
	Header Header `json:"header"`
	Commit Commit `json:"commit"`
	// Changes lead from the genesis document's validators to those of this block; none if
	// nothing has changed before it.
	Changes []Change `json:"changes,omitempty"`
}

// Header is a block's header. Its hash is the block's.
type Header struct {
	VersionBlock       uint64  `json:"version_block"`
	VersionApp         uint64  `json:"version_app"`
	ChainID            string  `json:"chain_id"`
	Height             int64   `json:"height"`
	Time               Instant `json:"time"` // of earlier votes, stale after idling: for people only
	LastBlock          BlockID `json:"last_block"`
	LastCommitHash     Hash    `json:"last_commit_hash"`
	DataHash           Hash    `json:"data_hash"`
	ValidatorsHash     Hash    `json:"validators_hash"`
	NextValidatorsHash Hash    `json:"next_validators_hash"`
	ConsensusHash      Hash    `json:"consensus_hash"`
	AppHash            Hash    `json:"app_hash"` // after the block before
	LastResultsHash    Hash    `json:"last_results_hash"`
	EvidenceHash       Hash    `json:"evidence_hash"`
	Proposer           Hash    `json:"proposer"`
}

// BlockID names a block: the hash of its header, and that of the parts it is sent in.
type BlockID struct {
	Hash      Hash   `json:"hash"`
	Parts     uint32 `json:"parts"`
	PartsHash Hash   `json:"parts_hash"`
}

// Commit is what the validators signed.
type Commit struct {
	Height int64   `json:"height"`
	Round  int32   `json:"round"`
	Block  BlockID `json:"block"`
	Votes  []Vote  `json:"votes"` // one for each validator, in the order of their set
}

// A Vote is one validator's part in a Commit.
type Vote struct {
	Validator Hash     `json:"validator"` // its address
	For       string   `json:"for"`       // "block", "nil" (it voted for none), "absent"
	Time      *Instant `json:"time,omitempty"`
	Signature Hash     `json:"signature,omitempty"`
}

// The ways to vote.
const (
	voteBlock  = "block"
	voteNil    = "nil"
	voteAbsent = "absent"
)

// Hash is bytes whose text is lower-case hexadecimal and nothing else.
type Hash []byte

// String returns the hexadecimal form.
func (h Hash) String() string { return hex.EncodeToString(h) }

// upper is the form in which the engine writes addresses.
func (h Hash) upper() string { return strings.ToUpper(h.String()) }

// MarshalText gives the hexadecimal form.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText gave.
func (h *Hash) UnmarshalText(text []byte) error {
	for i, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return fmt.Errorf("hexadecimal %q: character %d is %q, want 0-9 or a-f", shorten(text), i+1, c)
		}
	}
	raw, err := hex.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("hexadecimal %q: %w", shorten(text), err)
	}
	if len(raw) == 0 {
		raw = nil // as the engine has it
	}
	*h = raw
	return nil
}

func shorten(text []byte) string {
	if len(text) > 100 {
		return string(text[:100]) + "..."
	}
	return string(text)
}

// Instant is a time in UTC whose text is RFC 3339 with as many digits as it needs.
type Instant struct{ time.Time }

// MarshalText gives the text.
func (i Instant) MarshalText() ([]byte, error) {
	return []byte(i.UTC().Format(time.RFC3339Nano)), nil
}

// UnmarshalText reads what MarshalText gave, and nothing else: one time has one text.
func (i *Instant) UnmarshalText(text []byte) error {
	t, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return fmt.Errorf("time %q: want the form %s", shorten(text), time.RFC3339Nano)
	}
	if again := t.UTC().Format(time.RFC3339Nano); again != string(text) {
		return fmt.Errorf("time %q: want it written %s", shorten(text), again)
	}
	*i = Instant{t.UTC()}
	return nil
}

func blockID(b types.BlockID) BlockID {
	return BlockID{Hash: Hash(b.Hash), Parts: b.PartSetHeader.Total, PartsHash: Hash(b.PartSetHeader.Hash)}
}

func (b BlockID) engine() types.BlockID {
	return types.BlockID{Hash: []byte(b.Hash), PartSetHeader: types.PartSetHeader{Total: b.Parts, Hash: []byte(b.PartsHash)}}
}

// NewSignedHeader takes over what the engine stored; set are the validators of that height.
func NewSignedHeader(h types.Header, c *types.Commit, set *types.ValidatorSet) (*SignedHeader, error) {
	if set.Size() != len(c.Signatures) {
		return nil, fmt.Errorf("%w: signatures on block %d: there are %d, want one for each of %d validators",
			ErrCorrupt, h.Height, len(c.Signatures), set.Size())
	}
	s := &SignedHeader{
		Header: Header{
			VersionBlock: h.Version.Block, VersionApp: h.Version.App, ChainID: h.ChainID, Height: h.Height,
			Time: Instant{h.Time.UTC()}, LastBlock: blockID(h.LastBlockID),
			LastCommitHash: Hash(h.LastCommitHash), DataHash: Hash(h.DataHash),
			ValidatorsHash: Hash(h.ValidatorsHash), NextValidatorsHash: Hash(h.NextValidatorsHash),
			ConsensusHash: Hash(h.ConsensusHash), AppHash: Hash(h.AppHash), LastResultsHash: Hash(h.LastResultsHash),
			EvidenceHash: Hash(h.EvidenceHash), Proposer: Hash(h.ProposerAddress),
		},
		Commit: Commit{Height: c.Height, Round: c.Round, Block: blockID(c.BlockID)},
	}
	for i, v := range c.Signatures {
		address, _ := set.GetByIndex(int32(i))
		out := Vote{Validator: Hash(address), Signature: Hash(v.Signature)}
		switch v.BlockIDFlag {
		case types.BlockIDFlagCommit:
			out.For = voteBlock
		case types.BlockIDFlagNil:
			out.For = voteNil
		case types.BlockIDFlagAbsent:
			out.For = voteAbsent
		default:
			return nil, fmt.Errorf("%w: signatures on block %d: vote %d has flag %d", ErrCorrupt, h.Height, i, v.BlockIDFlag)
		}
		if out.For != voteAbsent {
			out.Time = &Instant{v.Timestamp.UTC()}
		}
		s.Commit.Votes = append(s.Commit.Votes, out)
	}
	return s, nil
}

// engine gives the header back as the engine has it.
func (h Header) engine() types.Header {
	out := types.Header{
		ChainID: h.ChainID, Height: h.Height, Time: h.Time.Time, LastBlockID: h.LastBlock.engine(),
		LastCommitHash: []byte(h.LastCommitHash), DataHash: []byte(h.DataHash),
		ValidatorsHash: []byte(h.ValidatorsHash), NextValidatorsHash: []byte(h.NextValidatorsHash),
		ConsensusHash: []byte(h.ConsensusHash), AppHash: []byte(h.AppHash), LastResultsHash: []byte(h.LastResultsHash),
		EvidenceHash: []byte(h.EvidenceHash), ProposerAddress: []byte(h.Proposer),
	}
	out.Version.Block, out.Version.App = h.VersionBlock, h.VersionApp
	return out
}

// engine gives the commit back as the engine has it. Each vote is checked for its form.
func (c Commit) engine() (*types.Commit, error) {
	out := &types.Commit{Height: c.Height, Round: c.Round, BlockID: c.Block.engine()}
	for i, v := range c.Votes {
		var sig types.CommitSig
		switch v.For {
		case voteAbsent:
			if v.Time != nil || len(v.Signature) != 0 {
				return nil, fmt.Errorf("%w: commit.votes[%d] is absent, but has a time or a signature", ErrSignature, i)
			}
			out.Signatures = append(out.Signatures, types.NewCommitSigAbsent())
			continue
		case voteBlock:
			sig.BlockIDFlag = types.BlockIDFlagCommit
		case voteNil:
			sig.BlockIDFlag = types.BlockIDFlagNil
		default:
			return nil, fmt.Errorf("%w: commit.votes[%d].for: got %q, want %q, %q or %q", ErrSignature, i, v.For, voteBlock, voteNil, voteAbsent)
		}
		if v.Time == nil {
			return nil, fmt.Errorf("%w: commit.votes[%d] has no time", ErrSignature, i)
		}
		sig.ValidatorAddress, sig.Timestamp, sig.Signature = []byte(v.Validator), v.Time.Time, []byte(v.Signature)
		out.Signatures = append(out.Signatures, sig)
	}
	return out, nil
}

// Signed says whether the validator signed the block.
func (v Vote) Signed() bool { return v.For == voteBlock }
