package household

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/meter"
)

// A device that is asked before a boundary and answers after it may have counted
// before it: such an answer proves nothing, the next one does.
func TestAnswerAcrossTheBoundary(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	const length, tolerance = 15 * time.Minute, 90 * time.Second
	chain, err := meter.NewChain(key, meter.ChainState{})
	if err != nil {
		t.Fatal(err)
	}
	boundaries, err := meter.NewBoundaries(length, tolerance, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := &prover{chain: chain, boundaries: boundaries, calendar: market.Calendar{Length: length}, tolerance: tolerance}
	boundary := time.Date(2026, time.June, 21, 9, 15, 0, 0, time.UTC)
	wh := uint64(1)
	for _, tc := range []struct {
		name      string
		asked, at time.Duration // after the boundary
		push, due bool
	}{
		{name: "asked before, answered after", asked: -time.Second, at: time.Second},
		{name: "asked at the boundary", asked: 0, at: time.Second, due: true},
		{name: "asked and answered after", asked: time.Second, at: 2 * time.Second, due: true},
		{name: "speaks by itself", at: time.Second, push: true, due: true},
		{name: "answered too late", asked: time.Second, at: tolerance + time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := meter.Sample{At: boundary.Add(tc.at), AskedAt: boundary.Add(tc.asked), ImportWh: &wh, ExportWh: &wh}
			if tc.push {
				s.AskedAt = time.Time{}
			}
			if _, due := p.due(s); due != tc.due {
				t.Errorf("due = %v, want %v", due, tc.due)
			}
		})
	}
}
