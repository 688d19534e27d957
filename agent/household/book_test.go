package household

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// reckon adds the account up again from the history, in the plainest way.
func reckon(t testing.TB, tw *town, id market.HouseholdID) (earned, spent, saved *big.Int, intervals int) {
	t.Helper()
	earned, spent, saved = new(big.Int), new(big.Int), new(big.Int)
	newest := map[market.Interval]ledger.Settlement{}
	err := tw.Settlements(id, 0, func(s *ledger.Settlement) bool {
		for _, m := range s.Moves {
			amount := big.NewInt(int64(m.Amount))
			if m.Credit == 0 {
				earned.Add(earned, amount)
			} else {
				spent.Add(spent, amount)
			}
		}
		newest[s.Interval] = *s
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	saved.Sub(earned, spent)
	for _, s := range newest {
		// 0.30 and 0.08 a kWh are whole micro-units a Wh, so nothing is rounded.
		saved.Add(saved, big.NewInt(300*int64(s.Import)-80*int64(s.Export)))
	}
	return earned, spent, saved, len(newest)
}

// H6: the page's account is what the history comes to, at each moment, through substitutes,
// corrections and restarts; and the balance is the state's.
func TestAccount(t *testing.T) {
	t.Parallel()
	for _, homes := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d homes", homes), func(t *testing.T) {
			r := newRig(t, func(o *townOptions) {
				o.homes = homes
				o.rules = func(rules *ledger.Rules) { rules.ReportDeadlineS, rules.CorrectionWindowS = 3600, 6*3600 }
			})
			r.register()
			if homes > 1 {
				r.neighbour()
			}
			r.off = func(now time.Time) bool { return now.After(on(9, 20)) && now.Before(on(13, 0)) }
			r.after = func(now time.Time, s api.Snapshot) error {
				if now.Minute() == 3 {
					r.restart()
					s = r.draw()
				}
				earned, spent, saved, n := reckon(t, r.town, r.home.id)
				a := s.Account
				if big.NewInt(*a.Earned).Cmp(earned) != 0 || big.NewInt(*a.Spent).Cmp(spent) != 0 ||
					big.NewInt(*a.Saved).Cmp(saved) != 0 || a.Settlements != int64(n) {
					return fmt.Errorf("earned %d, spent %d, saved %d in %d intervals; want %d, %d, %d in %d",
						*a.Earned, *a.Spent, *a.Saved, a.Settlements, earned, spent, saved, n)
				}
				var balance market.Money
				r.Read(func(st *ledger.State) { balance, _ = st.Balance(market.HouseholdAccount(r.home.id)) })
				if *a.Balance != int64(balance) || *a.Balance != *a.Earned-*a.Spent {
					return fmt.Errorf("balance %d, the ledger says %d", *a.Balance, balance)
				}
				return nil
			}
			r.until(on(16, 0))
			if _, _, _, n := reckon(t, r.town, r.home.id); n < 20 {
				t.Errorf("%d intervals were settled", n)
			}
			corrected := 0
			for _, s := range r.settlements(r.home.id) {
				if s.Version > 1 {
					corrected++
				}
			}
			if corrected < 5 {
				t.Errorf("%d intervals were corrected, want several", corrected)
			}
		})
	}
}

// The book is of one state, also where the history on disk is ahead of it, and it keeps only
// so many lines (H7).
func TestBookIsOfOneState(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	r.until(on(8, 1))
	b := r.home.book
	if err := b.refresh(); err != nil {
		t.Fatal(err)
	}
	settled := b.settled
	r.until(on(8, 31))
	// The disk has two more. A state that is of one more has to wait for the other.
	for want, found := range map[uint64]int{1: 0, 2: 2} {
		if lines, _, err := b.read(want, b.oldest, 0); err != nil || len(lines) != found {
			t.Errorf("of 2 more, want %d: got %d, %v, want %d", want, len(lines), err, found)
		}
	}
	if _, _, err := newBook(r.home.id, r.town, r.home.rules).read(settled+100, 0, 0); err == nil {
		t.Error("a history that lacks settlements is not noticed")
	}
}

// A home whose lines of closed months are gone starts with what those months came to: the
// balance is the state's, and what it saved is what it was (H6).
func TestBookOfPrunedMonths(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *townOptions) {
		o.rules = func(rules *ledger.Rules) { rules.ReportDeadlineS, rules.CorrectionWindowS = 3600, 6*3600 }
	})
	r.register()
	r.until(time.Date(2026, time.July, 1, 14, 0, 0, 0, time.UTC))
	whole := newBook(r.home.id, r.town, r.home.rules)
	if err := whole.refresh(); err != nil {
		t.Fatal(err)
	}
	months, err := r.Months(r.home.id)
	if err != nil || len(months) != 1 || months[0].Lines < 800 {
		t.Fatalf("closed months %+v, %v, want June", months, err)
	}
	if n, err := r.store.Prune(months[0].Month); err != nil || n == 0 {
		t.Fatalf("pruned %d lines, %v", n, err)
	}
	pruned := newBook(r.home.id, r.town, r.home.rules)
	if err := pruned.refresh(); err != nil {
		t.Fatal(err)
	}
	was, is := whole.total, pruned.total
	if pruned.balance != whole.balance || is.earned-is.spent != was.earned-was.spent || is.saved != was.saved || pruned.settled != whole.settled {
		t.Errorf("got balance %d, %+v; with all lines it was %d, %+v", pruned.balance, is, whole.balance, was)
	}
	if is.earned-is.spent != pruned.balance || is.saved == 0 {
		t.Errorf("balance %d is not %d - %d, or nothing was saved", pruned.balance, is.earned, is.spent)
	}
	if len(pruned.lines) == 0 || len(pruned.lines) >= len(whole.lines) {
		t.Errorf("%d lines are kept of %d", len(pruned.lines), len(whole.lines))
	}
	r.restart() // the home itself
	r.until(time.Date(2026, time.July, 1, 15, 0, 0, 0, time.UTC))
	if s := r.draw(); s.Account.Balance == nil || *s.Account.Balance != *s.Account.Earned-*s.Account.Spent {
		t.Errorf("after a restart the page shows %+v", s.Account)
	}
}

func TestBookIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	r.until(dawn.Add(110 * time.Hour)) // 440 intervals
	r.draw()
	if n := len(r.home.book.lines); n > keptLines+4 || n < keptLines-4 || len(r.home.book.results) > keptLines+4 {
		t.Errorf("%d lines, %d results, want about %d", n, len(r.home.book.results), keptLines)
	}
	if n := r.home.book.total.settlements; n < 430 {
		t.Errorf("%d settlements in the sums, want all", n)
	}
	if len(r.home.metered) != keptMetered {
		t.Errorf("%d intervals remembered, want %d", len(r.home.metered), keptMetered)
	}
	if n := len(r.home.Snapshot().Intervals); n != shownIntervals {
		t.Errorf("%d intervals on the page, want %d", n, shownIntervals)
	}
}

// Without a supplier there is nothing to compare with: what was saved is unknown.
func TestIslandedAccount(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(o *townOptions) {
		o.rules = func(rules *ledger.Rules) { rules.Tariff = nil }
	})
	r.register()
	r.until(on(9, 0))
	s := r.draw()
	if s.Account.Saved != nil || s.Account.Balance == nil || s.PriceNow.ImportPrice != nil || s.Account.Settlements == 0 {
		t.Errorf("account %+v, price %+v", s.Account, s.PriceNow)
	}
}
