package main

import (
	"os"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/home"
)

// TestPageNamesInverters: the page about simulated homes names every inverter
// and every occupancy that there is.
func TestPageNamesInverters(t *testing.T) {
	page, err := os.ReadFile("../docs/simulated-homes.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range device.Kinds() {
		if kind, _ := device.Lookup(id); kind.Obeys() && !strings.Contains(string(page), "| `"+id+"` |") {
			t.Errorf("no row for %s", id)
		}
	}
	for _, name := range home.Occupancies() {
		if !strings.Contains(string(page), name) {
			t.Errorf("nothing of %s", name)
		}
	}
}
