package api

import (
	"html/template"
	"maps"
	"math"
	"slices"
	"time"
)

// staleAfter is how old, by the wall clock, the power balance may be before the
// page calls it stale.
const staleAfter = 30 * time.Second

// view is a Snapshot in words, ready for the templates, which only place it.
type view struct {
	Version, ReadyNote string
	Settings           bool // people log in here
	Home               Home
	Clock, Date, Stale string
	Speed              string // of community time, if it is not the wall clock's
	Sentence           string
	Problems           []Problem
	Flow, Strip        template.HTML
	Gauge, Network     template.HTML
	Grid               gridView
	Tiles              []tile
	Ribbons            []ribbonRow
	Price              priceView
	Money              moneyView
	Totals             string
	Intervals          []intervalRow
	Ledger             ledgerView
	Meters             []meterView
	Controls           []controlView
}

type tile struct{ Place, Label, Value, Note string }

type ribbonRow struct{ From, To, Power string }

type priceView struct{ Now, Unit, Next, Benefit string }

type moneyView struct{ Earned, Spent, Saved, Balance, Note string }

type intervalRow struct {
	Start, State, StateWord, Price, Bought, Sold, Import, Export, Local, Net, Saved, Quality string
}

type ledgerView struct {
	State, Words                                  string
	Block, Age, Validators, Peers, Pool, Role, ID string
	Hash, Chain                                   string
	Connected, Reached                            string
	Rejected                                      []count
}

type count struct{ Code, Count string }

type meterView struct {
	Role, State, Power, Import, Export, Last, Definition, Address, Identity, Quality, Note, Signed, Class string
}

func newView(s Snapshot, version string, zone *time.Location) view {
	f := newFlows(s.Power)
	at := s.At.In(zone)
	v := view{
		Version: version, Home: s.Home, Sentence: sentence(s), Problems: s.Problems,
		Clock: at.Format("15:04:05"), Date: at.Format("Mon 2 Jan 2006"), Stale: stale(s, zone),
		Flow: drawFlow(s.Power), Gauge: drawGauge(s.PriceNow, s.Account.Currency),
		Strip: drawStrip(s.Intervals, s.PriceNow, s.Account.Currency, zone),
		Tiles: newTiles(s.Power), Price: newPriceView(s, zone), Money: newMoneyView(s.Account),
		Totals: newTotals(s), Ledger: newLedgerView(s), Network: drawGrid(s.Grid, s.Account.Currency), Grid: newGridView(s, zone),
	}
	if s.Home.Rate > 1 {
		v.Speed = formatCount(&s.Home.Rate) + "× speed"
	}
	for _, r := range f.ribbons {
		v.Ribbons = append(v.Ribbons, ribbonRow{r.from.label(), r.to.label(), formatPower(&r.w)})
	}
	for _, i := range slices.Backward(s.Intervals) { // newest first, as people look for it
		v.Intervals = append(v.Intervals, newIntervalRow(i, s.Account.Currency, zone))
	}
	for _, c := range s.Controls {
		v.Controls = append(v.Controls, newControlView(c))
	}
	for _, m := range s.Meters {
		v.Meters = append(v.Meters, newMeterView(m, zone))
	}
	return v
}

// stale says since when there is nothing new about the power; empty if it is fresh.
func stale(s Snapshot, zone *time.Location) string {
	if s.Power.At == nil {
		return "no reading yet"
	}
	// Sub saturates, so a wrong clock cannot wrap around; a rate below 1 is no rate.
	if age := s.At.Sub(*s.Power.At) / time.Duration(max(s.Home.Rate, 1)); age > staleAfter {
		return "stale, last reading " + s.Power.At.In(zone).Format("15:04")
	}
	return ""
}

func newTiles(p Power) []tile {
	var out []tile
	add := func(pl place, w *int64, note string) {
		out = append(out, tile{string(pl), pl.label(), magnitude(w), note})
	}
	add(placeHouse, p.HouseW, direction(p.HouseW, "uses", "gives", "off"))
	if p.HasSolar {
		add(placeRoof, p.SolarW, direction(p.SolarW, "makes", "draws", "rests"))
	}
	if p.HasBattery {
		note := direction(p.BatteryW, "charges", "gives", "rests")
		if p.BatterySOCBp != nil {
			note += ", " + formatShare(p.BatterySOCBp)
		}
		add(placeBattery, p.BatteryW, note)
	}
	if p.ConnectionW != nil && (p.NeighboursW == nil || p.GridW == nil) {
		add(placeStreet, p.ConnectionW, direction(p.ConnectionW, "you draw", "you give", "nothing"))
		return out
	}
	add(placeNeighbours, p.NeighboursW, direction(p.NeighboursW, "you buy", "you sell", "no trade"))
	add(placeGrid, p.GridW, direction(p.GridW, "you draw", "you feed in", "nothing"))
	return out
}

