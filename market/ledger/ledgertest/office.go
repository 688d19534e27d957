package ledgertest

import (
	"crypto/ed25519"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Network makes a decision on the network, sent by the first officer with n approvals.
func (c *Community) Network(s ledger.SetNetwork, n int) []byte {
	s.Approvals = c.Approve(s.ApprovalBytes(ChainID), n)
	return s.Sign(ChainID, c.Officers[0])
}

// Decide makes a decision on the rules, sent by the first officer with n approvals.
func (c *Community) Decide(s ledger.SetRules, n int) []byte {
	s.Approvals = c.Approve(s.ApprovalBytes(ChainID), n)
	return s.Sign(ChainID, c.Officers[0])
}

// Limit makes an Envelope of the grid operator.
func (c *Community) Limit(e ledger.Envelope) []byte {
	s := ledger.SetEnvelope{Envelope: e}
	return s.Sign(ChainID, c.Operator)
}

// Move makes a household's membership with n approvals.
func (c *Community) Move(h *Home, s ledger.SetMembership, n int) []byte {
	s.Approvals = c.Approve(s.ApprovalBytes(ChainID, h.ID), n)
	return s.Sign(ChainID, h.ID, h.Device)
}

// Correct makes a correction with n approvals. history is where the Settlements of the
// Interval are; what the correction needs of them is filled in.
func (c *Community) Correct(h *Home, r ledger.CorrectReport, history []ledger.Event, n int) []byte {
	var all []*ledger.Settlement // in the order of the households, as they were settled
	at := -1
	for _, e := range history {
		if s := e.Settlement; s != nil && s.Interval == r.Interval && s.Version == 1 {
			if s.Household == h.ID {
				at = len(all)
			}
			all = append(all, s)
		}
	}
	if at >= 0 {
		r.ProveSettlement(all, at)
	}
	r.Approvals = c.Approve(r.ApprovalBytes(ChainID, h.ID), n)
	return r.Sign(ChainID, h.ID, h.Device)
}

// Device makes the household's change to a gateway with these keys.
func (c *Community) Device(h *Home, seq uint64, device, network ed25519.PrivateKey) []byte {
	return ledger.NewDevice(ChainID, h.ID, seq, device, network).Sign(ChainID, h.ID, h.Household)
}

// Revoke makes the household's word that its gateway is in wrong hands.
func (c *Community) Revoke(h *Home, seq uint64) []byte {
	s := ledger.SetDevice{Seq: seq}
	return s.Sign(ChainID, h.ID, h.Household)
}

// Leave makes the home's departure, signed as By says; officers exclude with n approvals.
func (c *Community) Leave(h *Home, from market.Interval, by ledger.DepartBy, n int) []byte {
	d := ledger.Depart{From: from, By: by}
	switch by {
	case ledger.DepartByOfficers:
		d.Reason = "moved away"
		d.Approvals = c.Approve(d.ApprovalBytes(ChainID, h.ID), n)
		return d.Sign(ChainID, h.ID, c.Officers[0])
	case ledger.DepartByHousehold:
		return d.Sign(ChainID, h.ID, h.Household)
	case ledger.DepartByDevice:
	}
	return d.Sign(ChainID, h.ID, h.Device)
}

// Vote makes the change that gives the home a vote with a key, sent by the first officer
// with n approvals.
func (c *Community) Vote(h *Home, number uint64, key ed25519.PrivateKey, n int) []byte {
	s := ledger.SetValidator{Number: number, Household: h.ID, Key: Public(key)}
	s.Possession = ed25519.Sign(key, s.PossessionBytes(ChainID))
	s.Approvals = c.Approve(s.ApprovalBytes(ChainID), n)
	return s.Sign(ChainID, c.Officers[0])
}

// Unvote makes the change that takes a household's vote away.
func (c *Community) Unvote(h market.HouseholdID, number uint64, key ledger.Key, n int) []byte {
	s := ledger.SetValidator{Number: number, Household: h, Key: key, Remove: true}
	s.Approvals = c.Approve(s.ApprovalBytes(ChainID), n)
	return s.Sign(ChainID, c.Officers[0])
}

// Feeders makes a network of a root and feeders with limits and fees that bind at noon.
func Feeders() []ledger.Node {
	return []ledger.Node{
		{ID: ledger.RootNode},
		{ID: "street", Parent: ledger.RootNode, ImportFee: 2_000},
		{ID: "north", Parent: "street", ExportLimitW: new(int64(2_000)), ImportFee: 10_000, ExportFee: 1_000},
		{ID: "south", Parent: "street", ImportLimitW: new(int64(3_000)), ImportFee: 10_000},
	}
}
