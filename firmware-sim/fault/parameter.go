package fault

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
)

// Parameter is one number or word that a fault takes.
type Parameter struct {
	Name     string
	Default  string
	Low      string // bounds, or "" for a choice
	High     string
	Choices  []string
	Sentence string

	check func(text string) bool
	want  string
}

// maxWh is far more than any meter's digits and far below what milliwatt-hours
// in an int64 hold.
const maxWh = 1_000_000_000_000

var whichCounter = choice("counter", "both", "which counter", "import", "export", "both")

func choice(name, normal, sentence string, of ...string) Parameter {
	return Parameter{
		Name: name, Default: normal, Choices: of, Sentence: sentence,
		check: func(text string) bool { return slices.Contains(of, text) },
		want:  "one of " + strings.Join(of, ", "),
	}
}

func integer(name, normal string, low, high int64, sentence string) Parameter {
	return Parameter{
		Name: name, Default: normal, Low: strconv.FormatInt(low, 10), High: strconv.FormatInt(high, 10), Sentence: sentence,
		check: func(text string) bool {
			n, err := strconv.ParseInt(text, 10, 64)
			return err == nil && n >= low && n <= high
		},
		want: fmt.Sprintf("a whole number from %d to %d", low, high),
	}
}

func decimal(name, normal string, low, high float64, sentence string) Parameter {
	return Parameter{
		Name: name, Default: normal, Low: fmt.Sprint(low), High: fmt.Sprint(high), Sentence: sentence,
		check: func(text string) bool {
			x, err := strconv.ParseFloat(text, 64)
			return err == nil && x >= low && x <= high
		},
		want: fmt.Sprintf("a number from %v to %v", low, high),
	}
}

func duration(name, normal, low, high, sentence string) Parameter {
	least, _ := time.ParseDuration(low)
	most, _ := time.ParseDuration(high)
	return Parameter{
		Name: name, Default: normal, Low: low, High: high, Sentence: sentence,
		check: func(text string) bool {
			d, err := time.ParseDuration(text)
			return err == nil && d >= least && d <= most
		},
		want: fmt.Sprintf("a duration from %s to %s, like %s", low, high, normal),
	}
}

// values are a fault's parameters, checked, with the defaults filled in.
type values map[string]string

// valuesOf checks what was given for a kind.
func (k Kind) valuesOf(given map[string]string) (values, error) {
	v := values{}
	for _, p := range k.Parameters {
		v[p.Name] = p.Default
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		at := slices.IndexFunc(k.Parameters, func(p Parameter) bool { return p.Name == name })
		if at < 0 {
			return nil, problem("parameters."+name, "%s does not take it, allowed here: %s", k.Name, k.parameterNames())
		}
		if p := k.Parameters[at]; !p.check(given[name]) {
			return nil, problem("parameters."+name, "got %.60q, want %s", given[name], p.want)
		}
		v[name] = given[name]
	}
	return v, nil
}

func (k Kind) parameterNames() string {
	if len(k.Parameters) == 0 {
		return "none"
	}
	var list []string
	for _, p := range k.Parameters {
		list = append(list, p.Name)
	}
	return strings.Join(list, ", ")
}

func (v values) int(name string) int {
	n, _ := strconv.Atoi(v[name]) // was checked
	return n
}

// milli is a parameter in Wh as mWh.
func (v values) milli(name string) home.MilliWattHours {
	n, _ := strconv.ParseInt(v[name], 10, 64) // was checked
	return home.MilliWattHours(n * home.MilliWattHoursPerWattHour)
}

// micro is a decimal in millionths.
func (v values) micro(name string) int64 {
	x, _ := strconv.ParseFloat(v[name], 64) // was checked
	return int64(math.Round(x * 1e6))
}

func (v values) duration(name string) time.Duration {
	d, _ := time.ParseDuration(v[name]) // was checked
	return d
}

// counters says which of the two are meant.
type counters struct{ imported, exported bool }

func (v values) counter() counters {
	return counters{imported: v["counter"] != "export", exported: v["counter"] != "import"}
}
