package ledger

import (
	"crypto/ed25519"
	"slices"
	"strconv"

	"github.com/commonwatt/commonwatt/market"
)

const (
	maxReasonBytes = 200
	// maxEnvelopes bounds what a grid operator can make all others keep.
	maxEnvelopes = 1024
)

// SetEnvelope is a grid operator's limit on a node for a span of Intervals, from the next
// gate on at the earliest.
type SetEnvelope struct {
	_        struct{} `cbor:",toarray"`
	Operator uint64   // who sends it, by the place in the genesis
	Envelope Envelope
}

// Sign makes the transaction, with the grid operator's key.
func (s *SetEnvelope) Sign(chainID string, operator ed25519.PrivateKey) []byte {
	return sign(KindEnvelope, chainID, market.HouseholdID{}, s, operator)
}

func (s *SetEnvelope) shape() *Refusal {
	e := &s.Envelope
	for _, l := range []struct {
		field string
		limit *int64
	}{{"import_w", e.ImportW}, {"export_w", e.ExportW}} {
		switch {
		case l.limit == nil:
		case e.Lift:
			return refuse(CodeBadLimit, l.field, "got %d, want none in one that lifts limits", *l.limit)
		case *l.limit < 0 || *l.limit > maxLimitW:
			return refuse(CodeBadLimit, l.field, "got %d, want 0 to %d", *l.limit, int64(maxLimitW))
		}
	}
	switch {
	case e.ImportW == nil && e.ExportW == nil && !e.Lift:
		return refuse(CodeBadLimit, "import_w", "got no limit, want import_w, export_w or lift")
	case e.Seq == 0:
		return refuse(CodeSequenceUsed, "seq", "got 0, want 1 or more")
	case e.From < 0 || e.Until <= e.From || e.Until > market.MaxInterval:
		return refuse(CodeMalformed, "until", "got %d to %d, want a rising span", e.From, e.Until)
	case e.Reason == "" || len(e.Reason) > maxReasonBytes:
		return refuse(CodeMalformed, "reason", "got %d bytes, want 1 to %d: the people behind it are shown it", len(e.Reason), maxReasonBytes)
	case slices.ContainsFunc([]rune(e.Reason), func(r rune) bool { return r == '\uFFFD' || !strconv.IsPrint(r) }):
		return refuse(CodeMalformed, "reason", "got %q, want printable characters only", e.Reason)
	}
	return nil
}

func (s *SetEnvelope) check(d *draft, _ *Tx) *Refusal {
	e := &s.Envelope
	if e.From < d.next() {
		return refuse(CodeInThePast, "from", "got %d, want %d or later: it binds from the next gate on", e.From, d.next())
	}
	var known Operator
	if o := d.operators[s.Operator]; o != nil {
		known = *o
	}
	if e.Seq <= known.Seq {
		return refuse(CodeSequenceUsed, "seq", "got %d, want above %d", e.Seq, known.Seq)
	}
	if len(known.Envelopes) >= maxEnvelopes {
		return refuse(CodeTooManyPending, "envelopes", "%d may still bind, want at most %d", len(known.Envelopes), maxEnvelopes)
	}
	network := d.networkAt(e.From)
	i, ok := network.Index(e.Node)
	switch {
	case !ok:
		return refuse(CodeUnknownNode, "node", "got %q, want a node of the network that holds from interval %d on", e.Node, e.From)
	case i == network.root:
		return refuse(CodeBadLimit, "node", "got the root %q, which has no connection above it: want the node below it that holds the community", e.Node)
	}
	return s.checkFloor(d, network, i)
}

// checkFloor keeps what the law leaves a household: its floor for each that hangs on the
// node or below it.
func (s *SetEnvelope) checkFloor(d *draft, network *Network, node uint32) *Refusal {
	e, floor := &s.Envelope, d.rulesAt(s.Envelope.From).ImportFloorW
	if e.ImportW == nil || floor == 0 {
		return nil
	}
	below := make([]bool, len(network.Nodes))
	below[node] = true
	known := make([]bool, len(network.Nodes))
	known[node], known[network.root] = true, true
	var way []uint32
	homes := int64(0)
	for _, h := range d.allHouseholds() {
		at, ok := network.Index(h.Node)
		if !ok || !h.Takes(e.From) {
			continue
		}
		for way = way[:0]; !known[at]; at = network.parent[at] {
			way = append(way, at)
		}
		for _, x := range way {
			known[x], below[x] = true, below[at]
		}
		if i, _ := network.Index(h.Node); below[i] {
			homes++
		}
	}
	if least := floor * homes; *e.ImportW < least {
		return refuse(CodeBelowFloor, "import_w", "got %d, want at least %d: %d W for each of the %d households there", *e.ImportW, least, floor, homes)
	}
	return nil
}

func (s *SetEnvelope) signer(d *draft, _ *Tx) (Key, *Refusal) {
	operators := d.base.genesis.Operators
	if s.Operator >= uint64(len(operators)) {
		return Key{}, refuse(CodeNotOperator, "operator", "got %d, the community has %d grid operators", s.Operator, len(operators))
	}
	return operators[s.Operator], nil
}

func (s *SetEnvelope) verify(*draft, *Tx) *Refusal { return nil }

func (s *SetEnvelope) apply(d *draft, _ *Tx) error {
	o := &Operator{Seq: s.Envelope.Seq}
	if known := d.operators[s.Operator]; known != nil {
		o.Envelopes = slices.Clone(known.Envelopes)
	}
	o.Envelopes = append(o.Envelopes, s.Envelope)
	d.setOperator(s.Operator, o)
	return nil
}
