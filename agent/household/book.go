package household

import (
	"fmt"
	"maps"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// book is this home's account as the ledger's history tells it: what every
// interval came to, corrections included, and the sums. It is of one state: its
// sums are over the very settlements that the state's balance is of. New and
// follow own it, one after the other.
type book struct {
	id     market.HouseholdID
	ledger Ledger
	rules  ledger.Rules

	settled uint64                       // Household.Settled of the state it is of
	oldest  market.Interval              // nothing before it is likely to change any more
	seen    map[market.Interval]seenLine // of all that can still change
	balance market.Money
	lines   map[market.Interval]*bookLine
	results map[market.Interval]ledger.MarketResult
	total   bookTotal
}

// bookLine is one interval as it stands after its newest version.
type bookLine struct {
	last  ledger.Settlement
	net   market.Money  // received minus paid over all versions
	saved *market.Money // nil: there is nothing to compare with
}

// seenLine is what the sums have of an interval.
type seenLine struct {
	version uint32 // the newest
	alone   market.Money
}

// bookTotal are sums over all intervals.
type bookTotal struct {
	earned, spent, saved market.Money
	savedKnown           bool
	settlements          int64
}

// keptLines is how many of the newest intervals keep their lines, and all that can
// still be corrected; the sums are over all.
const keptLines = 400

func newBook(id market.HouseholdID, l Ledger, r ledger.Rules) *book {
	return &book{
		id: id, ledger: l, rules: r, total: bookTotal{savedKnown: r.Tariff != nil},
		seen:  map[market.Interval]seenLine{},
		lines: map[market.Interval]*bookLine{}, results: map[market.Interval]ledger.MarketResult{},
	}
}

// refresh reads what the history has more, if the household's record says that it grew.
// What was read before is not read again, save the intervals that could still change.
func (b *book) refresh() error {
	settled, oldest, first := uint64(0), market.Interval(0), market.Interval(0)
	var next market.Interval
	var balance market.Money
	b.ledger.Read(func(s *ledger.State) {
		next, oldest, first = s.Next(), s.Next(), s.Next()
		if h, ok := s.Household(b.id); ok {
			settled, balance = h.Settled, h.Balance
		}
		for i, k := range s.Intervals() {
			if i == 0 {
				first = min(first, k)
			}
			if r, ok := s.Interval(k); ok && k < oldest && changeable(r, b.id) {
				oldest = k
			}
		}
	})
	if settled == b.settled {
		return nil
	}
	lines, carried, err := b.read(settled-b.settled, b.oldest, first)
	if err == nil {
		err = b.carry(carried)
	}
	if err == nil {
		for _, s := range lines {
			if err = b.add(s); err != nil {
				break
			}
		}
	}
	if err == nil {
		err = b.ledger.Results(max(b.oldest, next-keptLines), func(r *ledger.MarketResult) bool {
			b.results[r.Interval] = *r
			return true
		})
	}
	if err != nil {
		return fmt.Errorf("reading the account: %w", err)
	}
	if uint64(len(lines))+linesOf(carried) != settled-b.settled {
		return nil // the disk is ahead of the state, which follows at once
	}
	b.settled, b.oldest, b.balance = settled, oldest, balance
	maps.DeleteFunc(b.seen, func(k market.Interval, _ seenLine) bool { return k < first })
	first = min(next-keptLines, oldest)
	maps.DeleteFunc(b.lines, func(k market.Interval, _ *bookLine) bool { return k < first })
	maps.DeleteFunc(b.results, func(k market.Interval, _ ledger.MarketResult) bool { return k < next-keptLines })
	return nil
}

// changeable says whether the household's part in an Interval is likely to be settled, or
// settled anew. What the cooperative corrects is anything that is not final.
func changeable(r *ledger.IntervalRecord, id market.HouseholdID) bool {
	e, ours := r.Entry(id)
	return r.State != ledger.IntervalSettled || ours && e.Quality == ledger.QualitySubstitute
}

// read returns the settlements that are not in the sums yet, want of them. It looks from
// an Interval on, and if they are not all there, from the first that is not final on. More
// than want are there if the disk is ahead of the state. Of months whose lines are not kept
// any more it returns what they came to; that happens at the first reading only.
func (b *book) read(want uint64, from, first market.Interval) ([]*ledger.Settlement, []ledger.Month, error) {
	for {
		var lines []*ledger.Settlement
		err := b.ledger.Settlements(b.id, from, func(s *ledger.Settlement) bool {
			if s.Version > b.seen[s.Interval].version {
				lines = append(lines, s)
			}
			return true
		})
		switch n := uint64(len(lines)); {
		case err != nil:
			return nil, nil, err
		case n > want:
			return nil, nil, nil
		case n == want:
			return lines, nil, nil
		case b.settled == 0:
			carried, err := b.pruned(want - n)
			return lines, carried, err
		case from <= first:
			return nil, nil, fmt.Errorf("the history has %d settlements from interval %d on, want %d", n, from, want)
		}
		from = first
	}
}

// pruned returns the oldest months, which have as many lines as are not kept any more: lines
// go by whole months, the oldest first.
func (b *book) pruned(missing uint64) ([]ledger.Month, error) {
	months, err := b.ledger.Months(b.id)
	if err != nil {
		return nil, err
	}
	for i := range months {
		if linesOf(months[:i+1]) == missing {
			return months[:i+1], nil
		}
	}
	return nil, fmt.Errorf("the history lacks %d settlements, and its closed months do not have as many", missing)
}

func linesOf(months []ledger.Month) (n uint64) {
	for i := range months {
		n += months[i].Lines
	}
	return n
}

// carry puts months without lines into the sums. What a month earned and spent with one
// counterpart is one amount there; balance = earned - spent all the same (H6).
func (b *book) carry(months []ledger.Month) error {
	for i := range months {
		m := &months[i]
		for _, amount := range []market.Money{m.Market, m.Supplier, m.Cooperative} {
			side := &b.total.earned
			if amount < 0 {
				side, amount = &b.total.spent, -amount
			}
			sum, err := side.Add(amount)
			if err != nil {
				return err
			}
			*side = sum
		}
		saved, err := m.Net()
		if err == nil {
			saved, err = saved.Add(m.Alone)
		}
		if err == nil && b.total.savedKnown {
			b.total.saved, err = b.total.saved.Add(saved)
		}
		if err != nil {
			return err
		}
		b.total.settlements += int64(m.Lines) //nolint:gosec // corrections among them: which they are is not kept
	}
	return nil
}

func (b *book) add(s *ledger.Settlement) (err error) {
	l := b.lines[s.Interval]
	if l == nil {
		l = &bookLine{}
		b.lines[s.Interval] = l
	}
	before := b.seen[s.Interval]
	if before.version == 0 {
		b.total.settlements++
	}
	b.seen[s.Interval] = seenLine{version: s.Version, alone: s.Alone}
	l.last = *s
	l.last.Moves = nil // they are in the sums
	own := market.HouseholdAccount(b.id)
	saved, err := s.Alone.Sub(before.alone)
	if err != nil {
		return err
	}
	for _, t := range ledger.Transfers(s.Interval, s.Moves, own) {
		side, change := &b.total.spent, -t.Amount
		if t.Credit == own {
			side, change = &b.total.earned, t.Amount
		}
		if *side, err = side.Add(t.Amount); err != nil {
			return err
		}
		if l.net, err = l.net.Add(change); err != nil {
			return err
		}
		if saved, err = saved.Add(change); err != nil {
			return err
		}
	}
	if !b.total.savedKnown {
		return nil // islanded: there is no supplier to compare with
	}
	if b.total.saved, err = b.total.saved.Add(saved); err != nil {
		return err
	}
	of, err := l.net.Add(s.Alone)
	l.saved = &of
	return err
}
