package meter_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/meter"
)

// FuzzAddress: whatever stands for an address of a meter, it opens or is refused with what was got and what would be
// right. No password that somebody wrote into it is told again.
func FuzzAddress(f *testing.F) {
	definitions := []string{"dsmr-p1", "homewizard-p1", "dsmr-reader", "shelly-3em", "eastron-sdm630"}
	for _, address := range []string{
		"tcp://192.0.2.1:502", "tls://[2001:db8::1]:802", "rtu:///dev/ttyUSB0?baud=9600&parity=E", "rtu+tcp://192.0.2.1:8899",
		"p1:///dev/ttyUSB0?baud=115200", "p1+tcp://192.0.2.1:23", "p1+file:telegram.txt", "mqtts://broker.example:8883/kitchen",
		"https://somebody:secret@192.0.2.1/", "http://[::1", "mqtt://x:y@", "tcp://:0", ":", "",
	} {
		for i := range definitions {
			f.Add(uint8(i), address)
		}
	}
	f.Fuzz(func(t *testing.T, definition uint8, address string) {
		if strings.HasPrefix(address, "p1+file:") {
			return // it reads the file
		}
		c := meter.Config{Definition: definitions[int(definition)%len(definitions)], Address: address}
		source, err := meter.Open(t.Context(), c)
		if err == nil {
			if err := source.Close(); err != nil {
				t.Fatal(err)
			}
			return
		}
		e := (*meter.ConfigError)(nil)
		if !errors.As(err, &e) || e.Want == "" || !slices.Contains([]string{"address", "unit", "transport", "tls", "definition"}, e.Field) {
			t.Fatalf("%q: got %#v, want an error that names a field and what would be right", address, err)
		}
		if e.Field == "address" && strings.Contains(e.Got, "secret@") {
			t.Errorf("%q: tells the password: %v", address, e)
		}
	})
}