// magnitude writes power without its sign, which the words beside it say.
func magnitude(w *int64) string {
	if w == nil {
		return unknown
	}
	return formatMagnitude(*w)
}

// direction picks the word for a sign.
func direction(w *int64, positive, negative, zero string) string {
	switch {
	case w == nil:
		return "unknown"
	case *w > 0:
		return positive
	case *w < 0:
		return negative
	default:
		return zero
	}
}

func newPriceView(s Snapshot, zone *time.Location) priceView {
	v := priceView{Now: formatPrice(s.PriceNow.Price, s.Account.Currency), Unit: "per kWh"}
	if s.PriceNow.Price == nil {
		v.Unit = "per kWh, not known yet"
	}
	if s.PriceNext.Start != nil {
		v.Next = "Until " + s.PriceNext.Start.In(zone).Format("15:04") + ", then "
		if s.PriceNext.Price == nil {
			v.Next += "not known yet."
		} else {
			v.Next += formatPrice(s.PriceNext.Price, s.Account.Currency) + "."
		}
	}
	p, retail, feedIn := s.PriceNow.Price, s.PriceNow.ImportPrice, s.PriceNow.ExportPrice
	if p == nil || retail == nil || feedIn == nil {
		return v
	}
	less, more := saturatingSub(*retail, *p), saturatingSub(*p, *feedIn)
	if less >= 0 && more >= 0 {
		v.Benefit = "Buying is " + formatPrice(&less, s.Account.Currency) + " cheaper than the grid, selling brings " +
			formatPrice(&more, s.Account.Currency) + " more than feeding in."
	}
	return v
}

func newMoneyView(a Account) moneyView {
	v := moneyView{
		Earned: formatMoney(a.Earned, a.Currency), Spent: formatMoney(a.Spent, a.Currency),
		Saved: formatMoney(a.Saved, a.Currency), Balance: formatMoney(a.Balance, a.Currency),
	}
	switch a.Settlements {
	case 0:
		v.Note = "No interval is settled yet."
	case 1:
		v.Note = "Since joining: 1 settled interval."
	default:
		v.Note = "Since joining: " + formatCount(&a.Settlements) + " settled intervals."
	}
	return v
}

// newTotals sums up the intervals shown; intervals without a value are counted,
// not taken as 0.
func newTotals(s Snapshot) string {
	if len(s.Intervals) == 0 {
		return "No interval yet."
	}
	var net, bought, sold int64
	var settled int64
	for _, i := range s.Intervals {
		if i.Net == nil {
			continue
		}
		settled++
		net = saturatingAdd(net, *i.Net)
		if i.BoughtWh != nil {
			bought = saturatingAdd(bought, *i.BoughtWh)
		}
		if i.SoldWh != nil {
			sold = saturatingAdd(sold, *i.SoldWh)
		}
	}
	if settled == 0 {
		return "None of them is settled yet."
	}
	return formatEnergy(&sold) + " sold to and " + formatEnergy(&bought) + " bought from neighbours, net " +
		formatMoney(&net, s.Account.Currency) + " in " + formatCount(&settled) + " settled " + plural(settled != 1, "interval", "intervals") + "."
}

func saturatingAdd(a, b int64) int64 {
	switch {
	case b > 0 && a > math.MaxInt64-b:
		return math.MaxInt64
	case b < 0 && a < math.MinInt64-b:
		return math.MinInt64
	default:
		return a + b
	}
}

func saturatingSub(a, b int64) int64 {
	if b == math.MinInt64 {
		return saturatingAdd(saturatingAdd(a, math.MaxInt64), 1)
	}
	return saturatingAdd(a, -b)
}

var stateWords = map[IntervalState]string{
	StateOpen: "open", StateGateClosed: "gate closed", StateCleared: "cleared", StateMissing: "missing",
	StateProvisional: "provisional", StateSubstitute: "substitute", StateSettled: "settled",
}

