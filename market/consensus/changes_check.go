package consensus

import (
	"fmt"
	"slices"

	"github.com/commonwatt/commonwatt/market/store"
)

// CheckChanges compares what the node in home keeps of changes of the validators with what
// replaying its blocks gave, and proves every header of them from the genesis document on.
// It lists every difference. Blocks compares the same with the headers of all blocks.
func CheckChanges(home string, genesis []byte, report *store.Report) []error {
	a, err := NewAnchor(genesis)
	if err != nil {
		return []error{err}
	}
	c, err := openChanges(home, a.genesis)
	if err != nil {
		return []error{err}
	}
	var bad []error
	for _, set := range report.Sets {
		i := slices.IndexFunc(c.all, func(n noted) bool { return n.height == set.Height })
		switch {
		case i < 0:
			bad = append(bad, fmt.Errorf("%w: block %d changes the validators, which is not kept in %s", ErrCorrupt, set.Height, c.dir))
		case !slices.Equal(c.all[i].next, set.Keys):
			bad = append(bad, fmt.Errorf("%w: %s: names other validators than replaying block %d gives", ErrCorrupt, c.file(set.Height), set.Height))
		}
	}
	var way []Change
	for _, n := range c.all {
		if n.height <= report.Replayed && !slices.ContainsFunc(report.Sets, func(s store.SetChange) bool { return s.Height == n.height }) {
			bad = append(bad, fmt.Errorf("%w: %s: replaying block %d changes no validator", ErrCorrupt, c.file(n.height), n.height))
		}
		if !n.signed {
			break // its header has not come before the node was stopped
		}
		f, err := c.read(n.height)
		if err != nil {
			return append(bad, err)
		}
		way = append(way, Change{Header: f.Signed.Header, Commit: f.Signed.Commit, Next: f.Next})
	}
	if _, err := a.follow(way); err != nil {
		bad = append(bad, fmt.Errorf("%w: %s: %w", ErrCorrupt, c.dir, err))
	}
	return bad
}
