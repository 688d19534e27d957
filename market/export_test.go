package market

// NewDeepClearer returns a Clearer that treats every network as a deep one.
func NewDeepClearer() *Clearer {
	c := NewClearer()
	c.climb.alwaysDeep = true
	return c
}
