package joining

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/commonwatt/commonwatt/agent/paper"
	"github.com/commonwatt/commonwatt/market"
)

// SharePrefix begins the text of a share.
const SharePrefix = "commonwatt-share"

const (
	shareVersion  = 1
	shareLabel    = 4 // bytes of the household's id in words
	shareWordBits = 8 * (shareLabel + 1 + 32)
	shareBytes    = 1 + hashBytes + len(market.HouseholdID{}) + 2 + 32
)

// ShareWordCount is how many words a share has.
var ShareWordCount = paper.WordCount(shareWordBits)

// Share is one part of a household's key, as somebody else keeps it. It says whose it is,
// and nothing about the key.
type Share struct {
	paper.Share
	Label   []byte          // the first bytes of the household's id; all of them in a text
	Genesis [hashBytes]byte // the first bytes of the genesis hash; all zero in words
}

// Text writes the share as letters.
func (s *Share) Text() string {
	var b bytes.Buffer
	b.WriteByte(shareVersion)
	b.Write(s.Genesis[:])
	b.Write(s.Label)
	b.Write([]byte{s.Number, s.Need})
	b.Write(s.Value[:])
	return paper.Letters(SharePrefix, b.Bytes())
}

// Words writes what can be written down by hand.
func (s *Share) Words() []string {
	b := append([]byte(nil), s.Label[:shareLabel]...)
	b = append(b, (s.Number-1)<<4|s.Need-1)
	return paper.EncodeWords(append(b, s.Value[:]...), shareWordBits)
}

// ParseShare reads a share from its text or its words.
func ParseShare(text string) (*Share, error) {
	s := new(Share)
	if LooksLikeText(text) || paper.HasPrefix(SharePrefix, text) {
		raw, err := paper.ReadLetters(SharePrefix, text)
		if err != nil {
			return nil, err
		}
		if len(raw) != shareBytes || raw[0] != shareVersion {
			return nil, errors.New("a share of another version: one of the two programs is too old")
		}
		raw = raw[1:]
		copy(s.Genesis[:], raw)
		id := len(market.HouseholdID{})
		s.Label, raw = raw[hashBytes:hashBytes+id], raw[hashBytes+id:]
		s.Number, s.Need = raw[0], raw[1]
		copy(s.Value[:], raw[2:])
		return s, nil
	}
	raw, err := paper.DecodeWords(paper.SplitWords(text), shareWordBits)
	if err != nil {
		return nil, err
	}
	s.Label = raw[:shareLabel]
	s.Number, s.Need = raw[shareLabel]>>4+1, raw[shareLabel]&15+1
	copy(s.Value[:], raw[shareLabel+1:])
	return s, nil
}

// Combine finds the seed of the household's key, and checks that it is the one that the
// shares are labelled with.
func Combine(shares []*Share, household func(seed [32]byte) market.HouseholdID) (seed [32]byte, err error) {
	parts := make([]paper.Share, len(shares))
	for i, s := range shares {
		if n := min(len(s.Label), len(shares[0].Label)); !bytes.Equal(s.Label[:n], shares[0].Label[:n]) {
			return seed, fmt.Errorf("%w: share %d is of household %x, share %d of household %x",
				paper.ErrShares, shares[0].Number, shares[0].Label[:shareLabel], s.Number, s.Label[:shareLabel])
		}
		parts[i] = s.Share
	}
	if seed, err = paper.Combine(parts); err != nil {
		return seed, err
	}
	id := household(seed)
	for _, s := range shares {
		if !bytes.Equal(s.Label, id[:len(s.Label)]) {
			return seed, fmt.Errorf("%w: they do not give the key of household %x...: they were made at different times, or one is of something else", paper.ErrShares, shares[0].Label[:shareLabel])
		}
	}
	return seed, nil
}
