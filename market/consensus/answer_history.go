package consensus

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// ErrNotHousehold says that whoever asks for its own settlements belongs to no household.
var ErrNotHousehold = errors.New("this network key belongs to no household")

// LinesQuestion asks for the settlements of the asker's own household. Others' are nobody's
// business but a replica's.
type LinesQuestion struct {
	_     struct{} `cbor:",toarray"`
	Month market.Month
	After uint64 // those with higher numbers
}

// LinesAnswer has them in the order of their numbers.
type LinesAnswer struct {
	_      struct{} `cbor:",toarray"`
	Height int64    // how far the ledger was
	Pruned bool     // the month's lines are kept no more
	More   bool     // there are more behind them
	Lines  [][]byte // ledger.Settlement.Encode
}

// MonthsQuestion asks for the closed months of the asker's own household.
type MonthsQuestion struct {
	_ struct{} `cbor:",toarray"`
}

// MonthsAnswer has them, oldest first.
type MonthsAnswer struct {
	_      struct{} `cbor:",toarray"`
	Months [][]byte // ledger.Month.Encode
}

// ResultsQuestion asks for results of the market.
type ResultsQuestion struct {
	_     struct{} `cbor:",toarray"`
	After uint64   // those with higher numbers
}

// ResultsAnswer has them in the order of their numbers. Chain is the hash chain over those
// before the first: with the results it must come to the clock's, and no two can.
type ResultsAnswer struct {
	_       struct{} `cbor:",toarray"`
	Height  int64
	Chain   [32]byte
	More    bool
	Results [][]byte // ledger.MarketResult.Encode
}

// householdOf finds the household that a network key belongs to.
func (n *Node) householdOf(network ed25519.PublicKey) (id market.HouseholdID, err error) {
	ok := false
	n.book.read(func(s *ledger.State) { id, ok = s.HouseholdByNetwork(network) })
	if !ok {
		return id, ErrNotHousehold
	}
	return id, nil
}

func answerLines(_ context.Context, n *Node, from ed25519.PublicKey, q *LinesQuestion) (*LinesAnswer, error) {
	id, err := n.householdOf(from)
	if err != nil {
		return nil, err
	}
	if q.Month < 0 {
		return nil, fmt.Errorf("%w: month %d, want 0 or more", ErrQuestion, q.Month)
	}
	a := &LinesAnswer{}
	var first, end market.Interval
	n.book.read(func(s *ledger.State) {
		a.Height = n.book.height
		first, end = s.Calendar().OfMonth(q.Month, s.Zone())
	})
	if !n.book.open() {
		return nil, ErrClosed
	}
	pruned, err := n.book.store.Pruned()
	if err != nil {
		return nil, err
	}
	if a.Pruned = q.Month <= pruned; a.Pruned {
		return a, nil
	}
	var lines []*ledger.Settlement
	err = n.book.store.Settlements(id, first, func(s *ledger.Settlement) bool {
		if s.Interval < end && s.Number > q.After {
			lines = append(lines, s)
		}
		return s.Interval < end
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(lines, func(x, y *ledger.Settlement) int { return cmp.Compare(x.Number, y.Number) })
	size := 0
	for _, s := range lines {
		raw := s.Encode()
		if size += len(raw); size > pageBytes {
			a.More = true
			break
		}
		a.Lines = append(a.Lines, raw)
	}
	return a, nil
}

func answerMonths(_ context.Context, n *Node, from ed25519.PublicKey, _ *MonthsQuestion) (*MonthsAnswer, error) {
	id, err := n.householdOf(from)
	if err != nil {
		return nil, err
	}
	months, err := n.Months(id)
	if err != nil {
		return nil, err
	}
	a := &MonthsAnswer{}
	for i := range months {
		a.Months = append(a.Months, months[i].Encode())
	}
	return a, nil
}

func answerResults(_ context.Context, n *Node, _ ed25519.PublicKey, q *ResultsQuestion) (*ResultsAnswer, error) {
	if !n.book.open() {
		return nil, ErrClosed
	}
	return n.results.answer(n, q)
}

// keptResults is how many of the newest results are at hand for those who ask.
const keptResults = 512

// resultChain has the newest results in the order of their numbers, each with the hash
// chain over those before it, which is not stored anywhere. It is read when somebody asks.
type resultChain struct {
	mu      sync.Mutex
	chain   [32]byte // over all numbers before next
	next    uint64   // the number whose turn it is; 0: nothing was read yet
	from    market.Interval
	waiting map[uint64][]byte // numbers whose turn has not come
	kept    []linkedResult
}

type linkedResult struct {
	number  uint64
	before  [32]byte
	encoded []byte
}

// maxAhead bounds the results that wait for their turn: intervals that were settled before
// an older one was.
const maxAhead = 1 << 12

func (c *resultChain) answer(n *Node, q *ResultsQuestion) (*ResultsAnswer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.read(n); err != nil {
		return nil, err
	}
	a := &ResultsAnswer{Chain: c.chain}
	a.Height, _ = n.book.tip()
	size := 0
	for _, r := range c.kept {
		if r.number <= q.After {
			continue
		}
		if len(a.Results) == 0 {
			a.Chain = r.before
		}
		if size += len(r.encoded); size > pageBytes {
			a.More = true
			break
		}
		a.Results = append(a.Results, r.encoded)
	}
	return a, nil
}

// read takes what has been settled since.
func (c *resultChain) read(n *Node) error {
	if c.next == 0 {
		c.next, c.waiting = 1, map[uint64][]byte{}
	}
	var unsettled market.Interval // whatever is before it has been settled and read
	n.book.read(func(s *ledger.State) {
		unsettled = s.Next()
		for _, k := range s.Intervals() {
			if r, ok := s.Interval(k); ok && r.State != ledger.IntervalSettled {
				unsettled = min(unsettled, k)
			}
		}
	})
	full := false
	err := n.book.store.Results(c.from, func(r *ledger.MarketResult) bool {
		if r.Number >= c.next {
			c.waiting[r.Number] = r.Encode()
		}
		for raw := c.waiting[c.next]; raw != nil; raw = c.waiting[c.next] {
			delete(c.waiting, c.next)
			c.kept = append(c.kept, linkedResult{number: c.next, before: c.chain, encoded: raw})
			c.chain = ledger.NextChain(c.chain, raw)
			c.next++
		}
		if len(c.kept) > 2*keptResults {
			c.kept = slices.Clone(c.kept[len(c.kept)-keptResults:])
		}
		full = len(c.waiting) > maxAhead
		return !full
	})
	if err == nil && full {
		err = fmt.Errorf("%w: result %d is missing", ErrCorrupt, c.next)
	}
	if err == nil {
		c.from = max(c.from, unsettled)
	}
	return err
}
