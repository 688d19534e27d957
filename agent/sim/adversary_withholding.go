package sim

import "github.com/commonwatt/commonwatt/market/ledger"

// withholding is a validator that leaves orders out of its blocks, and closes the gate.
func withholding() *adversary {
	return &adversary{name: "withholding", propose: func(r *replica, _ int64, txs [][]byte) [][]byte {
		r.w.trick()
		var out [][]byte
		for _, raw := range txs {
			if tx, err := r.w.engine.decode(raw); err != nil || tx.Kind() != ledger.KindOrder {
				out = append(out, raw)
			}
		}
		return out
	}}
}
