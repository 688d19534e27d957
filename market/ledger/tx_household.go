package ledger

import (
	"crypto/ed25519"
	"slices"

	"github.com/commonwatt/commonwatt/market"
)

// Approval is an officer's signature on an admission.
type Approval struct {
	_         struct{} `cbor:",toarray"`
	Officer   uint64   // index in the genesis
	Signature []byte   // over Admission bytes
}

// RegisterHousehold admits a member. It is signed with the household's own cold key,
// whose hash is the HouseholdID, and approved by officers of the cooperative.
type RegisterHousehold struct {
	_         struct{} `cbor:",toarray"`
	Key       Key
	Device    Key
	Network   Key
	Node      string
	Approvals []Approval
}

// admission is what officers approve.
type admission struct {
	_       struct{} `cbor:",toarray"`
	Key     Key
	Device  Key
	Network Key
	Node    string
}

// AdmissionBytes is what an officer signs to admit a household.
func (r *RegisterHousehold) AdmissionBytes(chainID string) []byte {
	return append(domain("admission", chainID), encode(admission{Key: r.Key, Device: r.Device, Network: r.Network, Node: r.Node})...)
}

// Sign makes the transaction, with the household's cold key.
func (r *RegisterHousehold) Sign(chainID string, household ed25519.PrivateKey) []byte {
	return sign(KindHousehold, chainID, market.HouseholdIDOf(r.Key.Public()), r, household)
}

func (r *RegisterHousehold) shape() *Refusal {
	if len(r.Node) > maxNodeBytes {
		return refuse(CodeUnknownNode, "node", "got %d bytes, want at most %d", len(r.Node), maxNodeBytes)
	}
	if r.Device == r.Key || r.Network == r.Key || r.Network == r.Device {
		return refuse(CodeBadKey, "device", "household, device and network key must differ: one key, one purpose")
	}
	if refusal := checkGatewayKeys(r.Device, r.Network); refusal != nil {
		return refusal
	}
	return checkApprovalShape(r.Approvals)
}

func (r *RegisterHousehold) check(d *draft, tx *Tx) *Refusal {
	if tx.env.Household != market.HouseholdIDOf(r.Key.Public()) {
		return refuse(CodeBadKey, "key", "its hash is not the household %s", tx.env.Household)
	}
	if _, ok := d.household(tx.env.Household); ok {
		return refuse(CodeAlreadyRegistered, "household", "%s", tx.env.Household)
	}
	if use := d.useOf(r.Device); use != "" {
		return refuse(CodeBadKey, "device", "is %s: one key, one purpose", use)
	}
	if use := d.useOf(r.Network); use != "" && !d.unclaimed(r.Network) {
		return refuse(CodeBadKey, "network", "is %s: one key, one purpose", use)
	}
	if refusal := d.checkApprovals(r.Approvals); refusal != nil {
		return refusal
	}
	return d.checkNode(r.Node)
}

// unclaimed says whether it is a founder's network key that no household has brought yet.
func (d *draft) unclaimed(network Key) bool {
	if _, claimed := d.claim(network); claimed {
		return false
	}
	return slices.Contains(d.base.genesis.Founders, network)
}

// checkNode wants a node that every network has from the next gate on.
func (d *draft) checkNode(node string) *Refusal {
	for _, v := range d.networks.since(d.next()) {
		if _, ok := v.value.Index(node); !ok && (v.from > 0 || v.value == d.networkAt(d.next())) {
			return refuse(CodeUnknownNode, "node", "got %q, want a node of the network that holds from interval %d on", node, v.from)
		}
	}
	return nil
}

func (r *RegisterHousehold) signer(*draft, *Tx) (Key, *Refusal) { return r.Key, nil }

func (r *RegisterHousehold) verify(d *draft, _ *Tx) *Refusal {
	return d.verifyApprovals(r.Approvals, r.AdmissionBytes(d.base.chainID))
}

func (r *RegisterHousehold) apply(d *draft, tx *Tx) error {
	if d.unclaimed(r.Network) {
		d.founders[r.Network] = tx.env.Household
		d.house(r.Network, tx.env.Household)
	}
	d.households[tx.env.Household] = &Household{Key: r.Key, Device: r.Device, Network: r.Network, Node: r.Node}
	return nil
}

func checkApprovalShape(as []Approval) *Refusal {
	if len(as) > maxOfficers {
		return refuse(CodeOversized, "approvals", "got %d, want at most %d", len(as), maxOfficers)
	}
	for i, a := range as {
		if len(a.Signature) != ed25519.SignatureSize {
			return refuse(CodeNotApproved, "approvals", "signature %d has %d bytes, want %d", i, len(a.Signature), ed25519.SignatureSize)
		}
		if i > 0 && as[i-1].Officer >= a.Officer {
			return refuse(CodeNotApproved, "approvals", "officers must rise, each once")
		}
	}
	return nil
}

// checkApprovals wants as many as the rules say. The rules can change, so this is no part
// of verify, whose answer is remembered.
func (d *draft) checkApprovals(as []Approval) *Refusal {
	if need := d.rulesAt(d.next()).ApprovalsNeeded; len(as) < need {
		return refuse(CodeNotApproved, "approvals", "got %d, want %d officers of the cooperative", len(as), need)
	}
	return nil
}

// verifyApprovals wants all signatures right; they are of different officers.
func (d *draft) verifyApprovals(as []Approval, msg []byte) *Refusal {
	officers := d.base.genesis.Officers
	for _, a := range as {
		if a.Officer >= uint64(len(officers)) {
			return refuse(CodeNotApproved, "approvals", "officer %d, want 0 to %d", a.Officer, len(officers)-1)
		}
		if !d.signed(officers[a.Officer], msg, a.Signature) {
			return refuse(CodeNotApproved, "approvals", "the signature of officer %d does not match", a.Officer)
		}
	}
	return nil
}
