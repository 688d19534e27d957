package sim

// credulous is a validator that votes for everything it sees, however often.
func credulous() *adversary {
	return &adversary{name: "credulous", vote: func(r *replica, _ *proposal) bool {
		r.w.trick()
		return true
	}}
}
