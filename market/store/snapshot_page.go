package store

import (
	"bytes"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/commonwatt/commonwatt/market"
)

// Part is a part of the history.
type Part uint8

// The parts, in the order in which they are fetched: each is proven by what came before.
const (
	// PartMonths are the closed months, all of them: the household's record proves them.
	PartMonths Part = 1
	// PartResults are what Intervals came to as a whole: the clock's record proves them.
	PartResults Part = 2
	// PartSettlements are the lines of one month: the months prove them.
	PartSettlements Part = 3
)

// String returns the part's name.
func (p Part) String() string {
	switch p {
	case PartMonths:
		return "months"
	case PartResults:
		return "results"
	case PartSettlements:
		return "settlements"
	default:
		return fmt.Sprintf("part-%d", uint8(p))
	}
}

// Want asks for the next page of a part of the history, as it was after a block.
type Want struct {
	_      struct{} `cbor:",toarray"`
	Height int64
	Part   Part
	Month  market.Month // of PartSettlements, else 0
	After  []byte       // the last key that is known; empty: none
}

// Page is a part of a part. Its lines are in the order of their keys.
type Page struct {
	_      struct{}     `cbor:",toarray"`
	Pruned market.Month // newest month whose lines this machine does not keep
	Lines  []Line
	More   bool // there are lines behind these
}

// Line is one value of the history, without the height of its block: no hash covers that.
type Line struct {
	_     struct{} `cbor:",toarray"`
	Key   []byte
	Value []byte
}

const (
	// MaxPageBytes bounds an encoded Page.
	MaxPageBytes = 3 * ChunkBytes
	// maxLineBytes bounds a line. The longest are the results of a network with very
	// many nodes.
	maxLineBytes = 2 * ChunkBytes
	maxPageLines = 4096
	lineOverhead = 16 // what the encoding of a line may cost, and its place in the page
)

// Encode gives the page's only spelling.
func (p *Page) Encode() []byte { return encode(p) }

// DecodePage reads what Encode gave. Whether the lines are what was asked for is for
// Joining.Add to say. The error wraps ErrSnapshot.
func DecodePage(raw []byte) (*Page, error) {
	p := new(Page)
	if len(raw) > MaxPageBytes {
		return nil, fmt.Errorf("%w: page: %d bytes, want at most %d", ErrSnapshot, len(raw), MaxPageBytes)
	}
	if err := decode(raw, p); err != nil {
		return nil, fmt.Errorf("%w: page: %w", ErrSnapshot, err)
	}
	switch {
	case p.Pruned < 0:
		return nil, fmt.Errorf("%w: page: pruned: got %d, want a month", ErrSnapshot, p.Pruned)
	case len(p.Lines) > maxPageLines:
		return nil, fmt.Errorf("%w: page: %d lines, want at most %d", ErrSnapshot, len(p.Lines), maxPageLines)
	case p.More && len(p.Lines) == 0:
		return nil, fmt.Errorf("%w: page: it has no lines, but says that there are more", ErrSnapshot)
	}
	return p, nil
}

// validate says whether a question can be answered at all.
func (w *Want) validate() error {
	keyBytes := historyKeyBytes
	if w.Part == PartMonths {
		keyBytes = monthKeyBytes
	}
	switch {
	case w.Part < PartMonths || w.Part > PartSettlements:
		return fmt.Errorf("%w: part %d, want %d to %d", ErrNoSnapshot, w.Part, PartMonths, PartSettlements)
	case (w.Part == PartSettlements) != (w.Month != 0) || w.Month < 0:
		return fmt.Errorf("%w: month %d of %s", ErrNoSnapshot, w.Month, w.Part)
	case len(w.After) != 0 && len(w.After) != keyBytes:
		return fmt.Errorf("%w: a key of %d bytes, want %d", ErrNoSnapshot, len(w.After), keyBytes)
	}
	return nil
}

