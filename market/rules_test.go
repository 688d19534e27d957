package market_test

import (
	"cmp"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
)

// ruleMarkets draw what the rules of R4 take: networks without limits and fees,
// for mcafee orders of one price, for sharing a price and perhaps keys.
func ruleMarkets(t *rapid.T, g generator, rule string) market.Market {
	g.edges = false
	m := g.draw(t)
	m.Rule = rule
	switch rule {
	case market.RuleMcAfee:
		for i := range m.Orders {
			m.Orders[i].Steps = m.Orders[i].Steps[:1]
		}
	case market.RuleSharing:
		if m.Tariff == nil || rapid.Bool().Draw(t, "fixed price") {
			m.Sharing.Price = new(g.price.Draw(t, "price"))
		}
		if rapid.Bool().Draw(t, "keys") {
			var sum int64
			for i := range m.Orders {
				if m.Orders[i].Side == market.Bid {
					m.Orders[i].Key = int64(rapid.IntRange(0, 5).Draw(t, "key"))
					sum += m.Orders[i].Key
				} else {
					m.Orders[i].Key = -1 // nobody looks at it
				}
			}
			if rapid.Bool().Draw(t, "absent") {
				m.Sharing.Keys = sum + int64(rapid.IntRange(0, 5).Draw(t, "absent keys"))
			}
		}
	}
	return m
}

// otherRules are those of R4.
func otherRules() []string { return market.Rules()[1:] }

// settleable returns what is wrong with a clearing by any rule, or nothing:
// M3, M4, the limits of orders, and whether R7 can settle it.
func settleable(m market.Market, c market.Clearing) string {
	p := certificate{m: m, c: c, flow: map[string]market.WattHours{}}
	for _, f := range c.Flows {
		p.flow[f.Node] = f.WattHours
	}
	if problem := p.network(); problem != "" {
		return problem
	}
	value := new(big.Int)
	var positions []market.Position
	for i, o := range m.Orders {
		a := c.Allocations[i]
		left, worth := a.WattHours, new(big.Int)
		for _, s := range o.Steps {
			taken := min(left, s.WattHours)
			left -= taken
			worth.Add(worth, new(big.Int).Mul(big.NewInt(int64(s.Price)), big.NewInt(int64(taken))))
		}
		if a.Order != i || a.WattHours < 0 || left > 0 {
			return "M4: more than the order"
		}
		// 1000 × amount is at most half a micro-unit of rounding beyond the limits.
		gain := new(big.Int).Sub(worth, new(big.Int).Mul(big.NewInt(int64(a.Amount)), big.NewInt(1000)))
		if o.Side == market.Offer {
			gain.Neg(gain)
			worth.Neg(worth)
		}
		if gain.Cmp(big.NewInt(-500)) < 0 {
			return "R4: order " + o.ID + " pays more than its limit, or is paid less"
		}
		value.Add(value, worth)
		position := market.Position{Household: market.HouseholdID{byte(i)}}
		add(&position, o.Side, a)
		positions = append(positions, position)
	}
	for _, f := range c.Flows {
		value.Sub(value, new(big.Int).Mul(big.NewInt(int64(f.Fee)), new(big.Int).Abs(big.NewInt(int64(f.WattHours)))))
	}
	if m.Tariff != nil {
		value.Add(value, new(big.Int).Mul(big.NewInt(int64(m.Tariff.ExportPrice)), big.NewInt(int64(c.GridExport))))
		value.Sub(value, new(big.Int).Mul(big.NewInt(int64(m.Tariff.ImportPrice)), big.NewInt(int64(c.GridImport))))
	}
	if exact := roundDumb(new(big.Rat).SetFrac(value, big.NewInt(1000))); !exact.IsInt64() || exact.Int64() != int64(c.Welfare) {
		return "M1: wrong welfare"
	}
	var pool market.Pool
	for _, position := range positions {
		if err := pool.Add(position); err != nil {
			if errors.Is(err, market.ErrOverflow) {
				return ""
			}
			return err.Error()
		}
	}
	if _, err := market.SettleMarket(7, totalsOf(m, c), pool); err != nil && !errors.Is(err, market.ErrOverflow) {
		return err.Error() // of M9: what bids pay is not what offers are paid
	}
	return ""
}

// Balance, budget and limits: R4 keeps M3, M4 and M9, and nobody loses.
func TestR4BalancesAndKeepsLimits(t *testing.T) {
	reused := market.NewClearer()
	for _, rule := range append(otherRules(), market.RuleUniform) {
		for name, g := range map[string]generator{"small": smallMarkets(), "long": longMarkets(), "street": streetMarkets(), "wide": wideMarkets()} {
			t.Run(rule+" "+name, func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) {
					m := ruleMarkets(t, g, rule)
					c, err := market.Clear(m)
					if name == "wide" && errors.Is(err, market.ErrOverflow) {
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					if name == "wide" && rule == market.RuleUniform && errors.Is(c.Unpayable, market.ErrOverflow) {
						return // its Amounts are not to be used
					}
					if problem := settleable(m, c); problem != "" {
						t.Fatalf("%s\nmarket %+v\nclearing %+v", problem, m, c)
					}
					again, err := reused.Clear(m) // by another rule before, perhaps
					if err != nil {
						t.Fatal(err)
					}
					if diff := diffClearing(c, again); diff != "" {
						t.Fatalf("a Clearer that cleared other markets before (-fresh +reused):\n%s", diff)
					}
				})
			})
		}
	}
}

