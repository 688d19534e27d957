package meter

import (
	"cmp"
	"slices"
	"strings"
)

// nearest returns the n names that are most like a mistyped one, best first: by the number of letters to insert,
// delete or exchange. Names are short (def bounds them), so the plain algorithm does.
func nearest(mistyped string, names []string, n int) []string {
	const longest = 64
	mistyped = mistyped[:min(len(mistyped), longest)]
	mistyped = strings.NewReplacer(" ", "-", "_", "-").Replace(strings.ToLower(mistyped)) // as on the label of the device
	away := func(name string) int {
		if strings.Contains(name, mistyped) {
			return 0 // half a name is no typo
		}
		return edits(mistyped, name)
	}
	sorted := slices.Clone(names)
	slices.SortStableFunc(sorted, func(a, b string) int { return cmp.Compare(away(a), away(b)) })
	return sorted[:min(n, len(sorted))]
}

// edits is the distance of Levenshtein, by its recurrence over prefixes.
func edits(a, b string) int {
	row := make([]int, len(b)+1) // of the prefix of a before
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
