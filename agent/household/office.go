package household

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// errLight is what a home answers that does not hold the records of others.
var errLight = &api.Refused{Code: "light-home", Detail: "a light home holds its own records only: ask a home that is a validator or a replica"}

// Community implements api.Office.
func (h *Home) Community() (out api.Community, err error) {
	h.opt.Ledger.Read(func(s *ledger.State) {
		if s.Partial() {
			err = errLight
			return
		}
		faults := map[market.HouseholdID]string{}
		for _, v := range s.Faulty() {
			if faults[v.Household] = "proven"; v.Fault == ledger.FaultStruck {
				faults[v.Household] = "struck"
			}
		}
		votes := map[market.HouseholdID]string{}
		for _, v := range s.Validators() {
			if v.Household != (market.HouseholdID{}) {
				votes[v.Household] = v.Key.String()
			}
		}
		next := s.Next()
		out = api.Community{
			Name: s.Genesis().Name, NextGate: int64(next), Decisions: s.Decisions(), ValidatorChanges: s.ValidatorChanges(),
			Rules: *s.RulesAt(next), Nodes: s.NetworkAt(next).Nodes, Members: []api.Member{},
		}
		for _, id := range s.Households() {
			if m, ok := s.Household(id); ok {
				member := memberOf(id, m, votes[id])
				member.DoubleVote = faults[id]
				out.Members = append(out.Members, member)
			}
		}
	})
	return out, err
}

// conductor is a ledger that keeps blocks.
type conductor interface {
	Conduct(ctx context.Context) (consensus.Conduct, error)
}

// Conduct implements api.Office.
func (h *Home) Conduct(ctx context.Context) (consensus.Conduct, error) {
	c, ok := h.opt.Ledger.(conductor)
	if !ok {
		return consensus.Conduct{}, errLight
	}
	return c.Conduct(ctx)
}

// validatorProblems says which validators are proven to have cheated; the cooperative sees it
// on its page of any home.
func validatorProblems(add func(code, text, hint string), s consensus.Status) {
	for _, d := range s.DoubleVoted {
		who := "The validator " + d.Name
		if d.Household != (market.HouseholdID{}) {
			who += " (household " + d.Household.String() + ")"
		}
		next := "It keeps its vote until the others can do without it; officers can take it at once with `commonwatt community propose validator --remove`."
		if d.Struck {
			next = "It has lost its vote for good; with a new key the household may be given one again."
		}
		add(api.ProblemDoubleVote, who+" signed two different blocks of one height: its key "+d.Address+" is in two hands, or it cheats.",
			next+" `commonwatt ledger audit` shows the heights.")
	}
}

func memberOf(id market.HouseholdID, m *ledger.Household, vote string) api.Member {
	member := api.Member{
		Household: id.String(), Node: m.Node, Meter: m.HasMeter, Validator: vote, Revoked: m.Network == ledger.Key{},
		MembershipSeq: m.MembershipSeq, ShareKey: m.ShareKey, Participation: []api.MemberParticipate{},
	}
	if m.Left != 0 {
		left := int64(m.Left)
		member.Left = &left
	}
	for _, p := range m.Participation {
		member.Participation = append(member.Participation, api.MemberParticipate{Community: p.Community, Permille: p.Permille})
	}
	return member
}

// Correctable implements api.Office. What the ledger keeps of a settled interval is a root:
// so all first settlements are read from the history, and the own one's way to the root is
// the proof.
func (h *Home) Correctable(interval int64) (out api.Correctable, err error) {
	k := market.Interval(interval)
	var homes []market.HouseholdID
	h.opt.Ledger.Read(func(s *ledger.State) {
		r, ok := s.Interval(k)
		switch {
		case s.Partial():
			err = errLight
		case !ok || r.State != ledger.IntervalSettled:
			err = &api.Refused{Code: "not-correctable", Detail: fmt.Sprintf(
				"interval: %d is not settled, or its correction window is over; want a settled one within the window", k)}
		default:
			if i := slices.IndexFunc(r.Entries, func(e ledger.Entry) bool { return e.Household == h.id }); i >= 0 {
				e := &r.Entries[i]
				out = api.Correctable{
					Interval: interval, Version: e.Version, ImportWh: int64(e.Import), ExportWh: int64(e.Export), Kept: true, Aunts: []string{},
				}
				return
			}
			homes = s.Households()
		}
	})
	if err != nil || out.Kept {
		return out, err
	}
	return h.provenSettlement(k, homes)
}

// provenSettlement finds the own first settlement of an interval and its way to the root.
func (h *Home) provenSettlement(k market.Interval, homes []market.HouseholdID) (out api.Correctable, err error) {
	var all []*ledger.Settlement
	at := -1
	for _, id := range homes {
		err := h.opt.Ledger.Settlements(id, k, func(s *ledger.Settlement) bool {
			if s.Interval == k && s.Version == 1 {
				if id == h.id {
					at = len(all)
				}
				all = append(all, s)
			}
			return s.Interval <= k
		})
		if err != nil {
			return out, fmt.Errorf("reading settlements of interval %d: %w", k, err)
		}
	}
	if at < 0 {
		return out, &api.Refused{Code: "not-correctable", Detail: fmt.Sprintf("interval: this home was not settled in %d", k)}
	}
	own := all[at]
	var tx ledger.CorrectReport
	tx.ProveSettlement(all, at)
	out = api.Correctable{
		Interval: int64(k), Version: own.Version, ImportWh: int64(own.Import), ExportWh: int64(own.Export),
		Settlement: hex.EncodeToString(tx.Old), Index: tx.Index, Total: tx.Total, Aunts: []string{},
	}
	for _, a := range tx.Aunts {
		out.Aunts = append(out.Aunts, hex.EncodeToString(a))
	}
	return out, nil
}
