package store

import (
	"bytes"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// section is what is fetched and proven at once.
type section struct {
	part  Part
	month market.Month // of PartSettlements
	lines uint64       // how many there must be

	from, end market.Interval // of PartSettlements
}

func (s section) bucket() []byte {
	if s.part == PartMonths {
		return bucketMonths
	}
	return bucketHistory
}

func (s section) String() string {
	if s.part == PartSettlements {
		return fmt.Sprintf("%s of %s", s.part, s.month)
	}
	return s.part.String()
}

// bounds are the keys between which the section lies; end is not part of it.
func (s section) bounds() (first, end []byte) {
	if s.part != PartSettlements {
		return nil, nil
	}
	return historyKey(max(s.from, 0), market.HouseholdID{}, 0), historyKey(max(s.end, 0), market.HouseholdID{}, 0)
}

// owns says whether a key of the section's bucket is of it.
func (s section) owns(key []byte) bool {
	switch s.part {
	case PartMonths:
		return len(key) == monthKeyBytes
	case PartResults:
		_, h, _ := splitHistoryKey(key)
		return len(key) == historyKeyBytes && h == market.HouseholdID{}
	case PartSettlements:
		first, end := s.bounds()
		_, h, _ := splitHistoryKey(key)
		return len(key) == historyKeyBytes && h != market.HouseholdID{} && bytes.Compare(key, first) >= 0 && bytes.Compare(key, end) < 0
	default:
		return false
	}
}

// plan lists the sections. Before the months are there it knows the first two, and adds
// one for each month when it has seen them.
func (j *Joining) plan() error {
	settled, _ := j.state.Settled()
	closed := uint64(0)
	for _, id := range j.state.Households() {
		h, _ := j.state.Household(id)
		closed += h.Closed
	}
	j.sections = []section{{part: PartMonths, lines: closed}, {part: PartResults, lines: settled}}
	if j.at.Section == 0 {
		return nil
	}
	return guard(func() error {
		return j.db.View(func(tx *bolt.Tx) error {
			gone, err := pruned(tx)
			if err != nil {
				return err
			}
			lines := map[market.Month]uint64{}
			first, last := market.Month(0), market.Month(0)
			err = j.eachMonth(tx, func(_ market.HouseholdID, m *ledger.Month) {
				lines[m.Month] += m.Lines
				if first == 0 || m.Month < first {
					first = m.Month
				}
				last = max(last, m.Month)
			})
			if err != nil {
				return err
			}
			for m := max(first, gone+1); m <= last; m++ {
				if lines[m] == 0 {
					continue
				}
				from, end := j.state.Calendar().OfMonth(m, j.state.Zone())
				j.sections = append(j.sections, section{part: PartSettlements, month: m, lines: lines[m], from: from, end: end})
			}
			return nil
		})
	})
}

// eachMonth calls f with every month of every household, closed or not.
func (j *Joining) eachMonth(tx *bolt.Tx, f func(market.HouseholdID, *ledger.Month)) error {
	for _, id := range j.state.Households() {
		closed, err := readMonths(tx, id)
		if err != nil {
			return err
		}
		for i := range closed {
			f(id, &closed[i])
		}
		h, _ := j.state.Household(id)
		for i := range h.Months {
			f(id, &h.Months[i])
		}
	}
	return nil
}

// fits looks at what can be judged of a page by itself: that its lines are of the section,
// in order, behind the last, and not too many.
func (j *Joining) fits(s section, p *Page) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrSnapshot, s, fmt.Sprintf(format, args...))
	}
	if s.part == PartSettlements && p.Pruned >= s.month {
		return fmt.Errorf("%w: %s", ErrPruned, s)
	}
	last := j.at.After
	for _, l := range p.Lines {
		switch {
		case !s.owns(l.Key):
			return bad("%s is not of them", keyText(s.bucket(), l.Key))
		case bytes.Compare(l.Key, last) <= 0:
			return bad("%s is out of order", keyText(s.bucket(), l.Key))
		case len(l.Value) == 0 || len(l.Value) > maxLineBytes:
			return bad("%s has %d bytes, want 1 to %d", keyText(s.bucket(), l.Key), len(l.Value), maxLineBytes)
		}
		last = l.Key
	}
	if got := j.at.Lines + uint64(len(p.Lines)); got > s.lines || p.More && got == s.lines {
		return bad("more than the %d lines that the records say", s.lines)
	}
	return nil
}

