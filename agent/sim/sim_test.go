package sim

import (
	"flag"
	"fmt"
	"testing"
)

var (
	seeds = flag.Int("sim.seeds", 20, "how many seeds TestSeeds runs")
	seed  = flag.Int64("sim.seed", -1, "run this one seed of TestSeeds, and tell everything that happens")
)

// A day of every seed holds what the package promises. A seed that does not is printed: run it
// alone with -sim.seed, and keep it in testdata/seeds.txt.
func TestSeeds(t *testing.T) {
	if *seed >= 0 {
		r, err := Run(Options{Seed: uint64(*seed), Trace: func(line string) { fmt.Println(line) }})
		t.Logf("%+v", *r)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	for i := range *seeds {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			if _, err := Run(Options{Seed: uint64(i)}); err != nil { //nolint:gosec // not negative
				t.Error(err)
			}
		})
	}
}
