package demo

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// R7 as the recount has it is R7 as the market has it: two readings of one rule.
func TestR7Recount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		wh := func(name string) market.WattHours {
			return market.WattHours(rapid.Int64Range(0, 20_000).Draw(t, name))
		}
		price := func(name string) market.Price {
			return market.Price(rapid.Int64Range(-1_000_000, 4_000_000).Draw(t, name))
		}
		s := ledger.Settlement{
			Bought: wh("bought"), Sold: wh("sold"), Import: wh("import"), Export: wh("export"), Price: price("price"),
		}
		terms := market.Terms{
			Islanded: rapid.Bool().Draw(t, "islanded"), FeedIn: price("feed-in"), CommunityFee: market.Price(rapid.Int64Range(0, 50_000).Draw(t, "fee")),
		}
		terms.Retail = terms.FeedIn + market.Price(rapid.Int64Range(0, 1_000_000).Draw(t, "margin"))
		id := market.HouseholdID{1}
		at := terms
		if terms.Islanded {
			at.Retail, at.FeedIn = s.Price, s.Price
		}
		amount := func(wh market.WattHours) market.Money {
			m, err := market.Amount(s.Price, wh)
			if err != nil {
				t.Fatal(err)
			}
			return m
		}
		ts, err := market.SettleHousehold(7, market.Position{
			Household: id, Bought: s.Bought, Sold: s.Sold, Buy: amount(s.Bought), Sell: amount(s.Sold),
			MeteredImport: s.Import, MeteredExport: s.Export,
		}, at)
		if err != nil {
			t.Fatal(err)
		}
		balances, err := market.Balances(ts)
		if err != nil {
			t.Fatal(err)
		}
		p := gridPrices{islanded: terms.Islanded, retail: int64(terms.Retail), feedIn: int64(terms.FeedIn), fee: int64(terms.CommunityFee)}
		if got, want := p.net(&s), int64(balances[market.HouseholdAccount(id)]); got != want {
			t.Fatalf("got %d micro-units, the market has %d", got, want)
		}
	})
}

// day is a device that counts 7 Wh in and 5 out in a minute, and its settlements: good
// ones, a gap of five intervals, one of two right after it, a correction and a substitute.
func day() (func(time.Time) (counters, error), []ledger.Settlement) {
	const first = 100
	calendar := market.Calendar{Length: intervalLength}
	count := func(at time.Time) (counters, error) {
		minutes := uint64(at.Unix() / 60)
		return counters{ImportWh: 7 * minutes * minutes / 1000, ExportWh: 5 * minutes}, nil
	}
	var list []ledger.Settlement
	span := func(n int64, q ledger.Quality) {
		from := market.Interval(first + len(list))
		a, _ := count(calendar.Start(from))
		b, _ := count(calendar.Start(from + market.Interval(n)))
		for i := range n {
			list = append(list, ledger.Settlement{
				Number: uint64(len(list) + 1), Retail: 300_000, FeedIn: 80_000, Interval: from + market.Interval(i), Version: 1, Quality: q, Price: 150_000, Bought: 20,
				Import: ledger.Share(market.WattHours(b.ImportWh-a.ImportWh), i, n),
				Export: ledger.Share(market.WattHours(b.ExportWh-a.ExportWh), i, n),
			})
		}
	}
	span(1, ledger.QualityGood)
	span(1, ledger.QualityGood)
	span(5, ledger.QualityEstimated)
	span(2, ledger.QualityEstimated)
	span(1, ledger.QualityGood)
	return count, list
}

// What is wrong is named, and what is right is not.
func TestRecountNames(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(list []ledger.Settlement) []ledger.Settlement
		want   string
	}{
		{"nothing", func(l []ledger.Settlement) []ledger.Settlement { return l }, ""},
		{"a correction", func(l []ledger.Settlement) []ledger.Settlement {
			again := l[9]
			l[9].Quality, l[9].Import, l[9].Export = ledger.QualitySubstitute, 20, 0
			again.Version = 2
			return append(l, again)
		}, ""},
		{"a Wh more", func(l []ledger.Settlement) []ledger.Settlement { l[1].Import++; return l }, "interval 101: metered"},
		{"a Wh from one share to another", func(l []ledger.Settlement) []ledger.Settlement {
			l[3].Export++
			l[4].Export--
			return l
		}, "intervals 102 to 108 are no even shares"},
		{"an interval left out", func(l []ledger.Settlement) []ledger.Settlement { return append(l[:4], l[5:]...) }, "intervals 104 to 104 are not settled"},
		{"an interval twice", func(l []ledger.Settlement) []ledger.Settlement {
			return append(l[:2], append([]ledger.Settlement{l[1]}, l[2:]...)...)
		}, "interval 101: version 1 comes after 1"},
		{"a substitute of more than was allocated", func(l []ledger.Settlement) []ledger.Settlement {
			l[9].Quality = ledger.QualitySubstitute
			return l
		}, "interval 109: the substitute"},
	} {
		count, list := day()
		r := recount{calendar: market.Calendar{Length: intervalLength}, prices: gridPrices{retail: 300_000, feedIn: 80_000}, count: count}
		for _, s := range test.change(list) {
			s.Alone = market.Money(r.prices.alone(&s))
			r.take(&s)
		}
		if _, err := r.balance(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(r.wrong, "; "); (got == "") != (test.want == "") || !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
		if len(r.newest) == 0 {
			t.Errorf("%s: nothing was read", test.name)
		}
	}
}

// At every pace the counter of a boundary can be read as long as a reading may prove it.
func TestPace(t *testing.T) {
	for d := fastestPace; d <= slowestPace; d += 100 * time.Millisecond {
		p := paceOf(d)
		if got := p.wall(intervalLength); got < d*9/10 || got > d*11/10 {
			t.Errorf("%v: 15 minutes pass in %v", d, got)
		}
		if intervalLength%p.refresh() != 0 || p.tolerance() >= p.refresh() || p.tolerance() < time.Second {
			t.Errorf("%v: refresh %v, tolerance %v", d, p.refresh(), p.tolerance())
		}
		if p.wall(p.refresh()) < shortestRefresh && d >= shortestRefresh {
			t.Errorf("%v: a counter stays for %v only", d, p.wall(p.refresh()))
		}
		if p.wall(p.deadline(0)) < reportPatience {
			t.Errorf("%v: a report is substituted after %v", d, p.wall(p.deadline(0)))
		}
	}
	if p := paceOf(defaultPace); p.rate != 90 || p.refresh() != 3*time.Minute || p.tolerance() != 3*time.Minute-time.Second || p.deadline(0) != leastDeadline {
		t.Errorf("the default: %+v, refresh %v, tolerance %v, deadline %v", p, p.refresh(), p.tolerance(), p.deadline(0))
	}
}
