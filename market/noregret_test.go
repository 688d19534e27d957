package market_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
)

// gridMarkets draws markets that have a grid.
func gridMarkets(t *rapid.T, g generator) market.Market {
	m := g.draw(t)
	if m.Tariff == nil {
		a, b := g.price.Draw(t, "grid price"), g.price.Draw(t, "grid price")
		m.Tariff = &market.Tariff{ImportPrice: max(a, b), ExportPrice: min(a, b)}
	}
	return m
}

// costOf returns what a household's transfers cost it but for the community fee,
// and how many lines that is, counting those that come to nothing.
func costOf(t *rapid.T, p market.Position, terms market.Terms) (cost, lines market.Money) {
	transfers, err := market.SettleHousehold(7, p, terms)
	if err != nil {
		t.Fatal(err)
	}
	off := p.Imbalance()
	for _, wh := range []market.WattHours{p.Bought, p.Sold, off.Import, off.Surplus, off.Export, off.Shortfall} {
		lines += market.Money(min(wh, 1))
	}
	for _, x := range transfers {
		if x.Kind == market.KindCommunityFee {
			continue
		}
		if x.Debit == market.HouseholdAccount(p.Household) {
			cost += x.Amount
		} else {
			cost -= x.Amount
		}
	}
	return cost, lines
}

func amountOf(t *rapid.T, p market.Price, wh market.WattHours) market.Money {
	m, err := market.Amount(p, wh)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// M12, forward: a household that bids or offers at the no-regret prices of its own
// node, fees included, among neighbours who do as they like, on a network with
// limits and fees. Its meter counts what it likes: of that, only what was ordered and
// then not used or delivered may cost more, at most the difference between retail
// and feed-in.
func TestR9NoOneWorseOffForward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := gridMarkets(t, streetMarkets())
		node := rapid.SampledFrom(m.Network.Nodes).Draw(t, "own node").ID
		terms := termsAt(t, m, market.Clearing{}, node)
		terms.CommunityFee = 1_000
		preference := market.NoRegret(market.Tariff{ImportPrice: terms.Retail, ExportPrice: terms.FeedIn})
		quantity := market.WattHours(rapid.IntRange(1, 5000).Draw(t, "quantity"))
		own := market.Order{ID: "own", Node: node, Side: market.Bid, Steps: []market.Step{{Price: preference.MaxBuy, WattHours: quantity}}}
		if rapid.Bool().Draw(t, "offers") {
			own.Side, own.Steps[0].Price = market.Offer, preference.MinSell
		}
		for i := range m.Orders {
			m.Orders[i].ID, m.Orders[i].Household = string(rune('a'+i)), market.HouseholdID{}
		}
		m.Orders = append(m.Orders, own)
		c, err := market.Clear(m)
		if err != nil {
			t.Fatal(err)
		}
		p := market.Position{Household: home}
		add(&p, own.Side, c.Allocations[len(c.Allocations)-1])
		p = metered(t, p)
		unused := quantity - p.MeteredImport
		if own.Side == market.Offer {
			unused = quantity - p.MeteredExport
		}
		if rapid.Bool().Draw(t, "as ordered") {
			p.MeteredImport, p.MeteredExport, unused = quantity, 0, 0
			if own.Side == market.Offer {
				p.MeteredImport, p.MeteredExport = 0, quantity
			}
		}
		alone, err := market.Alone(p, terms)
		if err != nil {
			t.Fatal(err)
		}
		cost, lines := costOf(t, p, terms)
		if most := alone + amountOf(t, terms.Retail-terms.FeedIn, max(unused, 0)) + lines + 1; cost > most {
			t.Fatalf("M12: pays %d with its neighbours, %d alone, want at most %d: %+v at %+v", cost, alone, most, p, terms)
		}
	})
}

// M12, metered: a whole community in which everybody has the no-regret preference,
// and some have a curve that is better still for themselves. By every rule there is
// no imbalance but what was not traded, and nobody pays more than alone.
func TestR9NoOneWorseOffMetered(t *testing.T) {
	for _, rule := range market.Rules() {
		t.Run(rule, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { meteredStreet(t, rule) })
		})
	}
}

func meteredStreet(t *rapid.T, rule string) {
	g := streetMarkets()
	g.edges = rule == market.RuleUniform
	m := gridMarkets(t, g)
	m.Rule, m.Orders = rule, nil
	var homes []market.Metered
	var terms []market.Terms
	counter := rapid.OneOf(rapid.Just(0), rapid.IntRange(1, 5000))
	for i := range rapid.IntRange(1, 8).Draw(t, "homes") {
		h := market.Metered{
			Household: market.HouseholdID{byte(i)}, Node: rapid.SampledFrom(m.Network.Nodes).Draw(t, "node").ID,
			Import: market.WattHours(counter.Draw(t, "import")), Export: market.WattHours(counter.Draw(t, "export")),
		}
		at := termsAt(t, m, market.Clearing{}, h.Node)
		at.CommunityFee = 1_000
		h.Preference = market.NoRegret(market.Tariff{ImportPrice: at.Retail, ExportPrice: at.FeedIn})
		if better := market.Price(rapid.IntRange(0, 1<<17).Draw(t, "better")); better > 0 && rule != market.RuleMcAfee {
			h.Bid = []market.Step{{Price: at.Retail - better, WattHours: market.WattHours(counter.Draw(t, "bid") + 1)}}
			h.Offer = []market.Step{{Price: at.FeedIn + better, WattHours: market.WattHours(counter.Draw(t, "offer") + 1)}}
		}
		homes, terms = append(homes, h), append(terms, at)
		m.Orders = h.Orders(m.Orders)
	}
	c, err := market.NewClearer().Clear(m)
	if err != nil {
		t.Fatal(err)
	}
	var positions []market.Position
	var counted market.WattHours
	for i, h := range homes {
		p := market.Position{Household: h.Household, MeteredImport: h.Import, MeteredExport: h.Export}
		for k, o := range m.Orders {
			if o.Household == h.Household {
				add(&p, o.Side, c.Allocations[k])
			}
		}
		if off := p.Imbalance(); off.Surplus != 0 || off.Shortfall != 0 {
			t.Fatalf("M4: got %+v, want no more than was metered", off)
		}
		counted += p.MeteredImport - p.MeteredExport
		alone, err := market.Alone(p, terms[i])
		if err != nil {
			t.Fatal(err)
		}
		if cost, lines := costOf(t, p, terms[i]); cost > alone+lines {
			t.Fatalf("M12: home %d pays %d with its neighbours, %d alone: %+v at %+v", i, cost, alone, p, terms[i])
		}
		positions = append(positions, p)
	}
	supplied := c.GridImport - c.GridExport
	for _, p := range positions {
		supplied += p.Imbalance().Import - p.Imbalance().Export
	}
	if supplied != counted {
		t.Fatalf("M10: the supplier's part is %d Wh, the meters counted %d", supplied, counted)
	}
	if left := balancesOf(t, settle(t, positions, terms, totalsOf(m, c)))[market.AccountMarket]; left != 0 {
		t.Fatalf("M9: the market is left with %d, want 0", left)
	}
}
