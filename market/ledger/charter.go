package ledger

import (
	"maps"
	"slices"

	"github.com/commonwatt/commonwatt/market"
)

// charter is what the community decided and the grid operators set, by the Interval from
// which on it holds. Lists and maps are replaced, never written to: a draft begins with
// its state's own.
type charter struct {
	rules     versions[Rules]
	networks  versions[Network]
	operators map[uint64]*Operator // by their place in the genesis
}

// versions are values by the Interval from which on they hold, oldest first. The first
// is the genesis's, from 0 on.
type versions[T any] []version[T]

type version[T any] struct {
	from  market.Interval
	value *T
}

func (v versions[T]) at(k market.Interval) *T {
	i := len(v) - 1
	for i > 0 && v[i].from > k {
		i--
	}
	return v[i].value
}

// with returns the versions with one more, in place of one from the same Interval.
func (v versions[T]) with(from market.Interval, value *T) versions[T] {
	i, same := slices.BinarySearchFunc(v, from, func(x version[T], k market.Interval) int { return int(x.from - k) })
	out := slices.Clone(v)
	if same {
		out[i].value = value
		return out
	}
	return slices.Insert(out, i, version[T]{from: from, value: value})
}

// since returns the versions that hold at some Interval from k on, and the first.
func (v versions[T]) since(k market.Interval) versions[T] {
	i := 1
	for i+1 < len(v) && v[i+1].from <= k {
		i++
	}
	if i == 1 {
		return v
	}
	return slices.Insert(slices.Clone(v[i:]), 0, v[0])
}

// find returns the value that begins at k.
func (v versions[T]) find(k market.Interval) *T {
	for _, x := range v[1:] {
		if x.from == k {
			return x.value
		}
	}
	return nil
}

// maxPending bounds the decisions whose Interval is still to come.
const maxPending = 16

// pending counts the versions from k on.
func (v versions[T]) pending(k market.Interval) int {
	n := 0
	for _, x := range v {
		if x.from >= k {
			n++
		}
	}
	return n
}

func (c *charter) rulesAt(k market.Interval) *Rules     { return c.rules.at(k) }
func (c *charter) networkAt(k market.Interval) *Network { return c.networks.at(k) }

// ruleAt is the rule by which an Interval is cleared: the community's, but uniform where
// an Envelope binds, because the others know no limits.
func (c *charter) ruleAt(k market.Interval) string {
	if len(c.limitsAt(k)) > 0 {
		return market.RuleUniform
	}
	return c.rulesAt(k).Rule
}

// tariffAt is the grid's tariff at a node, fees included; nil when islanded.
func (c *charter) tariffAt(k market.Interval, node uint32) *market.Tariff {
	t := c.rulesAt(k).GridTariff()
	if t == nil {
		return nil
	}
	at := c.networkAt(k).tariffAt(*t, node)
	return &at
}

// termsAt are the prices of what the market did not trade, at a node with that price (R7).
func (c *charter) termsAt(k market.Interval, node uint32, price market.Price) market.Terms {
	r := c.rulesAt(k)
	terms := market.Terms{CommunityFee: r.CommunityFee}
	if t := c.tariffAt(k, node); t != nil {
		terms.Retail, terms.FeedIn = t.ImportPrice, t.ExportPrice
		return terms
	}
	terms.Islanded, terms.Retail, terms.FeedIn = true, price, price
	if t := r.IslandTariff; t != nil {
		terms.Retail, terms.FeedIn = t.ImportPrice, t.ExportPrice
	}
	return terms
}

// preferenceAt is a household's standing Preference: its own, or the no-regret pair.
func (c *charter) preferenceAt(k market.Interval, h *Household, node uint32) market.Preference {
	if h.PreferenceSeq > 0 {
		return market.Preference{MinSell: h.MinSell, MaxBuy: h.MaxBuy}
	}
	if t := c.tariffAt(k, node); t != nil {
		return market.NoRegret(*t)
	}
	r := c.rulesAt(k)
	return market.Preference{MinSell: r.PriceMin, MaxBuy: r.PriceMax}
}

// Operator is the record of a grid operator.
type Operator struct {
	_         struct{}   `cbor:",toarray"`
	Seq       uint64     // of its newest Envelope
	Envelopes []Envelope // that may still bind, oldest first
}

