package household

import (
	"encoding/hex"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// shownIntervals is how many intervals the picture goes back.
const shownIntervals = 96

// picture draws the home as it is now. Only New and follow call it.
func (h *Home) picture() api.Snapshot {
	now := h.community()
	role := api.RoleReplica
	status := h.opt.Ledger.Status()
	if status.IsValidator {
		role = api.RoleValidator
	}
	v := &view{home: h, now: now, current: h.calendar.At(now)}
	h.opt.Ledger.Read(v.readLedger)
	h.mu.Lock()
	v.metered = maps.Clone(h.metered)
	devices := make([]deviceView, len(h.meters))
	for i, d := range h.meters {
		devices[i] = d.view
	}
	refused := h.refusedReports()
	h.mu.Unlock()
	s := api.Snapshot{
		At: now, WallAt: h.opt.Now().UTC(),
		Home: api.Home{
			ID: h.id.String(), Name: h.opt.Config.Name, Community: h.chainID, Role: role,
			IntervalS: int64(h.calendar.Length / time.Second), Rate: h.clock.Rate,
		},
		PriceNow:  v.price(v.current),
		PriceNext: v.price(v.current + 1),
		Intervals: v.intervals(),
		Account:   h.account(v.balance, v.member),
		Meters:    h.showMeters(devices),
	}
	s.Power = h.power(devices, v.shares(v.current))
	s.Ledger = h.showLedger()
	s.Problems = h.problems(&s, v, refused)
	return s
}

// view is what one picture takes from the ledger.
type view struct {
	home    *Home
	now     time.Time
	current market.Interval
	next    market.Interval // whose gate closes next
	member  bool
	from    market.Interval // the meter's first interval
	balance market.Money
	open    map[market.Interval]ledger.IntervalRecord
	metered map[market.Interval]energy
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
	if m, ok := s.Household(v.home.id); ok {
		v.balance = m.Balance
		if d, ok := s.Meter(m.Meter); ok && m.HasMeter {
			v.member, v.from = true, d.From
		}
	}
}

func (v *view) price(k market.Interval) api.Price {
	start, index := v.home.calendar.Start(k), int64(k)
	p := api.Price{Interval: &index, Start: &start}
	if t := v.home.rules.GridTariff(); t != nil {
		p.ImportPrice, p.ExportPrice = number(t.Retail()), number(t.FeedIn())
	}
	if r, ok := v.open[k]; ok && r.State != ledger.IntervalOpen {
		p.Price = number(r.Price)
	} else if r, ok := v.home.book.results[k]; ok {
		p.Price = number(r.Price)
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
	if e, ok := v.metered[k]; ok {
		i.ImportWh, i.ExportWh, i.Quality = number(e.Import), number(e.Export), quality(e.Quality)
	}
	if line, ok := v.home.book.lines[k]; ok {
		v.settled(&i, line)
		return i
	}
	r, ok := v.open[k]
	if !ok || r.State == ledger.IntervalOpen {
		if k < v.next {
			i.State = api.StateGateClosed
		}
		return i
	}
	i.State, i.Price = api.StateCleared, number(r.Price)
	if v.now.After(v.home.calendar.End(k).Add(v.tolerance())) && i.ImportWh == nil {
		i.State = api.StateMissing
	}
	if e, ok := r.Entry(v.home.id); ok {
		bought, sold := totals(&r)
		i.BoughtWh = number(scale(e.Bought, bought-r.GridImport, bought))
		i.SoldWh = number(scale(e.Sold, sold-r.GridExport, sold))
	}
	return i
}

func (v *view) tolerance() time.Duration {
	return time.Duration(v.home.rules.ReadingToleranceS) * time.Second
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

// localShares is how much of what was allocated for an interval neighbours trade
// among themselves.
type localShares struct {
	known          bool
	bought, sold   market.WattHours // by this home from and to neighbours
	intervalLength time.Duration
}

func (v *view) shares(k market.Interval) localShares {
	s := localShares{intervalLength: v.home.calendar.Length}
	i := v.interval(k)
	if i.BoughtWh == nil || i.SoldWh == nil {
		return s
	}
	s.known, s.bought, s.sold = true, market.WattHours(*i.BoughtWh), market.WattHours(*i.SoldWh)
	return s
}

// power adds the meters up to one balance; what a silent meter should have told
// is unknown, and so is what follows from it.
func (h *Home) power(devices []deviceView, shares localShares) api.Power {
	var p api.Power
	sum := map[string]*int64{RoleSolar: number(0), RoleBattery: number(0)}
	for i, d := range devices {
		role := h.opt.Config.Meters[i].Role
		p.HasSolar = p.HasSolar || role == RoleSolar
		p.HasBattery = p.HasBattery || role == RoleBattery
		if d.state != api.MeterOK || d.sample.PowerW == nil {
			sum[role] = nil
			continue
		}
		if p.At == nil || d.lastAt.Before(*p.At) {
			at := d.lastAt
			p.At = &at
		}
		if role == RoleConnection {
			p.ConnectionW = number(*d.sample.PowerW)
		} else if sum[role] != nil {
			sum[role] = number(*sum[role] + *d.sample.PowerW)
		}
	}
	if p.HasSolar && sum[RoleSolar] != nil {
		p.SolarW = number(max(0, -*sum[RoleSolar])) // behind its own meter, what is produced is export
	}
	if p.HasBattery {
		p.BatteryW = sum[RoleBattery]
	}
	if p.ConnectionW != nil && sum[RoleSolar] != nil && sum[RoleBattery] != nil {
		p.HouseW = number(max(0, *p.ConnectionW-*sum[RoleSolar]-*sum[RoleBattery]))
	}
	p.NeighboursW, p.GridW = split(p.ConnectionW, shares)
	return p
}

// split divides the power at the connection between neighbours and grid, by what
// was allocated for the interval.
func split(connection *int64, s localShares) (neighbours, grid *int64) {
	if connection == nil || !s.known {
		return nil, nil
	}
	perHour := func(wh market.WattHours) int64 {
		return int64(wh) * int64(time.Hour/time.Second) / int64(s.intervalLength/time.Second)
	}
	c := *connection
	n := min(max(c, 0), perHour(s.bought))
	if c < 0 {
		n = -min(-c, perHour(s.sold))
	}
	return number(n), number(c - n)
}

func (h *Home) account(balance market.Money, member bool) api.Account {
	a := api.Account{Currency: "EUR"}
	if !member {
		return a
	}
	t := h.book.total
	a.Balance, a.Earned, a.Spent = number(balance), number(t.earned), number(t.spent)
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
			Identity: d.identity, State: d.state, Note: d.note,
		}
		if c.Unit > 0 {
			m.Address = fmt.Sprintf("%s unit %d", c.Address, c.Unit)
		}
		if !d.lastAt.IsZero() {
			at := d.lastAt
			m.LastAt, m.PowerW = &at, d.sample.PowerW
			m.ImportWh, m.ExportWh = counter(d.sample.ImportWh), counter(d.sample.ExportWh)
		}
		if d.state == api.MeterOK {
			m.Quality = api.QualityGood
		}
		list[i] = m
	}
	return list
}

func (h *Home) showLedger() api.Ledger {
	s := h.opt.Ledger.Status()
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
	for code, n := range s.Rejected {
		l.Rejected[code] = int64(n) //nolint:gosec // a count of a few
	}
	if h.opt.Peers != nil {
		l.Peers = h.opt.Peers()
	}
	return l
}

// refusedReports names the intervals whose reports the ledger refused for good. The
// caller holds mu.
func (h *Home) refusedReports() map[market.Interval]string {
	refused := map[market.Interval]string{}
	for k, p := range h.reports {
		if p.refused != nil {
			refused[k] = p.refused.Error()
		}
	}
	return refused
}

func (h *Home) problems(s *api.Snapshot, v *view, refused map[market.Interval]string) []api.Problem {
	list := []api.Problem{}
	if !v.member {
		list = append(list, api.Problem{
			Code: "not-a-member", Severity: api.SeverityWarning,
			Text: "This home is not registered on the ledger yet.",
			Hint: "It asks for admission by itself; without an admission file, ask your cooperative for one.",
		})
	}
	if s.Ledger.WaitingFor != "" {
		list = append(list, api.Problem{
			Code: "ledger-waiting", Severity: api.SeverityWarning, Text: "The ledger is " + s.Ledger.WaitingFor + ".",
			Hint: "Metering goes on; what is metered meanwhile is settled afterwards.",
		})
	}
	for _, m := range s.Meters {
		switch m.State {
		case api.MeterSilent:
			list = append(list, api.Problem{
				Code: "meter-silent", Severity: api.SeverityWarning,
				Text: "The " + m.Role + " meter does not answer: its intervals are marked missing.",
				Hint: "Check its cable and address " + m.Address + ".",
			})
		case api.MeterSuspect:
			list = append(list, api.Problem{
				Code: "meter-suspect", Severity: api.SeverityWarning,
				Text: "The " + m.Role + " meter tells values that cannot be true; they are not used.", Hint: m.Note,
			})
		}
	}
	for _, k := range slices.Sorted(maps.Keys(refused)) {
		list = append(list, api.Problem{
			Code: "report-refused", Severity: api.SeverityWarning,
			Text: fmt.Sprintf("The ledger refused the meter report of interval %d: %s.", k, refused[k]),
			Hint: "The readings stay in home.db; show them to your cooperative.",
		})
	}
	return list
}

func quality(q ledger.Quality) api.Quality {
	switch q {
	case ledger.QualityGood:
		return api.QualityGood
	case ledger.QualityEstimated:
		return api.QualityEstimated
	case ledger.QualitySubstitute:
		return api.QualitySubstitute
	default:
		return ""
	}
}

// number makes a known value of any integer type.
func number[T ~int | ~int64](v T) *int64 {
	n := int64(v)
	return &n
}

func counter(v *uint64) *int64 {
	if v == nil {
		return nil
	}
	return number(int64(*v)) //nolint:gosec // a counter of Wh
}