// Page reads the page that is asked for. Lines that are younger than the block are left
// out, so that the pages of one Height are of one state; the lines of a month that has been
// pruned are not there, and Pruned says so.
func (s *Store) Page(w Want) (*Page, error) {
	if err := w.validate(); err != nil {
		return nil, err
	}
	p := new(Page)
	err := s.view(func(tx *bolt.Tx) error {
		height, err := loadHeight(tx)
		if err != nil {
			return err
		}
		if w.Height > height || w.Height < 1 {
			return fmt.Errorf("%w: block %d, the ledger is at %d", ErrNoSnapshot, w.Height, height)
		}
		if p.Pruned, err = pruned(tx); err != nil {
			return err
		}
		r := pageReader{page: p, height: w.Height}
		switch w.Part {
		case PartMonths:
			return r.read(tx, bucketMonths, w.After, nil, func([]byte) bool { return true })
		case PartResults:
			return r.results(tx, w.After)
		case PartSettlements:
			if w.Month <= p.Pruned {
				return nil
			}
			from, end := s.state.Calendar().OfMonth(w.Month, s.state.Zone())
			after := w.After
			if first := historyKey(max(from, 0), market.HouseholdID{}, 0); bytes.Compare(after, first) < 0 {
				after = first
			}
			return r.read(tx, bucketHistory, after, historyKey(max(end, 0), market.HouseholdID{}, 0), func(key []byte) bool {
				_, h, _ := splitHistoryKey(key)
				return h != market.HouseholdID{}
			})
		default:
			return fmt.Errorf("%w: part %d", ErrNoSnapshot, w.Part) // validate has refused it
		}
	})
	if err != nil {
		return nil, fmt.Errorf("reading a page of %s: %w", w.Part, err)
	}
	return p, nil
}

// pageReader fills a page.
type pageReader struct {
	page   *Page
	height int64
	bytes  int
}

// read takes the lines behind a key and before end that are of the part.
func (r *pageReader) read(tx *bolt.Tx, bucket, after, end []byte, of func(key []byte) bool) error {
	c := tx.Bucket(bucket).Cursor()
	key, v := c.Seek(after)
	if bytes.Equal(key, after) {
		key, v = c.Next()
	}
	for ; key != nil && (end == nil || bytes.Compare(key, end) < 0); key, v = c.Next() {
		if !of(key) {
			continue
		}
		raw, wrong := unseal(bucket, key, v)
		if wrong != "" {
			return damaged(bucket, key, wrong)
		}
		if full, err := r.add(bucket, key, raw); full || err != nil {
			return err
		}
	}
	return nil
}

// results takes those behind a key. They are among the settlements, which seek skips.
func (r *pageReader) results(tx *bolt.Tx, after []byte) error {
	next := historyKey(0, market.HouseholdID{}, 0)
	if len(after) > 0 {
		k, _, _ := splitHistoryKey(after)
		next = historyKey(k+1, market.HouseholdID{}, 0)
	}
	for next != nil {
		entries, rest, err := seek(tx, market.HouseholdID{}, next)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if full, err := r.add(bucketHistory, e.key, e.value); full || err != nil {
				return err
			}
		}
		next = rest
	}
	return nil
}

// add takes a line unless it is too young, or says that there is no more room.
func (r *pageReader) add(bucket, key, value []byte) (full bool, err error) {
	height, encoded, err := splitHeight(value)
	if err != nil {
		return false, damaged(bucket, key, err.Error())
	}
	if height > r.height {
		return false, nil
	}
	size := len(key) + len(encoded) + lineOverhead
	if n := len(r.page.Lines); n == maxPageLines || n > 0 && r.bytes+size > ChunkBytes {
		r.page.More = true
		return true, nil
	}
	if len(encoded) > maxLineBytes {
		return false, fmt.Errorf("%s has %d bytes, want at most %d", keyText(bucket, key), len(encoded), maxLineBytes)
	}
	r.bytes += size
	r.page.Lines = append(r.page.Lines, Line{Key: bytes.Clone(key), Value: encoded})
	return false, nil
}
