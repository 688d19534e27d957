package sim

// twoFaced is a validator that proposes two blocks for one height and votes for both.
func twoFaced() *adversary {
	return &adversary{
		name: "two-faced",
		second: func(r *replica, _ int64, txs [][]byte) [][]byte {
			r.w.trick()
			if len(txs) == 0 {
				return nil
			}
			return txs[1:]
		},
		vote: func(r *replica, p *proposal) bool {
			if p.from == r.i && p.second {
				r.w.engine.prove(r)
			}
			return true
		},
	}
}
