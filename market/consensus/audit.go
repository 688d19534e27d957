//go:build !debug

package consensus

// auditing is for builds with the tag debug, see there.
const auditing = false
