//go:build race

package bill_test

// Under the race detector, which has little to find in pure code and makes it ten times
// slower, each seventh character does.
func init() { stride = 7 }
