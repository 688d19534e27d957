package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// monthLines are the settlements of a month, in the order of their numbers, and the hash
// chain over them. It is replaced, never changed.
type monthLines struct {
	lines []*ledger.Settlement
	chain [32]byte
}

// resultLines are the newest results of the market, in the order of their numbers. It is
// replaced, never changed.
type resultLines struct {
	settled uint64   // the number of the last
	chain   [32]byte // up to it
	lines   []*ledger.MarketResult
}

const (
	// keptResultLines is how many results a light home remembers.
	keptResultLines = 450
	// maxPages bounds the pages of one question that goes on and on.
	maxPages = 64
	// historyWithin bounds questions that the page waits for.
	historyWithin = 20 * time.Second
)

// errShort: the provider gives less than there is.
var errShort = errors.New("withheld")

// readHistory reads what the state counts of the own settlements (N2) and of results. Where
// the provider gives less or other than that, it is accused and the next is asked.
func (l *Light) readHistory(ctx context.Context, first Provider, k *known) error {
	record, member := k.state.Household(l.cfg.Household)
	months := map[market.Month]*monthLines{}
	if member {
		for i := range record.Months {
			m := &record.Months[i]
			lines, err := l.askEach(ctx, first, func(p Provider) (any, error) { return l.readMonth(ctx, p, m, k.lines[m.Month], k.height) })
			if err != nil {
				return fmt.Errorf("the settlements of %s: %w", m.Month, err)
			}
			months[m.Month] = lines.(*monthLines) //nolint:forcetypeassert // see above
		}
	}
	results, err := l.askEach(ctx, first, func(p Provider) (any, error) { return l.readResults(ctx, p, k) })
	if err != nil {
		return fmt.Errorf("the market's results: %w", err)
	}
	k.lines, k.results = months, results.(*resultLines) //nolint:forcetypeassert // see above
	return nil
}

// askEach asks one provider after the other until one gives what was proven.
func (l *Light) askEach(ctx context.Context, first Provider, ask func(Provider) (any, error)) (any, error) {
	got, err := ask(first)
	if err == nil || ctx.Err() != nil {
		return got, err
	}
	for _, p := range l.providers() {
		if p.ID == first.ID {
			continue
		}
		again, otherErr := ask(p)
		if otherErr == nil {
			return again, nil
		}
		err = errors.Join(err, otherErr)
	}
	return nil, err
}

// readMonth reads the lines of a month that the record counts, beginning with those that are
// known. height is that of the header which proves the record.
func (l *Light) readMonth(ctx context.Context, p Provider, m *ledger.Month, have *monthLines, height int64) (*monthLines, error) {
	next := &monthLines{chain: ledger.ChainStart(l.cfg.Household, m.Month)}
	if have != nil && uint64(len(have.lines)) <= m.Lines {
		next = &monthLines{lines: slices.Clone(have.lines), chain: have.chain}
	}
	start := len(next.lines)
	for page := 0; uint64(len(next.lines)) < m.Lines; page++ {
		a, err := Put[LinesAnswer](ctx, l.cfg.Ask, p.ID, AskLines, LinesQuestion{Month: m.Month, After: uint64(len(next.lines))})
		if errors.Is(err, ErrAnswer) {
			return nil, l.accuse(p, "its settlements of %s cannot be read: %v", m.Month, err)
		}
		if err != nil {
			return nil, err
		}
		if a.Pruned {
			return nil, fmt.Errorf("%w: %s has pruned the lines of %s", ErrPruned, p.ID, m.Month)
		}
		before := len(next.lines)
		for _, raw := range a.Lines {
			if uint64(len(next.lines)) == m.Lines {
				break // newer than the record
			}
			s, err := ledger.DecodeSettlement(l.cfg.Household, raw)
			if err != nil || s.Number != uint64(len(next.lines))+1 {
				return nil, l.accuse(p, "settlement %d of %s is none: got %.16x: %v", len(next.lines)+1, m.Month, raw, err)
			}
			next.lines = append(next.lines, s)
			next.chain = ledger.NextChain(next.chain, raw)
		}
		if len(next.lines) == before || page == maxPages {
			if a.Height < height-1 {
				return nil, fmt.Errorf("%w: %s is at block %d", errBehind, p.ID, a.Height)
			}
			return nil, l.accuse(p, "withholds settlements of %s: gave %d, the household's record counts %d", m.Month, len(next.lines), m.Lines)
		}
	}
	if next.chain != m.Chain {
		if start > 0 {
			// What is known was proven once, but perhaps by another record of the month.
			return l.readMonth(ctx, p, m, nil, height)
		}
		return nil, l.accuse(p, "changed settlements of %s: they hash to %x, the household's record says %x", m.Month, next.chain, m.Chain)
	}
	return next, nil
}

