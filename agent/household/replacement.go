package household

import (
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
)

// adopt goes on with another counter once somebody approved it: for the connection the
// officers of the cooperative, on the ledger (ledger.ReplaceMeter), for all others the
// homeowner (ApproveMeter). Called for each sample before the tracker judges it, by the
// device's poll goroutine.
//
// Nothing is kept for it on disk: the tracker and the chain of a home that is killed
// before the new counter's first boundary are of the old epoch, and adopt begins anew.
func (h *Home) adopt(d *device, s meter.Sample, r registration) {
	if d.cfg.Role != RoleConnection {
		if d.approved.CompareAndSwap(true, false) {
			d.tracker.NewEpoch()
			h.opt.Log.Info("another meter is read from now on, as approved", "role", d.cfg.Role, "serial", s.Identity.Serial)
		}
		return
	}
	if !r.metered || !r.epochKnown || s.At.Before(h.calendar.Start(r.epochFrom)) {
		return
	}
	switch signed := s.Signed; {
	case signed == nil:
		if r.meter != h.prover.own || h.prover.chain.State().Epoch >= r.epoch {
			return
		}
		h.prover.chain.BeginEpoch(r.epoch)
	case ledger.MeterID(signed.Reading.Meter) != r.meter, signed.Reading.Epoch != r.epoch, d.tracker.State().SignedEpoch == r.epoch:
		return
	}
	d.tracker.NewEpoch()
	h.opt.Log.Info("another counter is settled on from now on, as approved", "epoch", r.epoch, "serial", s.Identity.Serial)
}

// Registration implements api.Meters.
func (h *Home) Registration() (out api.Registration, ok bool) {
	h.opt.Ledger.Read(func(s *ledger.State) {
		member, known := s.Household(h.id)
		m, found := s.Meter(member.Meter)
		if ok = known && member.HasMeter && found; !ok {
			return
		}
		out = api.Registration{
			Community: h.chainID, Household: h.id.String(), Meter: member.Meter.String(), Key: hex.EncodeToString(m.Key[:]),
			SignedBy: m.SignedBy.String(), Definition: m.Definition, FirstUnreported: int64(m.Last + 1), NextGate: int64(s.Next()),
		}
		if m.EpochKnown {
			epoch := m.Epoch
			out.Epoch = &epoch
		}
	})
	return out, ok
}

// ApproveMeter implements api.Meters.
func (h *Home) ApproveMeter(role, serial string) error {
	if role == RoleConnection {
		return &api.Refused{Code: "not-approved", Detail: "the connection's meter is settled on: officers of the cooperative approve another one, see `commonwatt meter replace --help`"}
	}
	roles := []string{}
	for _, d := range h.meters {
		if d.cfg.Role == RoleConnection {
			continue
		}
		roles = append(roles, d.cfg.Role)
		if d.cfg.Role != role {
			continue
		}
		h.mu.Lock()
		waiting, now := d.view.waiting, d.view.serial
		h.mu.Unlock()
		switch {
		case !waiting:
			return &api.Refused{Code: "not-waiting", Detail: fmt.Sprintf("the %s meter is the one that it was: there is nothing to approve", role)}
		case now != serial:
			return &api.Refused{Code: "another-serial", Detail: fmt.Sprintf("serial: got %q, but the %s meter that answers now says %q", serial, role, now)}
		}
		d.approved.Store(true)
		return nil
	}
	slices.Sort(roles)
	return &api.Refused{Code: "unknown-meter", Detail: fmt.Sprintf("role: got %q, want one of %q", role, slices.Compact(roles))}
}
