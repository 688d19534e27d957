package decision

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// row is one kind of decision.
type row struct {
	household bool   // it is on a household's behalf
	made      string // the command that makes such a file
	new       func() Matter
}

// kinds is the table of all decisions: adding one is a row here and a file.
var kinds = map[ledger.Kind]row{
	ledger.KindHousehold:   {true, "commonwatt join", func() Matter { return new(Admission) }},
	ledger.KindMeter:       {true, "commonwatt join", func() Matter { return new(Meter) }},
	ledger.KindReplacement: {true, "commonwatt meter replace", func() Matter { return new(Replacement) }},
}

// rowOf finds a kind by its name.
func rowOf(name string) (row, error) {
	var names []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		if kind.String() == name {
			return kinds[kind], nil
		}
		names = append(names, kind.String())
	}
	return row{}, fmt.Errorf("kind: got %.60q, want %s", name, strings.Join(names, ", "))
}

// MadeBy is the command that makes files of this one's kind; all of them if it is unknown.
func (f *File) MadeBy() string {
	if r, err := rowOf(f.Kind); err == nil {
		return r.made
	}
	return Makers()
}

// Makers are all commands that make decisions.
func Makers() string {
	var made []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		if !slices.Contains(made, "`"+kinds[kind].made+"`") {
			made = append(made, "`"+kinds[kind].made+"`")
		}
	}
	return strings.Join(made, ", ")
}