// shuffled returns a market with its orders and nodes in another order, and where
// each order was.
func shuffled(t *rapid.T, m market.Market) (market.Market, []int) {
	places := make([]int, len(m.Orders))
	for i := range places {
		places[i] = i
	}
	places = rapid.Permutation(places).Draw(t, "order of orders")
	other := m
	other.Orders = nil
	for _, i := range places {
		other.Orders = append(other.Orders, m.Orders[i])
	}
	other.Network.Nodes = rapid.Permutation(m.Network.Nodes).Draw(t, "order of nodes")
	return other, places
}

// unshuffled puts an answer into the first order again.
func unshuffled(c market.Clearing, places []int) market.Clearing {
	for i := range c.Allocations {
		c.Allocations[i].Order = places[i]
	}
	slices.SortFunc(c.Allocations, func(a, b market.Allocation) int { return cmp.Compare(a.Order, b.Order) })
	slices.SortFunc(c.Flows, func(a, b market.Flow) int { return cmp.Compare(a.Node, b.Node) })
	slices.SortFunc(c.Prices, func(a, b market.NodePrice) int { return cmp.Compare(a.Node, b.Node) })
	return c
}

// M8: whoever writes the book cannot favour anyone by its order, by no rule.
func TestM8OrderOfBookAndNodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rule := rapid.SampledFrom(market.Rules()).Draw(t, "rule")
		m := smallMarkets().edged().draw(t)
		if rule != market.RuleUniform {
			m = ruleMarkets(t, smallMarkets(), rule)
		}
		first, err := market.Clear(m)
		if err != nil {
			t.Fatal(err)
		}
		other, places := shuffled(t, m)
		second, err := market.Clear(other)
		if err != nil {
			t.Fatal(err)
		}
		same := make([]int, len(places))
		for i := range same {
			same[i] = i
		}
		if diff := diffClearing(unshuffled(first, same), unshuffled(second, places)); diff != "" {
			t.Fatalf("another order gives another answer (-first +second):\n%s", diff)
		}
	})
}

func TestR4Refuses(t *testing.T) {
	root := market.Node{ID: "root"}
	limit := market.WattHours(0)
	network := func(n market.Node) market.Network {
		n.ID, n.Parent = "f1", "root"
		return market.Network{Nodes: []market.Node{root, n}}
	}
	for field, n := range map[string]market.Node{
		"import_limit_wh": {ImportLimit: &limit}, "export_limit_wh": {ExportLimit: &limit}, "import_fee": {ImportFee: 1}, "export_fee": {ExportFee: 1},
	} {
		for _, rule := range otherRules() {
			_, err := market.Clear(market.Market{Rule: rule, Network: network(n), Sharing: market.Sharing{Price: new(market.Price)}})
			if !errors.Is(err, market.ErrBadNetwork) || !strings.Contains(err.Error(), `node "f1": `+field+": ") || !strings.Contains(err.Error(), rule) {
				t.Errorf("%s: got %v, want %v of node f1, %s", rule, err, market.ErrBadNetwork, field)
			}
		}
	}
	bid := func(key int64) market.Order {
		return market.Order{ID: "a", Node: "root", Side: market.Bid, Steps: steps(10, 5), Key: key}
	}
	other := bid(1 << 62)
	other.ID = "b"
	for _, test := range []struct {
		name    string
		rule    string
		orders  []market.Order
		sharing market.Sharing
		want    error
		says    string
	}{
		{"two prices", market.RuleMcAfee, []market.Order{{ID: "a", Node: "root", Side: market.Offer, Steps: steps(1, 5, 2, 5)}}, market.Sharing{}, market.ErrTooManySteps, `order "a": steps: got 2`},
		{"no price", market.RuleSharing, nil, market.Sharing{}, market.ErrBadTariff, "sharing: price: got none"},
		{"too dear", market.RuleSharing, nil, market.Sharing{Price: new(market.MaxPrice + 1)}, market.ErrPriceOutOfBounds, "sharing: price: got"},
		{"too cheap", market.RuleSharing, nil, market.Sharing{Price: new(-market.MaxPrice - 1)}, market.ErrPriceOutOfBounds, "sharing: price: got"},
		{"negative key", market.RuleSharing, []market.Order{bid(-1)}, market.Sharing{Price: new(market.Price)}, market.ErrBadQuantity, `order "a": key: got -1`},
		{"keys too large", market.RuleSharing, []market.Order{bid(1), other}, market.Sharing{Price: new(market.Price)}, market.ErrBadQuantity, `order "b": key: got`},
		{"more than all keys", market.RuleSharing, []market.Order{bid(9)}, market.Sharing{Price: new(market.Price), Keys: 8}, market.ErrBadQuantity, "sharing: keys: got 8"},
		{"negative keys", market.RuleSharing, nil, market.Sharing{Price: new(market.Price), Keys: -1}, market.ErrBadQuantity, "sharing: keys: got -1"},
	} {
		_, err := market.Clear(market.Market{Rule: test.rule, Network: market.Network{Nodes: []market.Node{root}}, Orders: test.orders, Sharing: test.sharing})
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want %v that says %q", test.name, err, test.want, test.says)
		}
	}
}
