package decision

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Rules replaces the community's rules: a ledger.SetRules, which an officer sends.
type Rules struct {
	Number uint64          `json:"number"` // of the decision, one above the last
	From   market.Interval `json:"from"`
	Rules  *ledger.Rules   `json:"rules"` // all of them
}

// Transactions implements Matter.
func (r *Rules) Transactions(chain string, _ market.HouseholdID) ([]Transaction, error) {
	if r.Rules == nil {
		return nil, errors.New("content.rules: got none, want all rules, as `commonwatt community rules --output json` shows them")
	}
	if err := r.Rules.Validate(); err != nil {
		return nil, fmt.Errorf("content.%w", err)
	}
	tx := &ledger.SetRules{Number: r.Number, From: r.From, Rules: *r.Rules}
	return []Transaction{{
		Kind: ledger.KindRules, Approve: tx.ApprovalBytes(chain),
		Sign: func(approvals []ledger.Approval, by Signer) []byte {
			signed := *tx
			signed.Officer, signed.Approvals = by.Officer, approvals
			return signed.Sign(chain, by.Key)
		},
	}}, nil
}

// Words implements Matter: every rule, and where it is not that of the founding, that too.
func (r *Rules) Words(_ market.HouseholdID, g ledger.Genesis) string {
	var b strings.Builder
	fmt.Fprintf(&b, "decision %d asks for these rules from %s on\n", r.Number, start(g, r.From))
	now, names := fields(r.Rules)
	first, _ := fields(&g.Rules)
	for _, name := range names {
		fmt.Fprintf(&b, "  %-20s %s", name, now[name])
		if was, ok := first[name]; !ok {
			b.WriteString("   (not set when the community was founded)")
		} else if was != now[name] {
			fmt.Fprintf(&b, "   (was %s when the community was founded)", was)
		}
		b.WriteByte('\n')
	}
	for name, was := range first {
		if _, ok := now[name]; !ok {
			fmt.Fprintf(&b, "  %-20s not set   (was %s when the community was founded)\n", name, was)
		}
	}
	return b.String()
}

