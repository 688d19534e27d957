package sim

// adversary is how somebody cheats.
type adversary struct {
	name string
	// propose changes what a validator proposes; second is another proposal for the same
	// height; vote is how it votes. Nil: as an honest one does.
	propose func(r *replica, height int64, txs [][]byte) [][]byte
	second  func(r *replica, height int64, txs [][]byte) [][]byte
	vote    func(r *replica, p *proposal) bool
	// begin plans what somebody does by himself.
	begin func(w *world)
}