func newIntervalRow(i Interval, currency string, zone *time.Location) intervalRow {
	word, ok := stateWords[i.State]
	if !ok {
		word = unknown
	}
	return intervalRow{
		Start: i.Start.In(zone).Format("15:04"), State: string(i.State), StateWord: word,
		Price:  formatPrice(i.Price, currency),
		Bought: formatEnergy(i.BoughtWh), Sold: formatEnergy(i.SoldWh),
		Import: formatEnergy(i.ImportWh), Export: formatEnergy(i.ExportWh),
		Local: formatShare(i.LocalShareBp), Net: formatSmallMoney(i.Net, currency), Saved: formatSmallMoney(i.Saved, currency),
		Quality: string(i.Quality),
	}
}

func newLedgerView(s Snapshot) ledgerView {
	l := s.Ledger
	peers := int64(len(l.Peers))
	v := ledgerView{
		State: "ok", Words: "Running: every block is checked on this machine.",
		Block: formatCount(l.Height), Age: unknown, Peers: formatCount(&peers), Pool: formatCount(&l.PoolSize),
		Role: string(s.Home.Role), ID: s.Home.ID, Hash: l.AppHash, Chain: l.ChainID, Connected: connected(l.Peers), Reached: reached(l.Reached),
		Validators: unknown,
	}
	if l.LastBlockAt != nil {
		v.Age = formatAge(s.WallAt.Sub(*l.LastBlockAt)) + " ago"
	}
	if l.ValidatorsUp != nil && l.ValidatorsTotal != nil {
		v.Validators = formatCount(l.ValidatorsUp) + " of " + formatCount(l.ValidatorsTotal)
	} else if l.ValidatorsTotal != nil {
		v.Validators = unknown + " of " + formatCount(l.ValidatorsTotal)
	}
	if s.Home.Role == RoleLight {
		v.Words = "Running: every signature is checked on this machine."
	}
	switch {
	case l.WaitingFor != "":
		v.State, v.Words = "waiting", capitalise(l.WaitingFor)+". The home goes on by itself and catches up."
	case l.CatchingUp:
		v.State, v.Words = "waiting", "Catching up with the community."
	case l.Height == nil:
		v.State, v.Words = "waiting", "No block yet."
	}
	for _, code := range slices.Sorted(maps.Keys(l.Rejected)) {
		n := l.Rejected[code]
		v.Rejected = append(v.Rejected, count{code, formatCount(&n)})
	}
	return v
}

// connected names the first few peers.
func connected(peers []Peer) string {
	const most = 6
	var names []string
	for i, p := range peers {
		if i == most {
			more := int64(len(peers) - most)
			names = append(names, formatCount(&more)+" more")
			break
		}
		name := peerName(p.ID, peers)
		switch p.Path {
		case "local":
			name += " (in the house)"
		case "direct", "punched":
			name += " (" + p.Path + ")"
		case "relayed":
			name += " (through " + peerName(p.Via, peers) + ")"
		}
		names = append(names, name)
	}
	return join(names)
}

// reached says whether others come in by themselves; empty if that is not known.
func reached(yes *bool) string {
	switch {
	case yes == nil:
		return ""
	case *yes:
		return "Others reach this home from outside"
	default:
		return "From outside this home is reached only through holes in its router, or a third home"
	}
}

// peerName is the name of a peer if one is known, else the end of its identity.
func peerName(id string, peers []Peer) string {
	for _, p := range peers {
		if p.ID == id && p.Name != "" {
			return p.Name
		}
	}
	return "peer " + id[max(0, len(id)-6):]
}

func newMeterView(m Meter, zone *time.Location) meterView {
	v := meterView{
		Role: m.Role, State: string(m.State), Class: string(m.State), Power: formatPower(m.PowerW), Import: formatEnergy(m.ImportWh), Export: formatEnergy(m.ExportWh),
		Last: unknown, Definition: m.Definition, Address: m.Address, Identity: m.Identity, Quality: string(m.Quality), Note: m.Note,
	}
	switch m.SignedBy {
	case "device":
		v.Signed = "Signed by the device."
	case "agent":
		v.Signed = "Signed by this gateway."
	}
	if m.SetAside {
		v.State = "set aside"
	}
	if m.LastAt != nil {
		v.Last = m.LastAt.In(zone).Format("15:04:05")
	}
	return v
}
