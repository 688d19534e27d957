package meter_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/meter"
)

// TestDefinitions walks the data: every definition reads its own test vectors by the code that reads real devices.
func TestDefinitions(t *testing.T) {
	all, err := meter.Definitions("")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		t.Run(d.ID, func(t *testing.T) {
			if err := meter.CheckDefinition(d); err != nil {
				t.Error(err)
			}
			found, err := meter.FindDefinition("", d.ID)
			if diff := cmp.Diff(d, found); err != nil || diff != "" {
				t.Errorf("file is not named by its id: %v %s", err, diff)
			}
		})
	}
}
