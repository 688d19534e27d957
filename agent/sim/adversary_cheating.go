package sim

import (
	"crypto/ed25519"
	"math/rand/v2"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// cheating is a home that has its meter's key and signs readings that do not join what it
// reported before, of another epoch, that fall, that jump, of another time or meter.
func cheating() *adversary {
	return &adversary{name: "cheating", play: func(h *home, rnd *rand.Rand) {
		h.w.every(rnd, 10*minute, func() {
			s := h.view()
			if s == nil {
				return
			}
			m, ok := s.Meter(h.meterID)
			if !ok || !m.EpochKnown || m.Last+1 > h.w.last {
				return // a lie before the first report would be the truth
			}
			h.w.trick()
			start, end := h.readAt(m.Last+1).Reading, h.readAt(min(m.Last+2, h.w.last+1)).Reading
			start.AtMs += 10 * second // not the reading that ended the Interval before
			from := m.Last + 1
			switch rnd.IntN(6) {
			case 0:
			case 1:
				start.Epoch, end.Epoch = 1, 1
			case 2:
				start.ImportWh = new(*end.ImportWh + 1)
			case 3:
				end.ExportWh = new(*end.ExportWh + 1e6)
			case 4:
				from -= 1 + market.Interval(rnd.IntN(5)) // of others than the readings are
			default:
				other := h.w.homes[(h.i+1)%len(h.w.homes)]
				start.Meter, end.Meter = other.meterID, other.meterID
			}
			for _, r := range []*ledger.Reading{&start, &end} {
				r.Signature = ed25519.Sign(h.meter, r.SignedBytes())
			}
			report := ledger.ReportMeter{From: from, Count: 1, Start: start, End: end}
			h.send(report.Sign(chainID, h.id, h.device))
		})
	}}
}
