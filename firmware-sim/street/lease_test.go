package street

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/firmware-sim/config"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

// chargeWith are the writes by which each inverter is told to charge with 2 kW
// for a number of seconds (a whole number of minutes for Huawei's). An address,
// then words.
var chargeWith = map[string]func(seconds uint16) [][]uint16{
	"sunspec-battery": func(s uint16) [][]uint16 {
		return [][]uint16{{40310, 0x10000 - 4000, 4000}, {40313, s}, {40303, 3}}
	},
	"sunspec-der": func(s uint16) [][]uint16 {
		return [][]uint16{{40307, 0, 0, s}, {40299, 1, 1, 0xFFFF, 0x10000 - 2000}}
	},
	"huawei-luna2000": func(s uint16) [][]uint16 {
		return [][]uint16{{47083, s / 60}, {47246, 0, 0, 2000}, {47100, 1}}
	},
	"solaredge-storedge": func(s uint16) [][]uint16 {
		return [][]uint16{{0xE00B, s, 0, 3, 0, 0x44FA}} // the float 2000, low word first
	},
}

// TestBackWithinTheLease: whoever leads an inverter, renews at half time, and
// falls silent at any moment: until its last lease is over the battery does what
// it was told, and from then on what it would have done by itself. At any rate,
// since timers run in community time.
func TestBackWithinTheLease(t *testing.T) {
	for id, writes := range chargeWith {
		t.Run(id, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				w := &wall{at: start}
				s, err := New(&config.Config{
					Clock:   config.Clock{Epoch: time.Date(2026, 6, 20, 22, 0, 0, 0, time.UTC), Start: start, Rate: rapid.Int64Range(1, 200).Draw(t, "rate")},
					Refresh: 3 * time.Minute, Seed: 7,
					Homes: []config.Home{{
						ID: "home-1", Load: config.Load{Model: "household", YearlyKWh: 3500}, Battery: &config.Battery{KWh: 40, KW: 5, Efficiency: 0.95},
						Devices: []config.Device{{Role: "battery", Definition: id, Unit: 9}},
					}},
				}, w.now)
				if err != nil {
					t.Fatal(err)
				}
				house := s.houses[0]
				unit := s.Bus()[9].(modbus.Writer)
				at := func(community time.Time) *Orders {
					w.at = s.clock.Wall(community)
					o, err := s.Orders(context.Background(), house)
					if err != nil {
						t.Fatal(err)
					}
					return o
				}
				lease := time.Duration(rapid.IntRange(1, 30).Draw(t, "minutes")) * time.Minute
				now := s.clock.Epoch.Add(time.Duration(rapid.Int64Range(0, 3_600_000).Draw(t, "begin")) * time.Millisecond)
				if o := at(now); o.Control.Battery.On || o.Battery > 0 {
					t.Fatalf("at night, by itself: %+v", o)
				}
				var last time.Time
				for range rapid.IntRange(1, 6).Draw(t, "renewals") {
					at(now)
					for _, words := range writes(uint16(lease.Seconds())) {
						if err := unit.Write(context.Background(), words[0], words[1:]); err != nil {
							t.Fatalf("writing %v: %v", words, err)
						}
					}
					last = s.Now()
					now = last.Add(lease / 2)
					if o := at(now); o.Battery != 2_000_000 {
						t.Fatalf("at half time it does %d mW, told 2 kW", o.Battery)
					}
				}
				end := last.Add(lease).Truncate(time.Millisecond)
				if o := at(end.Add(-time.Duration(s.clock.Rate+1) * time.Millisecond)); o.Battery != 2_000_000 {
					t.Fatalf("shortly before the end it does %d mW", o.Battery)
				}
				if o := at(end.Add(time.Millisecond)); o.Battery > 0 || o.Control.Battery.On || o.Control.Output.On {
					t.Fatalf("when the lease is over it does %d mW: %+v", o.Battery, o.Control)
				}
			})
		})
	}
}
