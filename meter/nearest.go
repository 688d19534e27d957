package meter

import (
	"cmp"
	"slices"
	"strings"

	"github.com/commonwatt/commonwatt/meter/def"
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
		return def.Distance(mistyped, name)
	}
	sorted := slices.Clone(names)
	slices.SortStableFunc(sorted, func(a, b string) int { return cmp.Compare(away(a), away(b)) })
	return sorted[:min(n, len(sorted))]
}