// fields are the names of a struct's JSON in their order, and the values as text.
func fields(v any) (values map[string]string, names []string) {
	values = map[string]string{}
	raw, err := json.Marshal(v)
	if err != nil {
		return values, nil // a struct of numbers and texts
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if _, err := dec.Token(); err != nil { // {
		return values, nil
	}
	for dec.More() {
		name, err := dec.Token()
		var value json.RawMessage
		if err != nil || dec.Decode(&value) != nil {
			return values, names
		}
		names = append(names, fmt.Sprint(name))
		values[fmt.Sprint(name)] = string(value)
	}
	return values, names
}

// start is an Interval as people write it.
func start(g ledger.Genesis, k market.Interval) string {
	return fmt.Sprintf("%s (interval %d)", g.Calendar().Start(k).Format(time.RFC3339), k)
}

// Network changes the community's network: a ledger.SetNetwork, which an officer sends.
type Network struct {
	Number uint64          `json:"number"`
	From   market.Interval `json:"from"`
	Nodes  []ledger.Node   `json:"nodes"`  // new ones, and ones that change
	Remove []string        `json:"remove"` // ids, rising
}

// Transactions implements Matter.
func (n *Network) Transactions(chain string, _ market.HouseholdID) ([]Transaction, error) {
	if len(n.Nodes) == 0 && len(n.Remove) == 0 {
		return nil, errors.New("content.nodes: got no change, want a node to set or to remove")
	}
	tx := &ledger.SetNetwork{Number: n.Number, From: n.From, Nodes: n.Nodes, Remove: n.Remove}
	return []Transaction{{
		Kind: ledger.KindNetwork, Approve: tx.ApprovalBytes(chain),
		Sign: func(approvals []ledger.Approval, by Signer) []byte {
			signed := *tx
			signed.Officer, signed.Approvals = by.Officer, approvals
			return signed.Sign(chain, by.Key)
		},
	}}, nil
}

// Words implements Matter.
func (n *Network) Words(_ market.HouseholdID, g ledger.Genesis) string {
	var b strings.Builder
	fmt.Fprintf(&b, "decision %d asks for another network from %s on\n", n.Number, start(g, n.From))
	limit := func(l *int64) string {
		if l == nil {
			return "none"
		}
		return fmt.Sprintf("%d W", *l)
	}
	for i := range n.Nodes {
		x := &n.Nodes[i]
		fmt.Fprintf(&b, "  node %s below %s: limit of imports %s, of exports %s; fee of imports %d, of exports %d micro-units per kWh\n",
			x.ID, x.Parent, limit(x.ImportLimitW), limit(x.ExportLimitW), x.ImportFee, x.ExportFee)
	}
	for _, id := range n.Remove {
		fmt.Fprintf(&b, "  node %s goes\n", id)
	}
	return b.String()
}

// Validator gives a household a vote in the ledger, another key for it, or none: a
// ledger.SetValidator, which an officer sends.
type Validator struct {
	Number     uint64 `json:"number"` // of the change of the set, one above the last
	Household  string `json:"household"`
	Key        string `json:"key"` // of the validator
	Remove     bool   `json:"remove"`
	Possession string `json:"possession,omitempty"` // the key's signature; none with remove
}

func (v *Validator) body() (*ledger.SetValidator, error) {
	tx := &ledger.SetValidator{Number: v.Number, Remove: v.Remove}
	if err := unhex("content.household", v.Household, tx.Household[:]); err != nil {
		return nil, err
	}
	if err := unhex("content.key", v.Key, tx.Key[:]); err != nil {
		return nil, err
	}
	if v.Remove {
		if v.Possession != "" {
			return nil, errors.New("content.possession: got one, want none where a vote is taken away")
		}
		return tx, nil
	}
	tx.Possession = make([]byte, 64)
	return tx, unhex("content.possession", v.Possession, tx.Possession)
}

// Transactions implements Matter.
func (v *Validator) Transactions(chain string, _ market.HouseholdID) ([]Transaction, error) {
	tx, err := v.body()
	if err != nil {
		return nil, err
	}
	return []Transaction{{
		Kind: ledger.KindValidator, Approve: tx.ApprovalBytes(chain),
		Sign: func(approvals []ledger.Approval, by Signer) []byte {
			signed := *tx
			signed.Officer, signed.Approvals = by.Officer, approvals
			return signed.Sign(chain, by.Key)
		},
	}}, nil
}

// Words implements Matter.
func (v *Validator) Words(market.HouseholdID, ledger.Genesis) string {
	if v.Remove {
		return fmt.Sprintf("change %d of the validators asks that household %s has no vote in the ledger any more\n  key       %s\n", v.Number, v.Household, v.Key)
	}
	return fmt.Sprintf("change %d of the validators asks for a vote in the ledger for household %s\n  key       %s\n", v.Number, v.Household, v.Key)
}

// Exclusion ends the membership of a household: a ledger.Depart by officers, which one of
// them sends.
type Exclusion struct {
	From   market.Interval `json:"from"` // the first in which it takes no part
	Reason string          `json:"reason"`
}

// Transactions implements Matter.
func (x *Exclusion) Transactions(chain string, h market.HouseholdID) ([]Transaction, error) {
	if x.Reason == "" {
		return nil, errors.New("content.reason: got none, want why, for the household and the record")
	}
	tx := &ledger.Depart{From: x.From, By: ledger.DepartByOfficers, Reason: x.Reason}
	return []Transaction{{
		Kind: ledger.KindDeparture, Approve: tx.ApprovalBytes(chain, h),
		Sign: func(approvals []ledger.Approval, by Signer) []byte {
			signed := *tx
			signed.Officer, signed.Approvals = by.Officer, approvals
			return signed.Sign(chain, h, by.Key)
		},
	}}, nil
}

// Words implements Matter.
func (x *Exclusion) Words(h market.HouseholdID, g ledger.Genesis) string {
	return fmt.Sprintf("household %s is to be excluded\n  from      %s\n  reason    %q\n", h, start(g, x.From), x.Reason)
}
