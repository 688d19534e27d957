package ledger

import (
	"crypto/ed25519"
	"errors"
	"maps"
	"slices"

	"github.com/commonwatt/commonwatt/market"
)

// SetNetwork changes the network from an Interval on: the cooperative's decision. What it
// does not name stays as it is.
type SetNetwork struct {
	_         struct{} `cbor:",toarray"`
	Number    uint64   // of the decision, one above the last
	Officer   uint64   // who sends it, by the place in the genesis
	From      market.Interval
	Nodes     []Node   // new ones, and ones that change
	Remove    []string // ids, rising
	Approvals []Approval
}

type networkDecision struct {
	_      struct{} `cbor:",toarray"`
	Number uint64
	From   market.Interval
	Nodes  []Node
	Remove []string
}

// ApprovalBytes is what officers sign to approve the decision.
func (s *SetNetwork) ApprovalBytes(chainID string) []byte {
	return append(domain("network-decision", chainID), encode(networkDecision{Number: s.Number, From: s.From, Nodes: s.Nodes, Remove: s.Remove})...)
}

// Sign makes the transaction, with the key of the officer who sends it.
func (s *SetNetwork) Sign(chainID string, officer ed25519.PrivateKey) []byte {
	return sign(KindNetwork, chainID, market.HouseholdID{}, s, officer)
}

func (s *SetNetwork) shape() *Refusal {
	if len(s.Nodes) == 0 && len(s.Remove) == 0 {
		return refuse(CodeBadNetwork, "nodes", "got no change, want a node to set or to remove")
	}
	for i := 1; i < len(s.Remove); i++ {
		if s.Remove[i-1] >= s.Remove[i] {
			return refuse(CodeBadNetwork, "remove", "got %q after %q, want rising ids", s.Remove[i], s.Remove[i-1])
		}
	}
	return checkApprovalShape(s.Approvals)
}

func (s *SetNetwork) check(d *draft, _ *Tx) *Refusal {
	if refusal := d.checkDecision(s.Number, s.From, d.networks.pending(d.next()), s.Approvals); refusal != nil {
		return refusal
	}
	n, refusal := s.network(d)
	if refusal != nil {
		return refusal
	}
	// The network holds until the next one that is decided, the rules whenever they hold.
	for _, v := range d.rules.since(s.From) {
		if v.from == 0 && v.value != d.rulesAt(s.From) {
			continue
		}
		if err := v.value.fits(n); err != nil {
			return refuse(CodeBadNetwork, "nodes", "%v", err)
		}
	}
	for id, h := range d.allHouseholds() {
		if _, ok := n.Index(h.Node); !ok && h.Takes(s.From) {
			return refuse(CodeBadNetwork, "remove", "household %s hangs on node %q", id, h.Node)
		}
	}
	return nil
}

// network is that of the Interval before, changed.
func (s *SetNetwork) network(d *draft) (*Network, *Refusal) {
	old := d.networkAt(s.From)
	changed := make(map[string]Node, len(s.Nodes))
	for _, n := range s.Nodes {
		if _, twice := changed[n.ID]; twice {
			return nil, refuse(CodeBadNetwork, "nodes", "node %q is there twice", n.ID)
		}
		changed[n.ID] = n
	}
	for _, id := range s.Remove {
		if _, ok := old.Index(id); !ok {
			return nil, refuse(CodeBadNetwork, "remove", "there is no node %q", id)
		}
		if _, ok := changed[id]; ok {
			return nil, refuse(CodeBadNetwork, "remove", "node %q is also set", id)
		}
	}
	var nodes []Node
	for _, n := range old.Nodes {
		if _, gone := slices.BinarySearch(s.Remove, n.ID); gone {
			continue
		}
		if c, ok := changed[n.ID]; ok {
			n = c
			delete(changed, n.ID)
		}
		nodes = append(nodes, n)
	}
	for _, id := range slices.Sorted(maps.Keys(changed)) {
		nodes = append(nodes, changed[id])
	}
	if len(nodes) == 0 {
		return nil, refuse(CodeBadNetwork, "remove", "would leave no node, want a root")
	}
	n, err := newNetwork(nodes)
	if err != nil {
		field := "nodes"
		if f := (*market.FieldError)(nil); errors.As(err, &f) {
			field = f.Field
		}
		return nil, refuse(CodeBadNetwork, field, "%v", err)
	}
	return n, nil
}

func (s *SetNetwork) signer(d *draft, _ *Tx) (Key, *Refusal) { return d.officer(s.Officer) }

func (s *SetNetwork) verify(d *draft, _ *Tx) *Refusal {
	return d.verifyApprovals(s.Approvals, s.ApprovalBytes(d.base.chainID))
}

func (s *SetNetwork) apply(d *draft, _ *Tx) error {
	n, refusal := s.network(d)
	if refusal != nil {
		return refusal // check has asked before
	}
	d.editClock().Decisions = s.Number
	d.networks = d.networks.with(s.From, n)
	return nil
}

// checkDecision judges what all decisions have: the number, which makes an approval good
// for one of them, the Interval from which on it holds, and how many approve.
func (d *draft) checkDecision(number uint64, from market.Interval, pending int, as []Approval) *Refusal {
	if want := d.clockNow().Decisions + 1; number != want {
		return refuse(CodeSequenceUsed, "number", "got %d, want %d", number, want)
	}
	if from < d.next() {
		return refuse(CodeInThePast, "from", "got %d, want %d or later: what is decided holds from the next gate on", from, d.next())
	}
	if from > market.MaxInterval {
		return refuse(CodeMalformed, "from", "got %d, want at most %d", from, market.MaxInterval)
	}
	if pending >= maxPending {
		return refuse(CodeTooManyPending, "from", "%d decisions are still to take effect, want at most %d", pending, maxPending)
	}
	return d.checkApprovals(as)
}

func (d *draft) officer(i uint64) (Key, *Refusal) {
	if officers := d.base.genesis.Officers; i < uint64(len(officers)) {
		return officers[i], nil
	}
	return Key{}, refuse(CodeNotApproved, "officer", "got %d, want 0 to %d", i, len(d.base.genesis.Officers)-1)
}