// Envelope is a grid operator's limit on a node: on the connection of a home, on a
// feeder, or on the whole community where one node holds it. While it is in force it
// stands in the place of the node's own limits. Of two Envelopes of one operator the
// newer binds in each direction that it speaks of; of two operators' the tighter.
type Envelope struct {
	_       struct{} `cbor:",toarray"`
	Seq     uint64   // above the operator's last
	Node    string
	ImportW *int64 // towards the node; null: says nothing of imports
	ExportW *int64
	Lift    bool            // ends earlier Envelopes of the operator for this node and span: its own limits again
	From    market.Interval // half-open
	Until   market.Interval
	Reason  string
}

func (e *Envelope) covers(k market.Interval) bool { return e.From <= k && k < e.Until }

// A Limit is what binds at a node in an Interval, in W; nil where nothing does.
type Limit struct {
	ImportW, ExportW *int64
	// The Envelopes that say so; nil where it is the node's own limit.
	ImportBy, ExportBy *Envelope
}

// limitsAt returns what Envelopes say of an Interval, by node.
func (c *charter) limitsAt(k market.Interval) map[string]Limit {
	all := map[string]Limit{}
	for _, i := range slices.Sorted(maps.Keys(c.operators)) {
		own := map[string]Limit{}
		for j := range c.operators[i].Envelopes {
			e := &c.operators[i].Envelopes[j]
			if !e.covers(k) {
				continue
			}
			l := own[e.Node]
			if e.Lift {
				l = Limit{}
			}
			if e.ImportW != nil {
				l.ImportW, l.ImportBy = e.ImportW, e
			}
			if e.ExportW != nil {
				l.ExportW, l.ExportBy = e.ExportW, e
			}
			own[e.Node] = l
		}
		for node, l := range own {
			all[node] = all[node].tighter(l)
		}
	}
	return all
}

func (l Limit) tighter(x Limit) Limit {
	if x.ImportW != nil && (l.ImportW == nil || *x.ImportW < *l.ImportW) {
		l.ImportW, l.ImportBy = x.ImportW, x.ImportBy
	}
	if x.ExportW != nil && (l.ExportW == nil || *x.ExportW < *l.ExportW) {
		l.ExportW, l.ExportBy = x.ExportW, x.ExportBy
	}
	return l
}

// over lays what Envelopes say over a node's own limits.
func (l Limit) over(n *Node) Limit {
	if l.ImportW == nil {
		l.ImportW = n.ImportLimitW
	}
	if l.ExportW == nil {
		l.ExportW = n.ExportLimitW
	}
	return l
}

// marketNetwork is the network of an Interval, with what Envelopes say.
func (c *charter) marketNetwork(k market.Interval) market.Network {
	envelopes := c.limitsAt(k)
	var in limits
	if len(envelopes) > 0 {
		in = func(n *Node) (imports, exports *int64) {
			l := envelopes[n.ID].over(n)
			return l.ImportW, l.ExportW
		}
	}
	seconds := c.rulesAt(k).IntervalS
	return market.Network{Nodes: c.networkAt(k).market(seconds, in)}
}

// forget drops what is needed no more: decisions that hold for no Interval from oldest on,
// and Envelopes that end before unsettled, the oldest that is still to be settled.
func (c *charter) forget(oldest, unsettled market.Interval) {
	c.rules, c.networks = c.rules.since(oldest), c.networks.since(oldest)
	past := func(e Envelope) bool { return e.Until <= unsettled }
	for i, o := range c.operators {
		if slices.ContainsFunc(o.Envelopes, past) {
			kept := &Operator{Seq: o.Seq, Envelopes: slices.DeleteFunc(slices.Clone(o.Envelopes), past)}
			if len(kept.Envelopes) == 0 {
				kept.Envelopes = nil // one encoding of none
			}
			c.setOperator(i, kept)
		}
	}
}

// setOperator replaces a record in a map of its own.
func (c *charter) setOperator(i uint64, o *Operator) {
	operators := maps.Clone(c.operators)
	if operators == nil {
		operators = map[uint64]*Operator{}
	}
	operators[i] = o
	c.operators = operators
}