// keys lists the keys of a section that are on disk, some of them at least.
func (j *Joining) keys(tx *bolt.Tx, s section, most int) (keys [][]byte) {
	first, end := s.bounds()
	c := tx.Bucket(s.bucket()).Cursor()
	for key, _ := c.Seek(first); key != nil && (end == nil || bytes.Compare(key, end) < 0); key, _ = c.Next() {
		if !s.owns(key) {
			continue
		}
		if len(keys) == most {
			break
		}
		keys = append(keys, bytes.Clone(key))
	}
	return keys
}

// prove holds a whole section against the records.
func (j *Joining) prove(tx *bolt.Tx, s section) error {
	var wrong error
	c := newHistoryCheck(j.genesis)
	c.bad = func(record, format string, args ...any) {
		if wrong == nil {
			wrong = fmt.Errorf("%w: %s: %s", ErrSnapshot, record, fmt.Sprintf(format, args...))
		}
	}
	if s.part == PartMonths {
		return j.proveMonths(tx, c, &wrong)
	}
	if err := j.proveLines(tx, s, c, &wrong); err != nil || wrong != nil {
		return firstOf(err, wrong)
	}
	if s.part == PartResults {
		settled, chain := j.state.Settled()
		c.compareChain(chainID{}, settled, chain)
		return wrong
	}
	err := j.eachMonth(tx, func(id market.HouseholdID, m *ledger.Month) {
		if m.Month == s.month {
			c.compareChain(chainID{household: id, month: m.Month}, m.Lines, m.Chain)
		}
	})
	for id, o := range c.owners {
		c.bad(id.text(), "%d lines, but nobody's record has them", o.lines)
	}
	return firstOf(err, wrong)
}

func firstOf(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// proveLines gives all lines of a section to the check.
func (j *Joining) proveLines(tx *bolt.Tx, s section, c *historyCheck, wrong *error) error {
	first, end := s.bounds()
	cursor := tx.Bucket(bucketHistory).Cursor()
	for key, v := cursor.Seek(first); key != nil && (end == nil || bytes.Compare(key, end) < 0) && *wrong == nil; key, v = cursor.Next() {
		if !s.owns(key) {
			continue
		}
		value, damage := unseal(bucketHistory, key, v)
		if damage != "" {
			return damaged(bucketHistory, key, damage)
		}
		c.line(keyText(bucketHistory, key), key, value)
	}
	return nil
}

// proveMonths holds the closed months against the households' records.
func (j *Joining) proveMonths(tx *bolt.Tx, c *historyCheck, wrong *error) error {
	err := tx.Bucket(bucketMonths).ForEach(func(key, v []byte) error {
		value, damage := unseal(bucketMonths, key, v)
		if damage != "" {
			return damaged(bucketMonths, key, damage)
		}
		c.closedMonth(keyText(bucketMonths, key), key, value)
		return nil
	})
	for _, id := range j.state.Households() {
		h, _ := j.state.Household(id)
		var chain [32]byte
		for _, m := range c.months[id] {
			chain = ledger.NextChain(chain, m.Encode())
		}
		if n := uint64(len(c.months[id])); n != h.Closed || chain != h.ClosedChain {
			c.bad("months of "+ownerText(id), "%d that hash to %x, want %d and %x", n, chain, h.Closed, h.ClosedChain)
		}
		delete(c.months, id)
	}
	for id, months := range c.months {
		c.bad("months of "+ownerText(id), "%d of them, but the household is not registered", len(months))
	}
	return firstOf(err, *wrong)
}
