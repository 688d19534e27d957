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

	settled uint64          // Household.Settled of the state it is of
	oldest  market.Interval // nothing before it can change any more
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
		lines: map[market.Interval]*bookLine{}, results: map[market.Interval]ledger.MarketResult{},
	}
}

// refresh reads what the history has more, if the household's record says that it grew.
// What was read before is not read again, save the intervals that could still change.
func (b *book) refresh() error {
	settled, oldest := uint64(0), market.Interval(0)
	var next market.Interval
	var balance market.Money
	b.ledger.Read(func(s *ledger.State) {
		next, oldest = s.Next(), s.Next()
		if h, ok := s.Household(b.id); ok {
			settled, balance = h.Settled, h.Balance
		}
		for _, k := range s.Intervals() {
			if r, ok := s.Interval(k); ok && k < oldest && changeable(r, b.id) {
				oldest = k
			}
		}
	})
	if settled == b.settled {
		return nil
	}
	if err := b.read(settled, max(b.oldest, next-keptLines)); err != nil {
		return fmt.Errorf("reading the account: %w", err)
	}
	b.settled, b.oldest, b.balance = settled, oldest, balance
	first := min(next-keptLines, oldest)
	maps.DeleteFunc(b.lines, func(k market.Interval, _ *bookLine) bool { return k < first })
	maps.DeleteFunc(b.results, func(k market.Interval, _ ledger.MarketResult) bool { return k < next-keptLines })
	return nil
}

// changeable says whether the household's part in an Interval may still be settled, or
// settled anew.
func changeable(r *ledger.IntervalRecord, id market.HouseholdID) bool {
	_, ours := r.Entry(id)
	return r.State != ledger.IntervalSettled || ours
}

// read takes the settlements after those that it knows, up to the number settled: the
// disk may be ahead of the state. Of the results it takes those from an Interval on.
func (b *book) read(settled uint64, results market.Interval) error {
	var bad error
	found := uint64(0)
	err := b.ledger.Settlements(b.id, b.oldest, func(s *ledger.Settlement) bool {
		if s.Number > b.settled && s.Number <= settled {
			found++
			bad = b.add(s)
		}
		return bad == nil
	})
	switch {
	case err != nil:
		return err
	case bad != nil:
		return bad
	case found != settled-b.settled:
		return fmt.Errorf("the history has %d settlements from interval %d on, want %d", found, b.oldest, settled-b.settled)
	}
	return b.ledger.Results(results, func(r *ledger.MarketResult) bool {
		b.results[r.Interval] = *r
		return true
	})
}

func (b *book) add(s *ledger.Settlement) (err error) {
	l := b.lines[s.Interval]
	if l == nil {
		l = &bookLine{}
		b.lines[s.Interval] = l
		b.total.settlements++
	}
	l.last = *s
	l.last.Moves = nil // they are in the sums
	own := market.HouseholdAccount(b.id)
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
	}
	before := l.saved
	if l.saved, err = b.saving(l); err != nil || l.saved == nil {
		return err
	}
	if before != nil {
		if b.total.saved, err = b.total.saved.Sub(*before); err != nil {
			return err
		}
	}
	b.total.saved, err = b.total.saved.Add(*l.saved)
	return err
}

// saving is what the interval came to, minus what the same metered energy would
// have come to with the supplier alone: import at retail, export at feed-in. Nil
// when islanded, because there is no supplier to compare with.
func (b *book) saving(l *bookLine) (*market.Money, error) {
	t := b.rules.GridTariff()
	if t == nil {
		return nil, nil //nolint:nilnil // unknown, and no error
	}
	paid, err := market.Amount(t.Retail(), l.last.Import)
	if err != nil {
		return nil, err
	}
	received, err := market.Amount(t.FeedIn(), l.last.Export)
	if err != nil {
		return nil, err
	}
	alone, err := received.Sub(paid)
	if err != nil {
		return nil, err
	}
	saved, err := l.net.Sub(alone)
	return &saved, err
}
