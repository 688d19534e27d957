package household

import (
	"fmt"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// book is this home's account as the ledger's history tells it: what every
// interval came to, corrections included, and the sums. follow owns it.
type book struct {
	id      market.HouseholdID
	ledger  Ledger
	rules   ledger.Rules
	settled uint64 // Household.Settled at the last refresh
	lines   map[market.Interval]*bookLine
	results map[market.Interval]ledger.MarketResult
	total   bookTotal
}

// bookLine is one interval as it stands after its newest version.
type bookLine struct {
	last  ledger.Settlement
	net   market.Money // received minus paid over all versions
	saved *market.Money
}

// bookTotal are sums over all intervals.
type bookTotal struct {
	earned, spent, saved market.Money
	savedKnown           bool
	settlements          int64
}

// keptLines is how many of the newest intervals keep their lines; the sums are
// over all.
const keptLines = 400

func newBook(id market.HouseholdID, l Ledger, r ledger.Rules) *book {
	return &book{
		id: id, ledger: l, rules: r,
		lines: map[market.Interval]*bookLine{}, results: map[market.Interval]ledger.MarketResult{},
	}
}

// refresh reads the history again if the household's record says that it grew.
func (b *book) refresh() error {
	settled := uint64(0)
	var next market.Interval
	b.ledger.Read(func(s *ledger.State) {
		next = s.Next()
		if h, ok := s.Household(b.id); ok {
			settled = h.Settled
		}
	})
	if settled == b.settled {
		return nil
	}
	fresh := newBook(b.id, b.ledger, b.rules)
	if err := fresh.read(next - keptLines); err != nil {
		return fmt.Errorf("reading the account: %w", err)
	}
	*b = *fresh
	b.settled = settled
	return nil
}

func (b *book) read(keep market.Interval) error {
	var bad error
	lines := map[market.Interval]*bookLine{}
	err := b.ledger.Settlements(b.id, 0, func(s *ledger.Settlement) bool {
		bad = b.add(lines, s)
		return bad == nil
	})
	if err != nil || bad != nil {
		return fmt.Errorf("settlements: %w", firstError(err, bad))
	}
	b.total.savedKnown = b.rules.Tariff != nil
	b.total.settlements = int64(len(lines))
	for k, l := range lines {
		if l.saved, err = b.saving(l); err != nil {
			return err
		}
		if l.saved != nil {
			if b.total.saved, err = b.total.saved.Add(*l.saved); err != nil {
				return err
			}
		}
		if k >= keep {
			b.lines[k] = l
		}
	}
	return b.ledger.Results(max(keep, 0), func(r *ledger.MarketResult) bool {
		b.results[r.Interval] = *r
		return true
	})
}

func (b *book) add(lines map[market.Interval]*bookLine, s *ledger.Settlement) error {
	l := lines[s.Interval]
	if l == nil {
		l = &bookLine{}
		lines[s.Interval] = l
	}
	l.last = *s
	own := market.HouseholdAccount(b.id)
	for _, t := range ledger.Transfers(s.Interval, s.Moves, own) {
		var err error
		if t.Credit == own {
			b.total.earned, err = b.total.earned.Add(t.Amount)
			l.net += t.Amount
		} else {
			b.total.spent, err = b.total.spent.Add(t.Amount)
			l.net -= t.Amount
		}
		if err != nil {
			return err
		}
	}
	return nil
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

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
