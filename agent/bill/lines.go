package bill

import (
	"fmt"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// lines checks every line: its place, that its amounts follow from its energy and prices
// by R7, and the hash chain with it, so that the first one that has been changed is named.
func (v *verifier) lines() error {
	v.sum = ledger.NewMonth(v.p.Household, v.p.Month)
	latest := map[market.Interval]*ledger.Settlement{}
	v.first = map[market.Interval]*ledger.Settlement{}
	first, end := v.account.Calendar.OfMonth(v.p.Month, v.account.Zone)
	for i := range v.p.Lines {
		l := &v.p.Lines[i]
		place := fmt.Sprintf("line %d", i+1)
		if _, err := time.Parse(time.RFC3339, l.Start); err == nil { // nobody's own words
			place += " (" + l.Start + ")"
		}
		s, err := l.settlement(v.p.Household)
		if err != nil {
			return mismatch(place, "%v", err)
		}
		before := latest[s.Interval]
		latest[s.Interval] = s
		if before == nil {
			v.first[s.Interval] = s
		}
		switch {
		case l.Number != v.sum.Lines+1:
			return mismatch(place+": number", "got %d, want %d: lines are missing, there twice, or in another order", l.Number, v.sum.Lines+1)
		case s.Interval < first || s.Interval >= end:
			return mismatch(place+": interval", "got %d, want %d to %d, those of %s", s.Interval, first, end-1, v.p.Month)
		case l.Start != startText(v.account, s.Interval):
			return mismatch(place+": start", "interval %d begins at %s", s.Interval, startText(v.account, s.Interval))
		case before == nil && s.Version != 1:
			return mismatch(place+": version", "got %d, want 1: it is the first line of its interval", s.Version)
		case before != nil && s.Version != before.Version+1:
			return mismatch(place+": version", "got %d, want %d: the line of its interval before has %d", s.Version, before.Version+1, before.Version)
		}
		if err := v.arithmetic(place, s, before); err != nil {
			return err
		}
		if err := v.sum.Add(s, before); err != nil {
			return mismatch(place, "%v", err)
		}
		if chain := consensus.Hash(v.sum.Chain[:]); chain.String() != l.Chain.String() {
			return mismatch(place, "its fields hash to %s, want chain %s: one of them has been changed", chain, l.Chain)
		}
		v.settled = append(v.settled, s)
		if v.progress != nil {
			v.progress(i+1, len(v.p.Lines))
		}
	}
	return nil
}

// arithmetic holds a line's amounts against R7.
func (v *verifier) arithmetic(place string, s, before *ledger.Settlement) error {
	for i, m := range s.Moves {
		if m.Amount <= 0 || (m.Debit == 0) == (m.Credit == 0) {
			return mismatch(fmt.Sprintf("%s: moves[%d]", place, i), "got %d from %q to %q, want more than 0, from or to the household",
				m.Amount, m.Debit.Account(ownAccount), m.Credit.Account(ownAccount))
		}
	}
	terms := v.terms(s)
	if err := v.checkTerms(place, s); err != nil {
		return err
	}
	position, err := v.position(place, s)
	if err != nil {
		return err
	}
	alone, err := market.Alone(position, terms)
	if err != nil {
		return mismatch(place, "%v", err)
	}
	if alone != s.Alone {
		return mismatch(place+": alone", "got %d, %d Wh at %d less %d Wh at %d come to %d", s.Alone, s.Import, s.Retail, s.Export, s.FeedIn, alone)
	}
	due, err := market.SettleHousehold(s.Interval, position, terms)
	if err != nil {
		return mismatch(place, "%v", err)
	}
	if before != nil {
		if due, err = v.difference(place, s, before, due, terms); err != nil {
			return err
		}
	}
	return compareMoves(place, s, due, market.HouseholdAccount(v.p.Household))
}

// difference is what a correction has to move: all that is due now, less all that was due
// before. It may change what was metered, and nothing else.
func (v *verifier) difference(place string, s, before *ledger.Settlement, due []market.Transfer, terms market.Terms) ([]market.Transfer, error) {
	for _, f := range []struct {
		name     string
		got, was int64
	}{
		{"bought_wh", int64(s.Bought), int64(before.Bought)},
		{"sold_wh", int64(s.Sold), int64(before.Sold)},
		{"price", int64(s.Price), int64(before.Price)},
		{"retail", int64(s.Retail), int64(before.Retail)},
		{"feed_in", int64(s.FeedIn), int64(before.FeedIn)},
		{"fee", int64(s.Fee), int64(before.Fee)},
		{"rule", int64(s.Rule), int64(before.Rule)},
	} {
		if f.got != f.was {
			return nil, mismatch(place+": "+f.name, "got %d, the line that it corrects has %d", f.got, f.was)
		}
	}
	position, err := v.position(place, before)
	if err != nil {
		return nil, err
	}
	booked, err := market.SettleHousehold(s.Interval, position, terms)
	if err != nil {
		return nil, mismatch(place, "%v", err)
	}
	if due, err = market.Correct(s.Interval, booked, due); err != nil {
		return nil, mismatch(place, "%v", err)
	}
	return due, nil
}

func compareMoves(place string, s *ledger.Settlement, due []market.Transfer, own market.Account) error {
	got := ledger.Transfers(s.Interval, s.Moves, own)
	for i := range max(len(got), len(due)) {
		at := fmt.Sprintf("%s: moves[%d]", place, i)
		switch {
		case i >= len(got):
			return mismatch(at, "there is none, by the market's rules %s is due", describe(due[i]))
		case i >= len(due):
			return mismatch(at, "got %s, by the market's rules nothing more is due", describe(got[i]))
		case got[i] != due[i]:
			return mismatch(at, "got %s, by the market's rules %s is due", describe(got[i]), describe(due[i]))
		}
	}
	return nil
}

func describe(t market.Transfer) string {
	return fmt.Sprintf("%s of %d from %s to %s", t.Kind, t.Amount, t.Debit, t.Credit)
}

// position is what a line settles. What was bought and sold costs its energy at the price
// of its node; under rules by which it does not, it is what was moved at first.
func (v *verifier) position(place string, s *ledger.Settlement) (market.Position, error) {
	p := market.Position{Household: s.Household, Bought: s.Bought, Sold: s.Sold, MeteredImport: s.Import, MeteredExport: s.Export}
	var err error
	if p.Buy, err = market.Amount(s.Price, s.Bought); err != nil {
		return p, mismatch(place+": bought_wh", "%v", err)
	}
	if p.Sell, err = market.Amount(s.Price, s.Sold); err != nil {
		return p, mismatch(place+": sold_wh", "%v", err)
	}
	if paysNodePrice(s.Rule) {
		return p, nil
	}
	amounts, err := amountsOf(v.first[s.Interval].Moves)
	if err != nil {
		return p, mismatch(place+": moves", "%v", err)
	}
	p.Buy, p.Sell = -amounts.Buy, amounts.Sell
	return p, nil
}

// paysNodePrice says whether energy in the market costs the price of its node.
func paysNodePrice(c ledger.RuleCode) bool {
	return c.String() == market.RuleUniform || c.String() == market.RuleSharing
}

// terms are the prices that a line names.
func (v *verifier) terms(s *ledger.Settlement) market.Terms {
	t := market.Terms{Retail: s.Retail, FeedIn: s.FeedIn, CommunityFee: s.Fee}
	if v.p.Clock.Decisions == 0 {
		t.Islanded = v.state.Rules().Tariff == nil
		return t
	}
	for _, m := range s.Moves {
		if m.Debit.Account("") == market.AccountIsland || m.Credit.Account("") == market.AccountIsland {
			t.Islanded = true
		}
	}
	return t
}

// checkTerms holds the prices that a line names against the rules of the genesis, as long
// as nobody has changed them.
func (v *verifier) checkTerms(place string, s *ledger.Settlement) error {
	if v.p.Clock.Decisions != 0 {
		return nil
	}
	rules := v.state.Rules()
	if s.Rule.String() != rules.Rule {
		return mismatch(place+": rule", "got %s, the community's is %s", s.Rule, rules.Rule)
	}
	nodes := v.state.NetworkAt(s.Interval).Nodes
	if int(s.Node) >= len(nodes) {
		return mismatch(place+": node", "got %d, the community's network has %d", s.Node, len(nodes))
	}
	retail, feedIn := s.Price, s.Price
	if t := v.state.TariffAt(s.Interval, nodes[s.Node].ID); t != nil {
		retail, feedIn = t.ImportPrice, t.ExportPrice
	} else if t := rules.IslandTariff; t != nil {
		retail, feedIn = t.ImportPrice, t.ExportPrice
	}
	for _, f := range []struct {
		name      string
		got, want market.Price
	}{{"retail", s.Retail, retail}, {"feed_in", s.FeedIn, feedIn}, {"fee", s.Fee, rules.CommunityFee}} {
		if f.got != f.want {
			return mismatch(place+": "+f.name, "got %d, the community's rules say %d at node %s", f.got, f.want, nodes[s.Node].ID)
		}
	}
	return nil
}
