package ledger

import (
	"crypto/ed25519"

	"github.com/commonwatt/commonwatt/market"
)

// SetPreference replaces a household's standing limits, from the next gate on.
type SetPreference struct {
	_       struct{} `cbor:",toarray"`
	Seq     uint64   // above the last one's
	MinSell market.Price
	MaxBuy  market.Price
}

// Sign makes the transaction, with the household's device key.
func (p *SetPreference) Sign(chainID string, h market.HouseholdID, device ed25519.PrivateKey) []byte {
	return sign(KindPreference, chainID, h, p, device)
}

func (p *SetPreference) shape() *Refusal { return nil }

func (p *SetPreference) check(d *draft, tx *Tx) *Refusal {
	h, refusal := d.member(tx)
	if refusal != nil {
		return refusal
	}
	if refusal := d.staying(tx, h, d.next()); refusal != nil {
		return refusal
	}
	if p.Seq <= h.PreferenceSeq {
		return refuse(CodeSequenceUsed, "seq", "got %d, want above %d", p.Seq, h.PreferenceSeq)
	}
	r := d.rulesAt(d.next())
	if p.MinSell < r.PriceMin || p.MinSell > r.PriceMax {
		return refuse(CodeBadPreference, "min_sell", "got %d, want %d to %d", p.MinSell, r.PriceMin, r.PriceMax)
	}
	if p.MaxBuy < r.PriceMin || p.MaxBuy > r.PriceMax {
		return refuse(CodeBadPreference, "max_buy", "got %d, want %d to %d", p.MaxBuy, r.PriceMin, r.PriceMax)
	}
	return nil
}

func (p *SetPreference) signer(d *draft, tx *Tx) (Key, *Refusal) { return d.deviceOf(tx) }
func (p *SetPreference) verify(*draft, *Tx) *Refusal             { return nil }

func (p *SetPreference) apply(d *draft, tx *Tx) error {
	h, err := d.editHousehold(tx.env.Household)
	if err != nil {
		return err
	}
	h.PreferenceSeq, h.MinSell, h.MaxBuy = p.Seq, p.MinSell, p.MaxBuy
	return nil
}
