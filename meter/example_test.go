package meter_test

import (
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/commonwatt/commonwatt/meter"
)

// The way of a sample: the tracker decides whether it counts, the chain numbers and signs it, and two readings at
// interval boundaries prove what was imported between them. A counter that falls to 0 on the way is not believed.
func Example() {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) // a real one is made once and kept
	tracker, err := meter.NewTracker(20_000, meter.TrackerState{})
	if err != nil {
		panic(err)
	}
	chain, err := meter.NewChain(key, meter.ChainState{})
	if err != nil {
		panic(err)
	}
	boundaries, err := meter.NewBoundaries(15*time.Minute, time.Minute, nil)
	if err != nil {
		panic(err)
	}
	start := time.Date(2026, 6, 21, 12, 0, 5, 0, time.UTC)
	for i, wh := range []uint64{13_423_000, 13_423_150, 0, 13_423_420} {
		decision := tracker.Offer(meter.Sample{At: start.Add(time.Duration(i) * 5 * time.Minute), ImportWh: &wh})
		fmt.Println(wh, decision.Verdict)
		if decision.Verdict != meter.Accepted {
			continue
		}
		reading, err := chain.Append(decision.Sample)
		if err != nil {
			panic(err)
		}
		if span, ok := boundaries.Add(reading); ok {
			fmt.Printf("%d Wh from %s to %s, proven by readings %d and %d\n", *span.ImportWh(),
				span.FirstBoundary.Format("15:04"), span.LastBoundary.Format("15:04"), span.Start.Seq, span.End.Seq)
		}
	}
	// Output:
	// 13423000 accepted
	// 13423150 accepted
	// 0 held
	// 13423420 accepted
	// 420 Wh from 12:00 to 12:15, proven by readings 1 and 3
}
