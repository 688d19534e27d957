package sim

// absent is a validator that neither proposes nor votes.
func absent() *adversary {
	return &adversary{name: "absent", silent: true, vote: func(r *replica, _ *proposal) bool {
		r.w.trick()
		return false
	}}
}
