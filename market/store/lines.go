package store

import (
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Lines yields all of the history as it is now, part by part, without the heights of the
// blocks. Commits may go on; what they add is left out.
func (s *Store) Lines(f func(Part, Line) error) error {
	height := s.Height()
	var first, last market.Month
	err := s.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketHistory).Cursor()
		if key, _ := c.First(); key != nil {
			k, _, _ := splitHistoryKey(key)
			first = s.state.Calendar().MonthOf(k, s.state.Zone())
			key, _ = c.Last()
			k, _, _ = splitHistoryKey(key)
			last = s.state.Calendar().MonthOf(k, s.state.Zone())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading history: %w", err)
	}
	if height < 1 {
		return nil
	}
	wants := []Want{{Height: height, Part: PartMonths}, {Height: height, Part: PartResults}}
	for m := first; m <= last && first > 0; m++ {
		wants = append(wants, Want{Height: height, Part: PartSettlements, Month: m})
	}
	for _, w := range wants {
		for more := true; more; {
			p, err := s.Page(w)
			if err != nil {
				return err
			}
			for _, l := range p.Lines {
				if err := f(w.Part, l); err != nil {
					return err
				}
				w.After = l.Key
			}
			more = p.More
		}
	}
	return nil
}

// LineCheck holds a history, as Lines yields it, against the state that it must lead to.
type LineCheck struct {
	hist  *historyCheck
	wrong []Difference
}

// maxDifferences bounds what a LineCheck notes.
const maxDifferences = 100

// NewLineCheck begins; the lines of months up to pruned are not expected.
func NewLineCheck(g ledger.Genesis, pruned market.Month) *LineCheck {
	c := &LineCheck{hist: newHistoryCheck(g)}
	c.hist.pruned = pruned
	c.hist.bad = func(record, format string, args ...any) {
		if len(c.wrong) < maxDifferences {
			c.wrong = append(c.wrong, Difference{Record: record, Text: fmt.Sprintf(format, args...)})
		}
	}
	return c
}

// Take takes the next line.
func (c *LineCheck) Take(p Part, l Line) {
	value := append([]byte{0}, l.Value...)
	if p == PartMonths {
		c.hist.closedMonth(keyText(bucketMonths, l.Key), l.Key, value)
		return
	}
	c.hist.line(keyText(bucketHistory, l.Key), l.Key, value)
}

// End returns every difference.
func (c *LineCheck) End(s *ledger.State) []Difference {
	c.hist.compare(s)
	return c.wrong
}
