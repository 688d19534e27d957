package decision

import (
	"fmt"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Replacement is a ledger.ReplaceMeter without its approvals; the household's device signs it.
type Replacement struct {
	Meter      string          `json:"meter"`
	From       market.Interval `json:"from"`
	Epoch      uint32          `json:"epoch"`
	Key        string          `json:"key"`
	SignedBy   string          `json:"signed_by"`
	Definition string          `json:"definition"`
	Reason     string          `json:"reason"`
}

func (r *Replacement) body() (*ledger.ReplaceMeter, error) {
	tx := &ledger.ReplaceMeter{From: r.From, Epoch: r.Epoch, Definition: r.Definition, Reason: r.Reason}
	if err := unhex("content.meter", r.Meter, tx.Meter[:]); err != nil {
		return nil, err
	}
	if err := unhex("content.key", r.Key, tx.Key[:]); err != nil {
		return nil, err
	}
	var err error
	tx.SignedBy, err = signedBy("content.signed_by", r.SignedBy)
	return tx, err
}

// Transactions implements Matter.
func (r *Replacement) Transactions(chain string, h market.HouseholdID) ([]Transaction, error) {
	tx, err := r.body()
	if err != nil {
		return nil, err
	}
	return []Transaction{{
		Kind: ledger.KindReplacement, Approve: tx.ApprovalBytes(chain, h),
		Sign: func(approvals []ledger.Approval, by Signer) []byte {
			signed := *tx
			signed.Approvals = approvals
			return signed.Sign(chain, h, by.Key)
		},
	}}, nil
}

// Words implements Matter.
func (r *Replacement) Words(h market.HouseholdID, g ledger.Genesis) string {
	what := "another counter in its meter"
	if tx, err := r.body(); err == nil && tx.Meter != ledger.MeterIDOf(tx.Key) {
		what = fmt.Sprintf("another meter, %s", ledger.MeterIDOf(tx.Key))
	}
	return fmt.Sprintf(`household %s asks for %s
  from      %s (interval %d)
  epoch     %d
  reads     %s, signed by the %s
  reason    %q
`, h, what, g.Calendar().Start(r.From).Format(time.RFC3339), r.From, r.Epoch, r.Definition, r.SignedBy, r.Reason)
}

func signedBy(name, text string) (ledger.SignedBy, error) {
	for _, by := range []ledger.SignedBy{ledger.SignedByAgent, ledger.SignedByDevice} {
		if by.String() == text {
			return by, nil
		}
	}
	return 0, fmt.Errorf("%s: got %.60q, want agent or device", name, text)
}
