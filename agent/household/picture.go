package household

import (
	"encoding/hex"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// shownIntervals is how many intervals the picture goes back.
const shownIntervals = 96

// picture draws the home as it is now. Only New and follow call it.
func (h *Home) picture() api.Snapshot {
	wall := h.opt.Now().UTC()
	now := h.clock.Community(wall)
	role := api.RoleReplica
	status := h.opt.Ledger.Status()
	switch {
	case status.Light:
		role = api.RoleLight
	case status.IsValidator:
		role = api.RoleValidator
	}
	v := &view{home: h, ledger: status, now: now, current: h.calendar.At(now)}
	h.opt.Ledger.Read(v.readLedger)
	h.mu.Lock()
	v.metered = maps.Clone(h.metered)
	v.devices = make([]deviceView, len(h.meters))
	for i, d := range h.meters {
		v.devices[i] = d.view.snapshot()
	}
	v.controls = h.showControls()
	v.refused = h.refusedReports()
	v.missed = h.outbox.missed
	v.notAdmitted = h.notAdmitted
	h.mu.Unlock()
	v.unkept = h.history.failing()
	s := api.Snapshot{
		At: now, WallAt: wall,
		Home: api.Home{
			ID: h.id.String(), Name: h.opt.Config.Name, Community: h.chainID, Role: role,
			IntervalS: int64(h.calendar.Length / time.Second), Rate: h.clock.Rate,
		},
		PriceNow:  v.price(v.current),
		PriceNext: v.price(v.current + 1),
		Intervals: v.intervals(),
		Account:   h.account(v.member),
		Meters:    h.showMeters(v.devices),
		Controls:  v.controls,
		Clock:     h.showClock(),
		Power:     h.power(v.devices, v.shares(v.current)),
		Ledger:    h.showLedger(status),
		Grid:      v.grid,
	}
	for _, c := range v.controls {
		if s.Power.BatterySOCBp == nil {
			s.Power.BatterySOCBp = c.SOCBp
		}
	}
	v.lonely = h.lonely(&status, &s.Ledger)
	s.Problems = v.problems(&s)
	return s
}

// view is what one picture is drawn of.
type view struct {
	home    *Home
	ledger  consensus.Status
	now     time.Time
	current market.Interval

	next   market.Interval // whose gate closes next
	member bool
	from   market.Interval // the meter's first interval
	open   map[market.Interval]ledger.IntervalRecord
	prices map[market.Interval]market.Price   // at the home's node, of those that are open and cleared
	tariff map[market.Interval]*market.Tariff // at the home's node, of this interval and the next

	grid *api.Grid

	metered     map[market.Interval]energy
	devices     []deviceView
	refused     refusedReports
	missed      missedOrders
	controls    []api.Control
	notAdmitted string
	unkept      string // why readings are not kept
	place       place
	foreign     bool // catching up, and so far the keys are not the household's
	lonely      bool // nobody has been connected for long
}

func (v *view) readLedger(s *ledger.State) {
	v.next = s.Next()
	v.open = map[market.Interval]ledger.IntervalRecord{}
	first := max(v.current, v.next) - shownIntervals
	for _, k := range s.Intervals() {
		if r, ok := s.Interval(k); ok && k >= first {
			v.open[k] = *r
		}
	}
	v.prices, v.tariff = map[market.Interval]market.Price{}, map[market.Interval]*market.Tariff{}
	if h, ok := s.Household(v.home.id); ok {
		for k, r := range v.open {
			node, _ := s.NetworkAt(k).Index(h.Node)
			if e, ours := r.Entry(v.home.id); ours {
				node = e.Node
			}
			if p, cleared := r.PriceAt(node); cleared {
				v.prices[k] = p
			}
		}
		for _, k := range []market.Interval{v.current, v.current + 1} {
			v.tariff[k] = s.TariffAt(k, h.Node)
		}
	}
	v.grid = v.newestGrid(s)
	v.readPlace(s)
	r := registrationOf(s, v.home.id)
	v.member, v.from = r.metered, r.from
}

func (v *view) price(k market.Interval) api.Price {
	start, index := v.home.calendar.Start(k), int64(k)
	p := api.Price{Interval: &index, Start: &start}
	if t := v.tariff[k]; t != nil {
		p.ImportPrice, p.ExportPrice = number(t.Retail()), number(t.FeedIn())
	}
	if price, ok := v.prices[k]; ok {
		p.Price = number(price)
	} else if line, ok := v.home.book.lines[k]; ok {
		p.Price = number(line.last.Price)
	}
	return p
}

// intervals lists what the home has lived, and the ones that are open next.
func (v *view) intervals() []api.Interval {
	if !v.member {
		return nil
	}
	last := max(v.next, v.current+1)
	var list []api.Interval
	for k := max(v.from, last-shownIntervals+1); k <= last; k++ {
		list = append(list, v.interval(k))
	}
	return list
}

func (v *view) interval(k market.Interval) api.Interval {
	i := api.Interval{Interval: int64(k), Start: v.home.calendar.Start(k), State: api.StateOpen}
	if line, ok := v.home.book.lines[k]; ok {
		v.settled(&i, line)
		return i
	}
	r := v.open[k]
	entry, ours := r.Entry(v.home.id)
	e, known := v.metered[k]
	if ours && metered(entry.Quality) {
		e, known = energy{Import: entry.Import, Export: entry.Export, Quality: entry.Quality}, true
	}
	if known {
		i.ImportWh, i.ExportWh, i.Quality = number(e.Import), number(e.Export), quality(e.Quality)
	}
	if price, ok := v.prices[k]; ok {
		i.Price = number(price)
	}
	switch cleared := r.State == ledger.IntervalCleared; {
	case !known && v.now.After(v.home.calendar.End(k).Add(v.home.tolerance())):
		i.State = api.StateMissing
	case cleared:
		i.State = api.StateCleared
	case k < v.next || v.now.After(v.home.calendar.GateClosure(k)):
		i.State = api.StateGateClosed
	}
	if ours && r.State == ledger.IntervalCleared { // a settled record has not all entries any more
		bought, sold := totals(&r)
		i.BoughtWh = number(scale(entry.Bought, bought-r.GridImport, bought))
		i.SoldWh = number(scale(entry.Sold, sold-r.GridExport, sold))
	}
	return i
}

func (v *view) settled(i *api.Interval, line *bookLine) {
	s := &line.last
	i.State, i.Price = api.StateSettled, number(s.Price)
	if s.Quality == ledger.QualitySubstitute {
		i.State = api.StateSubstitute
	}
	i.ImportWh, i.ExportWh, i.Quality = number(s.Import), number(s.Export), quality(s.Quality)
	i.Net = number(line.net)
	if line.saved != nil {
		i.Saved = number(*line.saved)
	}
	if r, ok := v.home.book.results[market.Interval(i.Interval)]; ok {
		sold := r.Bought - r.GridImport + r.GridExport
		i.BoughtWh = number(scale(s.Bought, r.Bought-r.GridImport, r.Bought))
		i.SoldWh = number(scale(s.Sold, sold-r.GridExport, sold))
	}
}

// totals are what all households bought and sold in a cleared interval.
func totals(r *ledger.IntervalRecord) (bought, sold market.WattHours) {
	for i := range r.Entries {
		bought += r.Entries[i].Bought
		sold += r.Entries[i].Sold
	}
	return bought, sold
}

// scale is wh × part / whole, rounded down: the home's share of what neighbours
// traded with each other. It is for the page only; money never depends on it.
func scale(wh, part, whole market.WattHours) market.WattHours {
	if whole <= 0 || part <= 0 || wh <= 0 {
		return 0
	}
	hi, lo := bits.Mul64(uint64(wh), uint64(part))
	if hi >= uint64(whole) {
		return 0
	}
	q, _ := bits.Div64(hi, lo, uint64(whole))
	return market.WattHours(q) //nolint:gosec // part ≤ whole, so q ≤ wh
}

// account is all of one state of the ledger: balance = earned - spent.
func (h *Home) account(member bool) api.Account {
	a := api.Account{Currency: "EUR"}
	if !member {
		return a
	}
	t := h.book.total
	a.Balance, a.Earned, a.Spent = number(h.book.balance), number(t.earned), number(t.spent)
	if t.savedKnown {
		a.Saved = number(t.saved)
	}
	a.Settlements = t.settlements
	return a
}

func (h *Home) showMeters(devices []deviceView) []api.Meter {
	list := make([]api.Meter, len(devices))
	for i, d := range devices {
		c := h.opt.Config.Meters[i]
		m := api.Meter{
			Role: c.Role, Definition: c.Definition, Address: c.Address,
			Identity: d.identity, State: d.state, SignedBy: d.signedBy, SetAside: d.waiting,
			Readings: d.accepted, Others: d.counts,
		}
		if d.state != api.MeterOK {
			m.Note = d.note
		}
		if c.Unit > 0 {
			m.Address = fmt.Sprintf("%s unit %d", c.Address, c.Unit)
		}
		if !d.lastAt.IsZero() {
			at := d.lastAt
			m.LastAt, m.PowerW = &at, d.sample.PowerW
			m.ImportWh, m.ExportWh = counter(d.sample.ImportWh), counter(d.sample.ExportWh)
		}
		switch d.state {
		case api.MeterOK:
			m.Quality = api.QualityGood
		case api.MeterSuspect:
			m.Quality = api.QualityDoubtful
		case api.MeterStarting, api.MeterSilent:
		}
		list[i] = m
	}
	return list
}

func (h *Home) showLedger(s consensus.Status) api.Ledger {
	l := api.Ledger{
		ChainID: s.ChainID, Height: number(s.Height), AppHash: hex.EncodeToString(s.AppHash),
		CatchingUp: s.CatchingUp, ValidatorsTotal: number(s.ValidatorsTotal),
		WaitingFor: s.Waiting, PoolSize: int64(s.Pool), Rejected: map[string]int64{},
	}
	if !s.LastBlockWall.IsZero() {
		l.LastBlockAt = &s.LastBlockWall
	}
	up := int64(0)
	for _, v := range s.Validators {
		if v.Online {
			up++
		}
	}
	l.ValidatorsUp = &up
	l.Providers = showProviders(s)
	for code, n := range s.Rejected {
		l.Rejected[code] = int64(n) //nolint:gosec // a count of a few
	}
	l.Omitted, l.BadProposals = map[string]int64{}, map[string]map[string]int64{}
	for proposer, n := range s.Omitted {
		l.Omitted[proposer] = int64(n) //nolint:gosec // a count of a few
	}
	for proposer, reasons := range s.BadProposals {
		l.BadProposals[proposer] = map[string]int64{}
		for reason, n := range reasons {
			l.BadProposals[proposer][reason] = int64(n) //nolint:gosec // a count of a few
		}
	}
	for _, d := range s.DoubleVoted {
		l.DoubleVotes = append(l.DoubleVotes, d.Address)
	}
	if h.opt.Peers != nil {
		l.Peers = h.opt.Peers()
	}
	if h.opt.Reached != nil {
		l.Reached = h.opt.Reached()
	}
	return l
}

func quality(q ledger.Quality) api.Quality {
	switch q {
	case ledger.QualityGood:
		return api.QualityGood
	case ledger.QualityEstimated:
		return api.QualityEstimated
	case ledger.QualitySubstitute:
		return api.QualitySubstitute
	case ledger.QualityDoubtful:
		return api.QualityDoubtful
	case ledger.QualityCorrected:
		return api.QualityCorrected
	case ledger.QualityMissing:
	}
	return ""
}

// number makes a known value of any integer type.
func number[T ~int | ~int64](v T) *int64 {
	n := int64(v)
	return &n
}

// counter is unknown where the page cannot show it.
func counter(v *uint64) *int64 {
	if v == nil || *v > math.MaxInt64 {
		return nil
	}
	return number(int64(*v))
}
