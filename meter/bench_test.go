package meter_test

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter"
)

func BenchmarkFindDefinition(b *testing.B) {
	for b.Loop() {
		if _, err := meter.FindDefinition("", "sunspec-meter"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReading is what a poll costs beside its transport: judge, chain and sign.
func BenchmarkReading(b *testing.B) {
	tracker, err := meter.NewTracker(69000, meter.TrackerState{})
	if err != nil {
		b.Fatal(err)
	}
	chain, err := meter.NewChain(goldenKey(), meter.ChainState{})
	if err != nil {
		b.Fatal(err)
	}
	at, wh := noon, uint64(0)
	for b.Loop() {
		at, wh = at.Add(time.Second), wh+1
		d := tracker.Offer(meter.Sample{At: at, ImportWh: &wh})
		if d.Verdict != meter.Accepted {
			b.Fatal(d.Reason)
		}
		if _, err := chain.Append(d.Sample); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeSigned(b *testing.B) {
	chain, err := meter.NewChain(goldenKey(), meter.ChainState{})
	if err != nil {
		b.Fatal(err)
	}
	r, err := chain.Append(meter.Sample{At: noon, ImportWh: new(uint64(1))})
	if err != nil {
		b.Fatal(err)
	}
	message, err := meter.EncodeSigned(r, goldenKey().Public().(ed25519.PublicKey))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := meter.DecodeSigned(message); err != nil {
			b.Fatal(err)
		}
	}
}
