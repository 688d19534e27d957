// Package trader decides what a home orders. It is pure: no I/O, no clock, no
// float; what it knows is in its arguments.
//
// This version has one trader, plain and honest: it expects the next interval to
// be like the last one known (persistence) and orders just that, at the standing
// Preference, whose default is the no-regret pair (feed-in price, retail price).
// With a battery that follows what was sold, the house is expected to be like that,
// and the battery's [Plan] is added. [Follow] is the battery's power meanwhile.
// It never orders on both sides of one interval: at no-regret prices a home's bid
// would cross its own offer.
//
// Quantities are whole Wh at the home's connection, at least 0; prices are
// micro-units per kWh.
package trader

import (
	"github.com/commonwatt/commonwatt/market"
)

// Metered is what a home's meter counted in one interval.
type Metered struct {
	Interval market.Interval
	Import   market.WattHours
	Export   market.WattHours
}

// Forecast is what a home expects of one interval, net at its connection: at
// most one of the two is above 0.
type Forecast struct {
	Import market.WattHours
	Export market.WattHours
	From   market.Interval // the interval it was taken from
}

// maxAge is how many intervals old the last known one may be: with a gap of
// hours between, persistence says nothing.
const maxAge = 8

// Persist forecasts interval k from the newest of the metered ones. ok is false if
// none is new enough.
func Persist(k market.Interval, known []Metered) (f Forecast, ok bool) {
	var last *Metered
	for i := range known {
		m := &known[i]
		if m.Interval < k && (last == nil || m.Interval > last.Interval) {
			last = m
		}
	}
	if last == nil || k-last.Interval > maxAge {
		return Forecast{}, false
	}
	f.From = last.Interval
	if last.Import > last.Export {
		f.Import = last.Import - last.Export
	} else {
		f.Export = last.Export - last.Import
	}
	return f, true
}

// Quote makes the order for a forecast: one step at the preference's limit, at most
// max Wh. ok is false if there is nothing to order.
func Quote(f Forecast, p market.Preference, most market.WattHours) (side market.Side, step market.Step, ok bool) {
	switch {
	case f.Import > 0:
		return market.Bid, market.Step{Price: p.MaxBuy, WattHours: min(f.Import, most)}, true
	case f.Export > 0:
		return market.Offer, market.Step{Price: p.MinSell, WattHours: min(f.Export, most)}, true
	default:
		return 0, market.Step{}, false
	}
}
