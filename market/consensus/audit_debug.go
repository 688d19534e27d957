//go:build debug

package consensus

// auditing: every block is followed by State.Audit (R10). It costs as much as reading the
// whole state, so only builds with the tag debug do so; `make race` is one.
const auditing = true
