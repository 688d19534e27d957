package api

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// sentence says what happens now in one sentence, the way a person would: who
// runs the house, where the rest goes or comes from, and at what price.
func sentence(s Snapshot) string {
	f := newFlows(s.Power)
	if !f.complete {
		return incompleteSentence(s)
	}
	t := teller{snap: s, flows: f}
	house := of(f.sinks, placeHouse)
	own := f.ribbonTo(placeHouse, placeRoof) + f.ribbonTo(placeHouse, placeBattery)
	subject, many := t.owner()
	imports := t.imports()
	var verbs []string
	switch {
	case len(f.sources) == 0 && len(f.sinks) == 0:
		return "Nothing flows right now."
	case subject == "" && imports == "":
		return "The house uses " + formatPower(&house) + "."
	case subject == "" || (house > 0 && !notable(own, house)):
		subject, many = "the house", false
		if f.charging() {
			subject, many = "house and battery", true
		}
		verbs = append([]string{plural(many, "draws ", "draw ") + imports}, t.sales(many)...)
		return capitalise(subject+" "+join(verbs)) + "."
	case own*50 >= house*49 && house > 0: // less than 2 % is missing
		verbs = append(verbs, plural(many, "runs", "run")+" the house")
	case house > 0:
		verbs = append(verbs, plural(many, "covers ", "cover ")+formatShare(share(own, house))+" of the house")
	}
	verbs = append(append(verbs, t.charge(many)...), t.sales(many)...)
	if len(verbs) == 0 { // the balance does not add up; say what is sure
		w := total(f.sources)
		verbs = []string{plural(many, "gives ", "give ") + formatPower(&w)}
	}
	out := subject + " " + join(verbs)
	if imports != "" {
		out += ", with " + imports
	}
	return capitalise(out) + "."
}

// incompleteSentence is honest about what is missing.
func incompleteSentence(s Snapshot) string {
	for _, m := range s.Meters {
		if m.Role == MeterConnection && m.State != MeterOK && m.State != MeterStarting {
			return "The meter at the connection is " + string(m.State) + ", so what flows now is unknown."
		}
	}
	c := s.Power.ConnectionW
	switch {
	case c == nil:
		return "Waiting for the first reading of the meter."
	case *c < 0:
		return "The home gives " + formatMagnitude(*c) + " to the street; what happens inside is not known yet."
	default:
		return "The home draws " + formatMagnitude(*c) + " from the street; what happens inside is not known yet."
	}
}

// teller makes the parts of one sentence.
type teller struct {
	snap  Snapshot
	flows flows
}

// notable says whether a part is at least 2 % of the whole; less is left out of
// the sentence as it is left out of the picture.
func notable(part, whole int64) bool { return part > 0 && part*50 >= whole }

func (t teller) notable(w int64) bool { return notable(w, t.flows.total()) }

func (f flows) charging() bool { return notable(of(f.sinks, placeBattery), f.total()) }

// owner names the home's own sources; empty if there are none worth a word.
func (t teller) owner() (name string, many bool) {
	roof := t.notable(of(t.flows.sources, placeRoof))
	battery := t.notable(of(t.flows.sources, placeBattery))
	switch {
	case roof && battery:
		return "your roof and battery", true
	case roof:
		return "your roof", false
	case battery:
		return "your battery", false
	default:
		return "", false
	}
}

// imports lists what comes in from outside, with prices; empty if nothing does.
func (t teller) imports() string {
	var parts []string
	add := func(p place, from string, price *int64) {
		if w := of(t.flows.sources, p); t.notable(w) {
			parts = append(parts, formatPower(&w)+" from "+from+t.at(price))
		}
	}
	add(placeNeighbours, "neighbours", t.snap.PriceNow.Price)
	add(placeGrid, "the grid", t.snap.PriceNow.ImportPrice)
	add(placeStreet, "the street", nil)
	return join(parts)
}

func (t teller) charge(many bool) []string {
	if !t.flows.charging() {
		return nil
	}
	w := of(t.flows.sinks, placeBattery)
	return []string{plural(many, "charges", "charge") + " the battery with " + formatPower(&w)}
}

// sales lists what goes out, with prices.
func (t teller) sales(many bool) []string {
	var out []string
	add := func(p place, verb, to string, price *int64) {
		if w := of(t.flows.sinks, p); t.notable(w) {
			out = append(out, verb+" "+formatPower(&w)+" "+to+t.at(price))
		}
	}
	add(placeNeighbours, plural(many, "sells", "sell"), "to neighbours", t.snap.PriceNow.Price)
	add(placeGrid, plural(many, "feeds", "feed"), "into the grid", t.snap.PriceNow.ExportPrice)
	add(placeStreet, plural(many, "gives", "give"), "to the street", nil)
	return out
}

// at adds a price if it is known.
func (t teller) at(price *int64) string {
	if price == nil {
		return ""
	}
	return " at " + formatPrice(price, t.snap.Account.Currency)
}

// ribbonTo returns the power from one place to another.
func (f flows) ribbonTo(to, from place) int64 {
	for _, r := range f.ribbons {
		if r.to == to && r.from == from {
			return r.w
		}
	}
	return 0
}

func share(part, whole int64) *int64 {
	bp := int64(ratio(uint64(part), uint64(whole), 10_000)) //nolint:gosec // powers of one picture: positive, at most a few GW
	return &bp
}

func formatMagnitude(w int64) string {
	w = bounded(w)
	if w < 0 {
		w = -w
	}
	return formatPower(&w)
}

func plural(many bool, one, more string) string {
	if many {
		return more
	}
	return one
}

// join writes "a", "a and b", "a, b and c".
func join(parts []string) string {
	if len(parts) < 2 {
		return strings.Join(parts, "")
	}
	return strings.Join(parts[:len(parts)-1], ", ") + " and " + parts[len(parts)-1]
}

func capitalise(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[size:]
}
