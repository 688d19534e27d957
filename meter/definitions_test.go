package meter_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
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

// TestDocumented: every definition says where its facts are from, has a vector, and stands in the table of the manual;
// every key of a definition file is explained there.
func TestDocumented(t *testing.T) {
	all, err := meter.Definitions("")
	if err != nil {
		t.Fatal(err)
	}
	manual := filepath.Join("..", "docs", "meters.md")
	data, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| id | device | by | tells |\n|---|---|---|---|\n")
	for _, d := range all {
		if len(d.Facts) == 0 || len(d.Tests) == 0 {
			t.Errorf("%s has %d facts and %d vectors", d.ID, len(d.Facts), len(d.Tests))
		}
		tells := strings.Join(d.Measures(), ", ")
		if modes := d.ModeNames(); len(modes) > 0 {
			tells += "; is led: " + strings.Join(modes, ", ")
		}
		if d.SignedBy == "device" {
			tells += "; signs"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", d.ID, d.Name, strings.Join(d.Protocols(), ", "), tells)
	}
	begin, rest, ok := strings.Cut(string(data), "<!-- devices:")
	mark, _, ok2 := strings.Cut(rest, "\n")
	_, end, ok3 := strings.Cut(rest, "<!-- /devices -->")
	if !ok || !ok2 || !ok3 {
		t.Fatalf("%s has no place for the table", manual)
	}
	want := begin + "<!-- devices:" + mark + "\n" + table.String() + "<!-- /devices -->" + end
	if want != string(data) {
		if !*update {
			t.Errorf("the table in %s is not that of the definitions; go test ./meter -run Documented -update writes it", manual)
		} else if err := os.WriteFile(manual, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text := begin + end
	_, example, _ := strings.Cut(text, "```yaml\n")
	example, _, _ = strings.Cut(example, "```")
	if d, err := def.Parse([]byte(example)); err != nil {
		t.Errorf("the example of %s: %v", manual, err)
	} else if err := meter.CheckDefinition(d); err != nil {
		t.Errorf("the example of %s: %v", manual, err)
	}
	for key := range yamlKeys(reflect.TypeFor[meter.Definition](), map[string]bool{}) {
		if !strings.Contains(text, "`"+key+"`") {
			t.Errorf("%s does not explain the key %s", manual, key)
		}
	}
}

// yamlKeys collects the keys of a type and of all that it is made of.
func yamlKeys(kind reflect.Type, keys map[string]bool) map[string]bool {
	switch kind.Kind() { //nolint:exhaustive // all others have no keys
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return yamlKeys(kind.Elem(), keys)
	case reflect.Struct:
		for f := range kind.Fields() {
			if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name != "" && name != "-" && !keys[name+" "+kind.Name()] {
				keys[name+" "+kind.Name()] = true
				yamlKeys(f.Type, keys)
			}
		}
	}
	names := map[string]bool{}
	for key := range keys {
		name, _, _ := strings.Cut(key, " ")
		names[name] = true
	}
	if kind != reflect.TypeFor[meter.Definition]() {
		return keys
	}
	return names
}
