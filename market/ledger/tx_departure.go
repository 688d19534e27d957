package ledger

import (
	"crypto/ed25519"
	"slices"
	"strconv"

	"github.com/commonwatt/commonwatt/market"
)

// DepartBy says who signs a departure.
type DepartBy uint8

// A household leaves by itself, with either of its keys, or officers exclude it.
const (
	DepartByDevice    DepartBy = 1
	DepartByHousehold DepartBy = 2 // with the cold key: its gateway may be lost
	DepartByOfficers  DepartBy = 3
)

// Depart ends a household's membership: From is the first Interval in which it does not
// take part. It is settled to the end, corrections included. Its keys go with the tick after
// the one that closes its last month (see draft.part), so that its gateway has its last
// statement, and the block that makes it final; its record stays, and with it the
// HouseholdID: who comes back, comes with another key.
//
// Its vote, if it has one, goes at once: a machine that is about to be unplugged should not
// count for the quorum.
//
// An earlier From takes the place of a later one, never the other way round.
type Depart struct {
	_         struct{} `cbor:",toarray"`
	From      market.Interval
	By        DepartBy
	Officer   uint64 // who sends it, by the place in the genesis; 0 unless officers exclude
	Reason    string // may be empty unless officers exclude
	Approvals []Approval
}

type departureDecision struct {
	_         struct{} `cbor:",toarray"`
	Household market.HouseholdID
	From      market.Interval
	Reason    string
}

// maxNoticeS bounds how far ahead a departure may be announced: a year.
const maxNoticeS = 366 * 24 * 3600

// ApprovalBytes is what officers sign to exclude the household.
func (x *Depart) ApprovalBytes(chainID string, h market.HouseholdID) []byte {
	return append(domain("departure-approval", chainID), encode(departureDecision{Household: h, From: x.From, Reason: x.Reason})...)
}

// Sign makes the transaction, with the key that By says.
func (x *Depart) Sign(chainID string, h market.HouseholdID, key ed25519.PrivateKey) []byte {
	return sign(KindDeparture, chainID, h, x, key)
}

func (x *Depart) shape() *Refusal {
	switch {
	case x.From < 0 || x.From > market.MaxInterval:
		return refuse(CodeMalformed, "from", "got %d", x.From)
	case x.By < DepartByDevice || x.By > DepartByOfficers:
		return refuse(CodeMalformed, "by", "got %d, want 1 (device), 2 (household) or 3 (officers)", x.By)
	case x.By != DepartByOfficers && (x.Officer != 0 || x.Approvals != nil):
		return refuse(CodeMalformed, "approvals", "got %d, want none where the household leaves by itself", len(x.Approvals))
	}
	if refusal := checkReason(x.Reason, x.By != DepartByOfficers); refusal != nil {
		return refusal
	}
	return checkApprovalShape(x.Approvals)
}

func (x *Depart) check(d *draft, tx *Tx) *Refusal {
	h, refusal := d.member(tx)
	if refusal != nil {
		return refusal
	}
	if h.Left != 0 && x.From >= h.Left {
		return refuse(CodeLeft, "from", "got %d, household %s leaves with interval %d already", x.From, tx.env.Household, h.Left)
	}
	if x.From < d.next() {
		return refuse(CodeInThePast, "from", "got %d, want %d or later: it takes part up to the next gate", x.From, d.next())
	}
	if last := d.next() + market.Interval(maxNoticeS/d.base.genesis.Rules.IntervalS); x.From > last {
		return refuse(CodeTooFarAhead, "from", "got %d, want at most %d, a year ahead", x.From, last)
	}
	if _, votes := d.voterOf(tx.env.Household); votes {
		if refusal := d.checkLastVoter(); refusal != nil {
			return refusal
		}
	}
	if x.By == DepartByOfficers {
		return d.checkApprovals(x.Approvals)
	}
	return nil
}

func (x *Depart) signer(d *draft, tx *Tx) (Key, *Refusal) {
	switch x.By {
	case DepartByOfficers:
		if _, refusal := d.member(tx); refusal != nil {
			return Key{}, refusal
		}
		return d.officer(x.Officer)
	case DepartByHousehold:
		h, refusal := d.member(tx)
		if refusal != nil {
			return Key{}, refusal
		}
		return h.Key, nil
	case DepartByDevice:
	}
	return d.deviceOf(tx)
}

func (x *Depart) verify(d *draft, tx *Tx) *Refusal {
	return d.verifyApprovals(x.Approvals, x.ApprovalBytes(d.base.chainID, tx.env.Household))
}

func (x *Depart) apply(d *draft, tx *Tx) error {
	h, err := d.editHousehold(tx.env.Household)
	if err != nil {
		return err
	}
	h.Left = x.From
	if key, ok := d.voterOf(tx.env.Household); ok {
		d.dismiss(key)
	}
	return nil
}

// Takes says whether the household takes part in an Interval: it has not left before.
func (h *Household) Takes(k market.Interval) bool { return h.Left == 0 || k < h.Left }

// staying wants that the sender still takes part in k.
func (d *draft) staying(tx *Tx, h *Household, k market.Interval) *Refusal {
	if h.Takes(k) {
		return nil
	}
	return refuse(CodeLeft, "household", "%s has left the community with interval %d", tx.env.Household, h.Left)
}

// closed says whether a household has left and nothing of it can change any more.
func (d *draft) closed(h *Household) bool {
	return h.Left != 0 && d.month(h.Left-1) < d.clockNow().Month
}

// part ends the membership of the households that have left, when the last month in which
// they took part was closed by an earlier tick: their gateways are nobody's from then on. In
// the same block it would be too early: whoever is disconnected with a block may never get it.
func (d *draft) part() error {
	for id, h := range d.allHouseholds() {
		if h.Network == (Key{}) || !d.closed(h) {
			continue
		}
		edit, err := d.editHousehold(id)
		if err != nil {
			return err
		}
		edit.Device, edit.Network = Key{}, Key{}
	}
	return nil
}

// checkReason judges what people are told.
func checkReason(reason string, optional bool) *Refusal {
	switch {
	case reason == "" && optional:
		return nil
	case reason == "" || len(reason) > maxReasonBytes:
		return refuse(CodeMalformed, "reason", "got %d bytes, want 1 to %d", len(reason), maxReasonBytes)
	case slices.ContainsFunc([]rune(reason), func(r rune) bool { return r == '\uFFFD' || !strconv.IsPrint(r) }):
		return refuse(CodeMalformed, "reason", "got %q, want printable characters only", reason)
	}
	return nil
}
