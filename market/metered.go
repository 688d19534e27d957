package market

import (
	"cmp"
	"slices"
)

// wholeMeter is the whole of a meter, in permille.
const wholeMeter = 1000

// ShareOf returns the part of wh, at least 0, that lies between two marks on a
// scale of permille. A meter that takes part in several communities gives each
// the span from where the one before ends: each part is within 1 Wh of its share,
// and spans that join add up exactly. Marks are 0 to 1000; what is beyond counts
// as the end.
func ShareOf(wh WattHours, from, to int64) WattHours {
	return upTo(wh, to) - upTo(wh, from)
}

// upTo returns wh × mark / 1000, rounded down.
func upTo(wh WattHours, mark int64) WattHours {
	m := WattHours(min(max(mark, 0), wholeMeter))
	// In two parts, so that the product cannot overflow.
	return wh/wholeMeter*m + wh%wholeMeter*m/wholeMeter
}

// A Metered is what a household's meter counted in an interval that is cleared
// after its delivery (R6). By RuleMcAfee an order has one price: leave out the
// curves, and the preference is that price.
type Metered struct {
	Household  HouseholdID
	Node       string
	Import     WattHours // at least 0; less counts as 0, as does Export
	Export     WattHours
	Bid, Offer []Step // the household's orders at the gate, as R2 wants them; nil for none
	Preference Preference
	Key        int64 // Order.Key of its bid
}

// Orders appends the orders that stand for what was metered: a bid that buys the
// import and an offer that sells the export, or none for 0 Wh. The prices are those
// of the household's own curve, from its beginning, and what goes beyond it is
// priced at the preference. A bid and an offer of one household may cross here.
//
// With the step beyond it a curve may be one too long for an order. Its last step
// then is a second order of the same household and side, right after the first and
// without a key, which Clearer.Clear takes but Clear, strict about names, does not;
// their prices differ, so that the two never compete for one share.
func (m *Metered) Orders(dst []Order) []Order {
	dst = m.appendSide(dst, Bid, m.Import, m.Bid, m.Preference.MaxBuy)
	return m.appendSide(dst, Offer, m.Export, m.Offer, m.Preference.MinSell)
}

// appendSide appends the order, or the two, for one direction of the meter.
func (m *Metered) appendSide(dst []Order, side Side, wh WattHours, curve []Step, beyond Price) []Order {
	if wh <= 0 {
		return dst
	}
	order := Order{Household: m.Household, Node: m.Node, Side: side}
	if side == Bid {
		order.Key = m.Key
	}
	steps := make([]Step, 0, min(len(curve), MaxSteps)+1)
	for _, s := range curve {
		if taken := min(s.WattHours, wh); taken > 0 {
			steps = addStep(steps, side, Step{Price: s.Price, WattHours: taken})
			wh -= taken
		}
	}
	if wh > 0 {
		steps = addStep(steps, side, Step{Price: beyond, WattHours: wh})
	}
	if len(steps) <= MaxSteps {
		order.Steps = steps
		return append(dst, order)
	}
	second := order
	order.Steps, second.Steps, second.Key = steps[:MaxSteps:MaxSteps], steps[MaxSteps:], 0
	return append(dst, order, second)
}

// addStep adds a step where its price belongs on that side, to the step of its
// price if there is one.
func addStep(steps []Step, side Side, s Step) []Step {
	at, same := slices.BinarySearchFunc(steps, s.Price, func(have Step, price Price) int {
		if side == Bid {
			return cmp.Compare(price, have.Price)
		}
		return cmp.Compare(have.Price, price)
	})
	if same {
		steps[at].WattHours += s.WattHours
		return steps
	}
	return slices.Insert(steps, at, s)
}
