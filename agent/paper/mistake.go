package paper

import (
	"fmt"
	"slices"
	"strings"
)

// A Mistake is what a person typed wrong.
type Mistake struct {
	Place string // "letter 17", "word 3"; empty: it is not known where
	Got   string
	Text  string // what is wrong with it
	Right string // what it has to be, or is likely to be; empty: unknown
	Sure  bool   // nothing else can be right, if this is the only mistake
}

// Error reads `word 3: got "aple", which is not in the list; it has to be "apple"`.
func (m *Mistake) Error() string {
	var b strings.Builder
	if m.Place != "" {
		fmt.Fprintf(&b, "%s: got %q, which %s", m.Place, m.Got, m.Text)
	} else {
		b.WriteString(m.Text)
	}
	switch {
	case m.Right == "":
	case m.Sure:
		fmt.Fprintf(&b, "; if the rest is right it has to be %q", m.Right)
	default:
		fmt.Fprintf(&b, "; did you mean %q?", m.Right)
	}
	return b.String()
}

// nearest is the word of the list with the fewest typing mistakes between it and the one
// given, the first of several; empty if none is near.
func nearest(word string) string {
	const near = 3
	best, least := "", near
	for _, w := range list {
		if d := distance(word, w, least); d < least {
			best, least = w, d
		}
	}
	return best
}

// distance counts insertions, deletions, changes and swaps of neighbours; it may stop at most.
func distance(a, b string, most int) int {
	if len(a) > len(b)+most || len(b) > len(a)+most {
		return most
	}
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		if slices.Min(row) >= most {
			return most
		}
		before, last = last, row
	}
	return last[len(b)]
}