// readResults reads the results that are new, or the newest.
func (l *Light) readResults(ctx context.Context, p Provider, k *known) (*resultLines, error) {
	settled, chain := k.state.Settled()
	next := &resultLines{settled: k.results.settled, chain: k.results.chain, lines: slices.Clone(k.results.lines)}
	fresh := next.settled == 0 || settled-next.settled > keptResultLines
	if fresh {
		next = &resultLines{settled: settled - min(settled, keptResultLines)}
	}
	for page := 0; next.settled < settled; page++ {
		a, err := Put[ResultsAnswer](ctx, l.cfg.Ask, p.ID, AskResults, ResultsQuestion{After: next.settled})
		if errors.Is(err, ErrAnswer) {
			return nil, l.accuse(p, "its results cannot be read: %v", err)
		}
		if err != nil {
			return nil, err
		}
		if fresh && page == 0 {
			// By itself this says nothing; but what follows leads to the clock's chain from no other.
			next.chain = a.Chain
		}
		before := next.settled
		for _, raw := range a.Results {
			if next.settled == settled {
				break // newer than the state
			}
			r, err := ledger.DecodeMarketResult(raw)
			if err != nil || r.Number != next.settled+1 {
				return nil, l.accuse(p, "result %d is none: got %.16x: %v", next.settled+1, raw, err)
			}
			next.lines = append(next.lines, r)
			next.chain, next.settled = ledger.NextChain(next.chain, raw), r.Number
		}
		if next.settled == before || page == maxPages {
			if a.Height < k.height-1 {
				return nil, fmt.Errorf("%w: %s is at block %d", errBehind, p.ID, a.Height)
			}
			return nil, l.accuse(p, "withholds results: gave those up to %d, the ledger counts %d", next.settled, settled)
		}
	}
	if settled > 0 && next.chain != chain {
		return nil, l.accuse(p, "changed results: they hash to %x, the ledger's clock says %x", next.chain, chain)
	}
	if n := len(next.lines); n > keptResultLines {
		next.lines = slices.Clone(next.lines[n-keptResultLines:])
	}
	return next, nil
}

// ErrPruned says that the lines of a month are not kept any more by those who were asked.
var ErrPruned = errors.New("the lines are kept no more")

// Settlements yields the own household's settlements from an Interval on, oldest first. Those
// of closed months are asked for and checked when they are wanted; a month whose lines no
// provider keeps is left out, as on a node that has pruned it.
func (l *Light) Settlements(h market.HouseholdID, from market.Interval, f func(*ledger.Settlement) bool) error {
	if h != l.cfg.Household {
		return fmt.Errorf("settlements of household %s: %w", h, ErrOnlyOwn)
	}
	k := l.now()
	months, err := l.monthsOf(k)
	if err != nil {
		return err
	}
	for i := range months {
		m := &months[i]
		if _, end := k.state.Calendar().OfMonth(m.Month, k.state.Zone()); end <= from {
			continue
		}
		lines := k.lines[m.Month]
		if lines == nil {
			if lines, err = l.closedLines(k, m); errors.Is(err, ErrPruned) {
				continue
			} else if err != nil {
				return err
			}
		}
		sorted := slices.Clone(lines.lines)
		slices.SortFunc(sorted, func(a, b *ledger.Settlement) int {
			return cmp.Or(cmp.Compare(a.Interval, b.Interval), cmp.Compare(a.Version, b.Version))
		})
		for _, s := range sorted {
			if s.Interval >= from && !f(s) {
				return nil
			}
		}
	}
	return nil
}

// monthsOf are the closed months and the others, oldest first.
func (l *Light) monthsOf(k known) ([]ledger.Month, error) {
	record, ok := k.state.Household(l.cfg.Household)
	if !ok {
		return nil, nil
	}
	closed, err := l.closedMonths(record)
	return slices.Concat(closed, record.Months), err
}

// Months returns the own household's closed months, oldest first.
func (l *Light) Months(h market.HouseholdID) ([]ledger.Month, error) {
	if h != l.cfg.Household {
		return nil, fmt.Errorf("months of household %s: %w", h, ErrOnlyOwn)
	}
	k := l.now()
	record, ok := k.state.Household(h)
	if !ok {
		return nil, nil
	}
	return l.closedMonths(record)
}

