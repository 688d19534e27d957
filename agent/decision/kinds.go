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
	office    bool   // an officer sends it; else the household's own keys sign
	made      string // the command that makes such a file
	new       func() Matter
}

// kinds is the table of all decisions: adding one is a row here and a file.
var kinds = map[ledger.Kind]row{
	ledger.KindHousehold:   {true, false, "commonwatt join", func() Matter { return new(Admission) }},
	ledger.KindMeter:       {true, false, "commonwatt join", func() Matter { return new(Meter) }},
	ledger.KindNetwork:     {false, true, propose, func() Matter { return new(Network) }},
	ledger.KindRules:       {false, true, propose, func() Matter { return new(Rules) }},
	ledger.KindMembership:  {true, false, propose, func() Matter { return new(Membership) }},
	ledger.KindCorrection:  {true, false, propose, func() Matter { return new(Correction) }},
	ledger.KindReplacement: {true, false, "commonwatt meter replace", func() Matter { return new(Replacement) }},
	ledger.KindDeparture:   {true, true, propose, func() Matter { return new(Exclusion) }},
	ledger.KindValidator:   {false, true, propose, func() Matter { return new(Validator) }},
}

// propose is the command that makes most kinds.
const propose = "commonwatt community propose"

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

// Office says whether an officer sends it; else the household on whose behalf it is.
func (f *File) Office() bool {
	r, err := rowOf(f.Kind)
	return err == nil && r.office
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
