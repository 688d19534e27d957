package def_test

import (
	"testing"

	"github.com/commonwatt/commonwatt/meter/def"
)

// BenchmarkFind is what an agent pays at its start for each meter: one definition, parsed and checked.
func BenchmarkFind(b *testing.B) {
	for b.Loop() {
		if _, _, err := def.Find("", "eastron-sdm630"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLoad is what listing all definitions costs.
func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		if _, err := def.Load(""); err != nil {
			b.Fatal(err)
		}
	}
}
