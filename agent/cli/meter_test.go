package cli //nolint:testpackage // the rule is not exported

import (
	"testing"
	"time"
)

// TestRequestTimeout: on lines without transaction numbers the silence at the beginning, which is two requests long,
// and at least one request fit into the time that a person gives; whoever gives plenty gets the usual bounds.
func TestRequestTimeout(t *testing.T) {
	const usual = 3 * time.Second // of a serial server; a port has less
	for _, address := range []string{"rtu:///dev/ttyUSB0?baud=9600", "rtu+tcp://192.168.1.20:4001", "tcp://192.168.1.20:502", "mqtt://broker:1883/x"} {
		for _, whole := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 5 * time.Second, 10 * time.Second, time.Minute} {
			got := requestTimeout(address, whole)
			one := got
			switch {
			case got != 0:
			case address[:4] == "rtu:":
				one = time.Second + 100*time.Millisecond
			case address[:4] == "rtu+":
				one = usual
			default:
				continue
			}
			if silence := 2 * one; silence+one >= whole {
				t.Errorf("%s within %v: a request may take %v, so none fits after the first silence", address, whole, one)
			}
			if address[:3] != "rtu" && got != 0 {
				t.Errorf("%s: got %v, expected the usual", address, got)
			}
		}
	}
}
