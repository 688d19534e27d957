package meter_test

import (
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter"
)

func TestWait(t *testing.T) {
	for _, period := range []time.Duration{0, 1, 9, 10 * time.Second} {
		least, most := time.Hour, time.Duration(0)
		for range 10_000 {
			w := meter.Wait(period)
			least, most = min(least, w), max(most, w)
		}
		if tenth := period / 10; least < period-tenth || most > period+tenth {
			t.Errorf("%v: got %v to %v, expected within a tenth", period, least, most)
		}
	}
	waits := map[time.Duration]bool{}
	for range 100 {
		waits[meter.Wait(10*time.Second)] = true
	}
	if len(waits) < 50 {
		t.Errorf("got %d different waits of 100", len(waits))
	}
}