func (l *Light) closedMonths(record *ledger.Household) ([]ledger.Month, error) {
	if record.Closed == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), historyWithin)
	defer cancel()
	p, err := l.choose()
	if err != nil {
		return nil, err
	}
	months, err := l.askEach(ctx, p, func(p Provider) (any, error) {
		a, err := Put[MonthsAnswer](ctx, l.cfg.Ask, p.ID, AskMonths, MonthsQuestion{})
		if errors.Is(err, ErrAnswer) {
			return nil, l.accuse(p, "its months cannot be read: %v", err)
		}
		if err != nil {
			return nil, err
		}
		if uint64(len(a.Months)) < record.Closed {
			return nil, fmt.Errorf("%w: %s gives %d closed months, the record counts %d", errShort, p.ID, len(a.Months), record.Closed)
		}
		var out []ledger.Month
		var chain [32]byte
		for _, raw := range a.Months[:record.Closed] {
			m, err := ledger.DecodeMonth(raw)
			if err != nil {
				return nil, l.accuse(p, "a closed month is none: %v", err)
			}
			out, chain = append(out, *m), ledger.NextChain(chain, raw)
		}
		if chain != record.ClosedChain {
			return nil, l.accuse(p, "changed closed months: they hash to %x, the household's record says %x", chain, record.ClosedChain)
		}
		return out, nil
	})
	if err != nil {
		return nil, fmt.Errorf("closed months: %w", err)
	}
	return months.([]ledger.Month), nil //nolint:forcetypeassert // see above
}

func (l *Light) closedLines(k known, m *ledger.Month) (*monthLines, error) {
	ctx, cancel := context.WithTimeout(context.Background(), historyWithin)
	defer cancel()
	p, err := l.choose()
	if err != nil {
		return nil, err
	}
	lines, err := l.askEach(ctx, p, func(p Provider) (any, error) { return l.readMonth(ctx, p, m, nil, k.height) })
	if err != nil {
		return nil, fmt.Errorf("the settlements of %s: %w", m.Month, err)
	}
	return lines.(*monthLines), nil //nolint:forcetypeassert // see above
}

// Results yields what settled Intervals came to as a whole, oldest first, of the newest.
func (l *Light) Results(from market.Interval, f func(*ledger.MarketResult) bool) error {
	sorted := slices.Clone(l.now().results.lines)
	slices.SortFunc(sorted, func(a, b *ledger.MarketResult) int { return cmp.Compare(a.Interval, b.Interval) })
	for _, r := range sorted {
		if r.Interval >= from && !f(r) {
			return nil
		}
	}
	return nil
}

// Status returns a snapshot. Who of the validators is at work is seen by the last block.
func (l *Light) Status() Status {
	all := l.cfg.Providers()
	l.mu.RLock()
	defer l.mu.RUnlock()
	k, t := l.known, &l.trust
	hash := k.state.AppHash()
	s := Status{
		ChainID: l.anchor.chainID, Height: max(0, k.height-1), AppHash: hash[:], CatchingUp: k.height == 0 || t.fork != nil,
		Rejected: map[string]uint64{}, Waiting: t.waiting, Light: true, Fork: t.fork, Peers: len(all), Alone: t.alone && k.height > 0,
	}
	if s.Waiting == "" && k.height == 0 {
		s.Waiting = "waiting for the first verified header"
	}
	if !k.at.IsZero() {
		s.LastBlockWall = k.at.UTC()
	}
	l.validators(&s, k)
	for _, p := range all {
		ps := ProviderStatus{ID: p.ID, Name: l.nameOf(k.state, p), Accused: t.accused[p.ID]}
		if seen := t.seen[p.ID]; seen != nil {
			ps.Height, ps.Withholds = seen.height, seen.withholds
		}
		s.Providers = append(s.Providers, ps)
	}
	for _, id := range slices.Sorted(maps.Keys(t.accused)) {
		s.Accused = append(s.Accused, *t.accused[id])
	}
	return s
}

// validators are those of the newest header; one is online if it signed that.
func (l *Light) validators(s *Status, k known) {
	if k.signed == nil {
		return
	}
	for _, v := range k.signed.Commit.Votes {
		s.Validators = append(s.Validators, ValidatorStatus{
			Name: l.validatorName(v.Validator.upper()), Address: v.Validator.upper(), Power: 1, Online: v.For != voteAbsent,
		})
	}
	s.ValidatorsTotal = len(s.Validators)
}
