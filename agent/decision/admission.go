package decision

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Admission lets a household in, and its meter if it has one: ledger.RegisterHousehold,
// signed with the household's own key, and ledger.RegisterMeter, signed by its device.
type Admission struct {
	Name    string `json:"name"` // for people; no officer signs it
	Key     string `json:"key"`
	Device  string `json:"device"`
	Network string `json:"network"`
	Node    string `json:"node"` // of the community's network, where the home hangs
	Meter   *Meter `json:"meter,omitempty"`
}

// Meter is a ledger.RegisterMeter without its approvals.
type Meter struct {
	Key        string `json:"key"`
	SignedBy   string `json:"signed_by"`
	Definition string `json:"definition"`
}

// maxName bounds a name that people gave a home.
const maxName = 60

// ValidName judges a name that is shown to others: short, and only what can be printed.
func ValidName(name string) error {
	if len(name) > maxName {
		return fmt.Errorf("got %d bytes, want at most %d", len(name), maxName)
	}
	if i := strings.IndexFunc(name, func(r rune) bool { return r == '\uFFFD' || !strconv.IsPrint(r) }); i >= 0 {
		return fmt.Errorf("got %q, want printable characters only", name)
	}
	return nil
}

func (a *Admission) body() (*ledger.RegisterHousehold, error) {
	if err := ValidName(a.Name); err != nil {
		return nil, fmt.Errorf("content.name: %w", err)
	}
	tx := &ledger.RegisterHousehold{Node: a.Node}
	for _, f := range []struct {
		name, text string
		into       []byte
	}{{"key", a.Key, tx.Key[:]}, {"device", a.Device, tx.Device[:]}, {"network", a.Network, tx.Network[:]}} {
		if err := unhex("content."+f.name, f.text, f.into); err != nil {
			return nil, err
		}
	}
	return tx, nil
}

// Transactions implements Matter.
func (a *Admission) Transactions(chain string, h market.HouseholdID) ([]Transaction, error) {
	tx, err := a.body()
	if err != nil {
		return nil, err
	}
	if own := market.HouseholdIDOf(tx.Key.Public()); own != h {
		return nil, fmt.Errorf("content.key: is that of household %s, want that of %s", own, h)
	}
	list := []Transaction{{
		Kind: ledger.KindHousehold, Approve: tx.AdmissionBytes(chain),
		Sign: func(approvals []ledger.Approval, by Signer) []byte {
			signed := *tx
			signed.Approvals = approvals
			return signed.Sign(chain, by.Key)
		},
	}}
	if a.Meter == nil {
		return list, nil
	}
	meter, err := a.Meter.transaction(chain, h, "content.meter.")
	if err != nil {
		return nil, err
	}
	return append(list, meter), nil
}

// Words implements Matter.
func (a *Admission) Words(h market.HouseholdID, _ ledger.Genesis) string {
	text := fmt.Sprintf("household %s asks to be admitted\n  name      %q\n  node      %s\n", h, a.Name, a.Node)
	if a.Meter == nil {
		return text + "  meter     none\n"
	}
	return text + a.Meter.words()
}

// Transactions implements Matter.
func (m *Meter) Transactions(chain string, h market.HouseholdID) ([]Transaction, error) {
	tx, err := m.transaction(chain, h, "content.")
	if err != nil {
		return nil, err
	}
	return []Transaction{tx}, nil
}

// Words implements Matter.
func (m *Meter) Words(h market.HouseholdID, _ ledger.Genesis) string {
	return fmt.Sprintf("household %s asks for a meter to be settled on\n%s", h, m.words())
}

func (m *Meter) words() string {
	return fmt.Sprintf("  meter     %s, signed by the %s, key %.16s\n", m.Definition, m.SignedBy, m.Key)
}

func (m *Meter) transaction(chain string, h market.HouseholdID, at string) (Transaction, error) {
	tx := &ledger.RegisterMeter{Definition: m.Definition}
	if err := unhex(at+"key", m.Key, tx.Key[:]); err != nil {
		return Transaction{}, err
	}
	var err error
	if tx.SignedBy, err = signedBy(at+"signed_by", m.SignedBy); err != nil {
		return Transaction{}, err
	}
	return Transaction{
		Kind: ledger.KindMeter, Approve: tx.AdmissionBytes(chain, h),
		Sign: func(approvals []ledger.Approval, by Signer) []byte {
			signed := *tx
			signed.Approvals = approvals
			return signed.Sign(chain, h, by.Key)
		},
	}, nil
}
