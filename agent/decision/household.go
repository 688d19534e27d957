package decision

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Membership says where a household hangs and with which part of its meter it takes part: a
// ledger.SetMembership, which the household's device signs.
type Membership struct {
	Seq           uint64          `json:"seq"` // above the last one's
	Node          string          `json:"node"`
	Participation []Participation `json:"participation"` // none: all of the meter
	ShareKey      int64           `json:"share_key"`     // its static part under the rule sharing
}

// Participation is the part of a meter that takes part in a community.
type Participation struct {
	Community string `json:"community"`
	Permille  uint16 `json:"permille"`
}

// Transactions implements Matter.
func (m *Membership) Transactions(chain string, h market.HouseholdID) ([]Transaction, error) {
	tx := &ledger.SetMembership{Seq: m.Seq, Node: m.Node, ShareKey: m.ShareKey}
	for _, p := range m.Participation {
		tx.Participation = append(tx.Participation, ledger.Participation{Community: p.Community, Permille: p.Permille})
	}
	return []Transaction{{
		Kind: ledger.KindMembership, Approve: tx.ApprovalBytes(chain, h),
		Sign: func(approvals []ledger.Approval, by Signer) []byte {
			signed := *tx
			signed.Approvals = approvals
			return signed.Sign(chain, h, by.Key)
		},
	}}, nil
}

// Words implements Matter.
func (m *Membership) Words(h market.HouseholdID, _ ledger.Genesis) string {
	part := "all of its meter"
	if len(m.Participation) > 0 {
		var parts []string
		for _, p := range m.Participation {
			parts = append(parts, fmt.Sprintf("%d per mille in %s", p.Permille, p.Community))
		}
		part = strings.Join(parts, ", ")
	}
	return fmt.Sprintf("household %s asks for another place in the community\n  node      %s\n  takes part with %s\n  share key %d\n", h, m.Node, part, m.ShareKey)
}

// Correction says what a household's meter should have counted in a settled Interval: a
// ledger.CorrectReport, which the household's device signs. The proof of what it corrects
// is no part of what officers sign.
type Correction struct {
	Interval market.Interval  `json:"interval"`
	Version  uint32           `json:"version"` // of the settlement that it corrects
	Import   market.WattHours `json:"import_wh"`
	Export   market.WattHours `json:"export_wh"`
	Reason   string           `json:"reason"`
	Proof    *Proof           `json:"proof,omitempty"` // none where the ledger still has the entry
}

// Proof is a settlement and its place in the tree over the interval's first settlements.
type Proof struct {
	Settlement string   `json:"settlement"` // encoded, hex
	Index      int64    `json:"index"`
	Total      int64    `json:"total"`
	Aunts      []string `json:"aunts"` // hex
}

// maxAunts bounds a proof, as the ledger does.
const maxAunts = 32

// body is the transaction without approvals.
func (c *Correction) body() (*ledger.CorrectReport, error) {
	tx := &ledger.CorrectReport{Interval: c.Interval, Version: c.Version, Import: c.Import, Export: c.Export, Reason: c.Reason}
	if c.Proof == nil {
		return tx, nil
	}
	var err error
	if tx.Old, err = hex.DecodeString(c.Proof.Settlement); err != nil {
		return nil, fmt.Errorf("content.proof.settlement: %w", err)
	}
	if len(c.Proof.Aunts) > maxAunts {
		return nil, fmt.Errorf("content.proof.aunts: got %d, want at most %d", len(c.Proof.Aunts), maxAunts)
	}
	tx.Index, tx.Total = c.Proof.Index, c.Proof.Total
	for i, a := range c.Proof.Aunts {
		aunt := make([]byte, 32)
		if err := unhex(fmt.Sprintf("content.proof.aunts[%d]", i), a, aunt); err != nil {
			return nil, err
		}
		tx.Aunts = append(tx.Aunts, aunt)
	}
	return tx, nil
}

// Transactions implements Matter.
func (c *Correction) Transactions(chain string, h market.HouseholdID) ([]Transaction, error) {
	tx, err := c.body()
	if err != nil {
		return nil, err
	}
	return []Transaction{{
		Kind: ledger.KindCorrection, Approve: tx.ApprovalBytes(chain, h),
		Sign: func(approvals []ledger.Approval, by Signer) []byte {
			signed := *tx
			signed.Approvals = approvals
			return signed.Sign(chain, h, by.Key)
		},
	}}, nil
}

// Words implements Matter.
func (c *Correction) Words(h market.HouseholdID, g ledger.Genesis) string {
	return fmt.Sprintf("household %s asks for a correction of what its meter counted\n  interval  %s, as settled in version %d\n  import    %d Wh\n  export    %d Wh\n  reason    %q\n",
		h, start(g, c.Interval), c.Version, c.Import, c.Export, c.Reason)
}
