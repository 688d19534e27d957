package market

// NewDeepClearer returns a Clearer that treats every network as a deep one.
func NewDeepClearer() *Clearer {
	c := NewClearer()
	c.climb.alwaysDeep = true
	return c
}

// NewCrampedClearer returns one whose piles soon grow too large.
func NewCrampedClearer() *Clearer {
	c := NewDeepClearer()
	c.climb.knotsPerUnit = 3
	return c
}
