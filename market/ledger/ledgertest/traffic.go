package ledgertest

import (
	"crypto/ed25519"
	"fmt"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Source draws a number from 0 to n-1. *math/rand/v2.Rand is one.
type Source interface{ IntN(n int) int }

// Traffic makes the blocks of a lively street: people join, order, withdraw, report
// in time, late, twice or not at all, for one Interval or for a gap; some of it is
// refused, some is garbage. It reads the state after the blocks that it made; the
// caller applies them.
type Traffic struct {
	Community *Community
	Homes     []*Home
	State     *ledger.State
	Source    Source

	seq     uint64
	homes   int                               // made so far
	devices map[ledger.Key]ed25519.PrivateKey // every gateway's so far
	sent    [][]byte
	history []ledger.Event
}

// Note takes what a block that the caller applied came to: corrections prove by it what
// they correct.
func (t *Traffic) Note(d *ledger.Delta) { t.history = append(t.history, d.History...) }

// NewTraffic makes the traffic of n homes.
func NewTraffic(c *Community, s *ledger.State, n int, src Source) *Traffic {
	t := &Traffic{Community: c, State: s, Source: src, devices: map[ledger.Key]ed25519.PrivateKey{}}
	for range n {
		t.Homes = append(t.Homes, t.newHome())
	}
	return t
}

// Block makes the next block.
func (t *Traffic) Block() ledger.Block {
	var b ledger.Block
	for i := range b.Seed {
		b.Seed[i] = byte(t.Source.IntN(256)) //nolint:gosec // below 256
	}
	for _, v := range t.State.Validators() {
		if t.Source.IntN(5) > 0 {
			b.Signed = append(b.Signed, ledger.AddressOf(v.Key))
		}
		if t.Source.IntN(40) == 0 {
			b.Faulty = append(b.Faulty, ledger.AddressOf(v.Key))
		}
	}
	for range t.Source.IntN(8) {
		tx := t.tx()
		b.Txs = append(b.Txs, tx)
		t.sent = append(t.sent, tx)
	}
	if t.Source.IntN(2) == 0 {
		next := t.State.Next()
		span := t.Source.IntN(3)
		if t.Source.IntN(12) == 0 {
			span = t.Source.IntN(60) // an outage
		}
		begun := next
		if t.Source.IntN(3) == 0 {
			begun += market.Interval(t.Source.IntN(span + 2)) // of an outage's, those that came too late
		}
		b.Txs = append(b.Txs, ledger.NewTick(next, next+market.Interval(span), begun))
	}
	return b
}

func (t *Traffic) tx() []byte {
	i := t.Source.IntN(len(t.Homes))
	h := t.Homes[i]
	t.seq++
	member, joined := t.State.Household(h.ID)
	if joined {
		if key := t.devices[member.Device]; key != nil && t.Source.IntN(8) > 0 { // else the old one goes on
			h.Device = key
		}
		if !member.Takes(t.State.Next()) && t.Source.IntN(12) == 0 {
			t.Homes[i] = t.newHome() // somebody else moves in
		}
	}
	kind := t.Source.IntN(20)
	switch again := t.Source.IntN(24); {
	case !joined && kind < 12 || again == 0:
		return t.Community.Join(h, 1+t.Source.IntN(3))
	case joined && !member.HasMeter && kind < 12 || again == 1:
		return t.Community.Install(h, 1+t.Source.IntN(3))
	case again == 2 && kind < 8:
		return t.vote(h)
	case again == 2:
		return t.office()
	case again == 3:
		return t.move(h)
	case again == 4:
		return t.correct(h)
	case again == 5:
		return t.replace(h)
	case again == 6:
		return t.device(h)
	case again == 7 && kind < 3:
		return t.Community.Leave(h, t.State.Next()+market.Interval(t.Source.IntN(5)-1), ledger.DepartBy(1+t.Source.IntN(3)), 1+t.Source.IntN(3)) //nolint:gosec // small
	case kind < 2:
		return t.Community.Prefer(h, t.seq, market.Price(t.Source.IntN(400_000)), market.Price(t.Source.IntN(400_000)))
	case kind < 9:
		return t.order(h)
	case kind < 17:
		return t.report(h)
	default:
		return t.garbage(h)
	}
}

// office is a decision of the cooperative or a limit of the grid operator.
func (t *Traffic) office() []byte {
	from := t.State.Next() + market.Interval(t.Source.IntN(6)-1)
	number := t.State.Decisions() + 1 + uint64(t.Source.IntN(8)/7) //nolint:gosec // small
	switch t.Source.IntN(4) {
	case 0:
		r := t.State.Rules()
		r.CommunityFee = market.Price(t.Source.IntN(20_000))
		r.Tariff = &ledger.Tariff{ImportPrice: market.Price(250_000 + t.Source.IntN(100_000)), ExportPrice: market.Price(t.Source.IntN(260_000))}
		if t.Source.IntN(3) == 0 {
			r.Tariff = nil
		}
		r.Rule = market.Rules()[t.Source.IntN(len(market.Rules()))]
		r.ApprovalsNeeded = 1 + t.Source.IntN(3)
		r.Clearing = []string{ledger.ClearingForward, ledger.ClearingMetered}[t.Source.IntN(2)]
		return t.Community.Decide(ledger.SetRules{Number: number, From: from, Rules: r}, 1+t.Source.IntN(3))
	case 1:
		n := ledger.Node{ID: fmt.Sprintf("feeder-%d", t.Source.IntN(3)), Parent: ledger.RootNode}
		switch t.Source.IntN(3) {
		case 0:
			n.ImportFee = market.Price(t.Source.IntN(9_000))
		case 1:
			n.ExportLimitW = new(int64(t.Source.IntN(4_000)))
		}
		return t.Community.Network(ledger.SetNetwork{Number: number, From: from, Nodes: []ledger.Node{n}}, 1+t.Source.IntN(3))
	case 2:
		return t.Community.Network(ledger.SetNetwork{Number: number, From: from, Remove: []string{fmt.Sprintf("feeder-%d", t.Source.IntN(3))}}, 3)
	default:
		e := ledger.Envelope{
			Seq: t.seq, Node: fmt.Sprintf("feeder-%d", t.Source.IntN(3)), Reason: "test",
			From: from, Until: from + market.Interval(1+t.Source.IntN(5)),
		}
		switch t.Source.IntN(3) {
		case 0:
			e.ImportW = new(int64(t.Source.IntN(8_000)))
		case 1:
			e.ExportW = new(int64(t.Source.IntN(2_000)))
		default:
			e.Lift = true
		}
		return t.Community.Limit(e)
	}
}

func (t *Traffic) move(h *Home) []byte {
	m := ledger.SetMembership{Seq: t.seq, Node: ledger.RootNode, ShareKey: int64(t.Source.IntN(4))}
	if n := t.Source.IntN(4); n < 3 {
		m.Node = fmt.Sprintf("feeder-%d", n)
	}
	if t.Source.IntN(2) == 0 {
		m.Participation = []ledger.Participation{{Community: "elsewhere", Permille: 250}, {Community: ChainID, Permille: uint16(1 + t.Source.IntN(750))}} //nolint:gosec // small
	}
	return t.Community.Move(h, m, 3)
}

// correct corrects some settlement of the home.
func (t *Traffic) correct(h *Home) []byte {
	r := ledger.CorrectReport{
		Interval: t.State.Next() - 1, Version: 1, Reason: "test",
		Import: market.WattHours(t.Source.IntN(2000)), Export: market.WattHours(t.Source.IntN(2000)),
	}
	for i := len(t.history) - 1 - t.Source.IntN(20); i >= 0; i-- {
		if s := t.history[i].Settlement; s != nil && s.Household == h.ID {
			r.Interval, r.Version = s.Interval, s.Version
			break
		}
	}
	return t.Community.Correct(h, r, t.history, 1+t.Source.IntN(3))
}

func (t *Traffic) order(h *Home) []byte {
	k := t.State.Next() + market.Interval(t.Source.IntN(4)-t.Source.IntN(2))
	side, price, rise := market.Bid, 350_000, -1
	if t.Source.IntN(2) == 0 {
		side, price, rise = market.Offer, 50_000, 1
	}
	var steps []ledger.Step
	for range 1 + t.Source.IntN(3) {
		price += rise * t.Source.IntN(120_000)
		steps = append(steps, ledger.Step{Price: market.Price(price), WattHours: market.WattHours(t.Source.IntN(2000))})
	}
	if t.Source.IntN(10) == 0 {
		steps = []ledger.Step{{}} // withdrawn
	}
	seq := t.seq
	if t.Source.IntN(12) == 0 {
		seq = 1
	}
	return t.Community.Order(h, k, side, seq, steps...)
}

// replace begins another epoch of the home's meter, mostly with the first Interval that is
// not reported.
func (t *Traffic) replace(h *Home) []byte {
	r := ledger.ReplaceMeter{
		Meter: ledger.MeterIDOf(Public(h.Meter)), Key: Public(h.Meter), From: t.State.Next() - market.Interval(t.Source.IntN(3)),
		SignedBy: ledger.SignedByAgent, Definition: "sunspec-meter@2", Reason: "test",
	}
	if m, ok := t.State.Meter(r.Meter); ok {
		r.Epoch = m.Epoch + uint32(t.Source.IntN(4)/3+1) - uint32(t.Source.IntN(6)/5) //nolint:gosec // small
		if t.Source.IntN(2) == 0 {
			r.From = m.Last + 1
		}
	}
	return t.Community.Replace(h, r, 1+t.Source.IntN(3))
}

// report is of the next Interval mostly, else of some other.
func (t *Traffic) report(h *Home) []byte {
	from := t.State.Next() - market.Interval(t.Source.IntN(4))
	m, ok := t.State.Meter(ledger.MeterIDOf(Public(h.Meter)))
	if ok && t.Source.IntN(4) != 0 {
		from = m.Last + 1
	}
	if open := t.State.Intervals(); len(open) > 0 && t.Source.IntN(6) == 0 {
		from = open[t.Source.IntN(len(open))]
	}
	count := uint32(1)
	if t.Source.IntN(4) == 0 {
		count += uint32(t.Source.IntN(4)) //nolint:gosec // small
	}
	if of := *h; ok && m.Epoch > 0 {
		of.Epoch = m.Epoch
		if from < m.EpochFrom {
			of.Epoch--
		}
		h = &of
	}
	return t.Community.Report(h, from, count)
}

// vote gives the home a vote, changes its key, or takes somebody's away.
func (t *Traffic) vote(h *Home) []byte {
	number := t.State.ValidatorChanges() + 1 + uint64(t.Source.IntN(8)/7) //nolint:gosec // small
	if all := t.State.Validators(); t.Source.IntN(3) == 0 {
		v := all[t.Source.IntN(len(all))]
		return t.Community.Unvote(v.Household, number, v.Key, 1+t.Source.IntN(3))
	}
	key := Key(fmt.Sprintf("%s/validator/%d", h.Name, t.seq))
	if t.Source.IntN(6) == 0 {
		key = h.Validator // of some, the one of the genesis
	}
	return t.Community.Vote(h, number, key, 1+t.Source.IntN(3))
}

func (t *Traffic) newHome() *Home {
	h := NewHome(fmt.Sprintf("home/%d", t.homes))
	t.homes++
	t.devices[Public(h.Device)] = h.Device
	return h
}

// device brings the home another gateway, or revokes the one it has.
func (t *Traffic) device(h *Home) []byte {
	if t.Source.IntN(4) == 0 {
		return t.Community.Revoke(h, t.seq)
	}
	device, network := Key(fmt.Sprintf("%s/device/%d", h.Name, t.seq)), Key(fmt.Sprintf("%s/network/%d", h.Name, t.seq))
	if t.Source.IntN(6) == 0 { // somebody's in use
		network = t.Homes[t.Source.IntN(len(t.Homes))].Network
	}
	t.devices[Public(device)] = device
	seq := t.seq
	if t.Source.IntN(8) == 0 {
		seq = 1
	}
	return t.Community.Device(h, seq, device, network)
}

// garbage is forged, or repeats or damages what was sent before.
func (t *Traffic) garbage(h *Home) []byte {
	if len(t.sent) == 0 {
		return []byte("garbage")
	}
	old := t.sent[t.Source.IntN(len(t.sent))]
	b := append([]byte(nil), old...)
	switch t.Source.IntN(3) {
	case 0:
		return old
	case 1:
		b = t.order(h)
		b[len(b)-1] ^= 1 // of its signature
		return b
	}
	b[t.Source.IntN(len(b))] ^= 1 << t.Source.IntN(8)
	return b
}
