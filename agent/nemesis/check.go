package main

import (
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// books is what was read from the homes when all was quiet, and after they had ended.
type books struct {
	first, last int64 // every home has to have these intervals settled
	homes       []homeBooks
}

// homeBooks is what one home has.
type homeBooks struct {
	name     string
	full     bool
	accounts map[string]account  // by home; a light home has its own
	offices  map[string]int64    // balances of those who are no household; nil in a light home
	hash     string              // AppHash at the height that all full homes have; empty in a light home
	copies   func(tx []byte) int // in how many places of its blocks a transaction is; nil: it does not keep all
	ledger   string              // what `ledger check` says is wrong; empty: nothing
}

// account is a household's, as some home has it.
type account struct {
	lines   []billLine // in the ledger's order
	closing int64
}

// conditions are what the checker knows beside journal and books.
type conditions struct {
	harms  []harm
	prices prices
	excuse time.Duration                              // an order that had so long a calm before its gate has no excuse
	wall   func(time.Time) time.Time                  // of an instant of community time
	meters map[string]func(time.Time) (energy, error) // by home: what its own meter counted up to then
}

// verdict is what the checker finds. What is lost or doubled is so however many homes
// show it.
type verdict struct {
	acknowledged  int
	lost, doubled map[string]bool
	replaced      map[int]bool // operations in no block, since a later one came first
	excused       map[int]bool // operations whose gate closed in harm
	hashesEqual   bool
	texts         []string // what is wrong, at most maxTexts
}

const maxTexts = 40

func (v *verdict) bad(format string, args ...any) {
	if len(v.texts) < maxTexts {
		v.texts = append(v.texts, fmt.Sprintf(format, args...))
	}
}

func (v *verdict) lose(what, format string, args ...any) {
	v.lost[what] = true
	v.bad(format, args...)
}

func (v *verdict) double(what, format string, args ...any) {
	v.doubled[what] = true
	v.bad(format, args...)
}

// judge holds the journal against the books.
func judge(entries []entry, b *books, c conditions) *verdict {
	v := &verdict{
		lost: map[string]bool{}, doubled: map[string]bool{}, replaced: map[int]bool{}, excused: map[int]bool{}, hashesEqual: true,
	}
	for i := range entries {
		if entries[i].Answer == answerAcknowledged {
			v.acknowledged++
		}
	}
	for i := range b.homes {
		h := &b.homes[i]
		if h.full {
			v.transactions(entries, h, c)
			v.offices(h, c.prices)
		}
		v.intervals(b, h)
		v.reports(entries, b, h)
		if h.ledger != "" {
			v.bad("%s: ledger check: %s", h.name, h.ledger)
		}
	}
	v.agree(b)
	v.recount(b, c)
	return v
}

// place is one side of a household's interval.
type place struct {
	home     string
	interval int64
	side     string
}

// transactions looks every one of the journal up in a home's blocks (N1, N2).
func (v *verdict) transactions(entries []entry, h *homeBooks, c conditions) {
	if h.copies == nil {
		return
	}
	highest := map[place]uint64{} // of what is in a block
	var missing []*entry
	for i := range entries {
		e := &entries[i]
		if e.Tx == "" {
			continue
		}
		raw, err := hex.DecodeString(e.Tx)
		if err != nil {
			v.bad("journal: operation %d: %v", e.Op, err)
			continue
		}
		n := h.copies(raw)
		if n > 1 {
			v.double(fmt.Sprint("op ", e.Op), "%s: %s is in %d places of its blocks", h.name, e, n)
		}
		at := place{e.Home, e.Interval, e.Side}
		if n > 0 {
			highest[at] = max(highest[at], e.Seq)
		} else if e.Answer == answerAcknowledged {
			missing = append(missing, e)
		}
	}
	for _, e := range missing {
		switch {
		case highest[place{e.Home, e.Interval, e.Side}] > e.Seq:
			v.replaced[e.Op] = true
		case e.Kind != opPreference && calm(c.harms, e.Home, e.Answered, c.wall(gateOf(e.Interval))) < c.excuse:
			v.excused[e.Op] = true
		default:
			v.lose(fmt.Sprint("op ", e.Op), "%s: %s, acknowledged at %s, is in no block", h.name, e, e.Answered.Format("15:04:05.0"))
		}
	}
	v.named(h, highest)
}

// named compares the orders in blocks with those that settlements name (N3).
func (v *verdict) named(h *homeBooks, highest map[place]uint64) {
	for at, seq := range highest {
		for _, l := range h.accounts[at.home].lines {
			used := l.Bid
			if at.side == "offer" {
				used = l.Offer
			}
			if at.side != "" && l.Interval == at.interval && used < seq {
				v.lose(fmt.Sprint("order ", at), "%s: interval %d of %s is settled with %s %d, but %d is in a block",
					h.name, at.interval, at.home, at.side, used, seq)
			}
		}
	}
}

// intervals looks whether each one is settled, and once (N4).
func (v *verdict) intervals(b *books, h *homeBooks) {
	for name, a := range h.accounts {
		versions := map[int64]uint32{}
		for i, l := range a.lines {
			if i > 0 && l.Number <= a.lines[i-1].Number {
				v.double(fmt.Sprintf("line %d of %s", l.Number, name), "%s: the account of %s has line %d after line %d", h.name, name, l.Number, a.lines[i-1].Number)
			}
			if l.Version != versions[l.Interval]+1 {
				v.double(fmt.Sprintf("interval %d of %s", l.Interval, name), "%s: interval %d of %s is settled by version %d after version %d",
					h.name, l.Interval, name, l.Version, versions[l.Interval])
			}
			versions[l.Interval] = l.Version
		}
		for k := b.first; k <= b.last; k++ {
			if versions[k] == 0 {
				v.lose(fmt.Sprintf("interval %d of %s", k, name), "%s: interval %d of %s is not settled", h.name, k, name)
			}
		}
		for k, l := range newest(a.lines) {
			if l.Quality == "substitute" || l.Quality == "missing" {
				v.lose(fmt.Sprintf("interval %d of %s", k, name), "%s: interval %d of %s is settled without its report", h.name, k, name)
			}
		}
	}
}

// newest is the last version of each interval.
func newest(lines []billLine) map[int64]billLine {
	out := map[int64]billLine{}
	for _, l := range lines {
		out[l.Interval] = l
	}
	return out
}

// reports compares what homes had shown of their meters with what is settled (N4).
func (v *verdict) reports(entries []entry, b *books, h *homeBooks) {
	settled := map[string]map[int64]billLine{}
	for name, a := range h.accounts {
		settled[name] = newest(a.lines)
	}
	for i := range entries {
		e := &entries[i]
		if e.Kind != opReport || e.Interval < b.first || e.Interval > b.last {
			continue
		}
		if l, ok := settled[e.Home][e.Interval]; ok && (l.Import != e.Import || l.Export != e.Export) {
			v.lose(fmt.Sprint("op ", e.Op), "%s: %s was shown as %d Wh in and %d out, settled are %d and %d",
				h.name, e, e.Import, e.Export, l.Import, l.Export)
		}
	}
}

// agree compares the homes with each other (N5).
func (v *verdict) agree(b *books) {
	var hash, of string
	for i := range b.homes {
		h := &b.homes[i]
		if h.full && of == "" {
			hash, of = h.hash, h.name
		}
		if h.full && h.hash != hash {
			v.hashesEqual = false
			v.bad("%s and %s have other hashes at one height: %s and %s", of, h.name, hash, h.hash)
		}
		for name, a := range h.accounts {
			other := b.homes[0].accounts[name]
			if !slices.Equal(upTo(a.lines, b.last), upTo(other.lines, b.last)) {
				v.bad("%s and %s have other lines in the account of %s", b.homes[0].name, h.name, name)
			}
		}
	}
}

// upTo is the lines of intervals up to last. Later ones may differ: homes are read one after
// the other.
func upTo(lines []billLine, last int64) []billLine {
	return slices.DeleteFunc(slices.Clone(lines), func(l billLine) bool { return l.Interval > last })
}

// String names an operation for people.
func (e *entry) String() string {
	if e.Kind == opReport {
		return fmt.Sprintf("operation %d (what %s metered in interval %d)", e.Op, e.Home, e.Interval)
	}
	if e.Kind == opPreference {
		return fmt.Sprintf("operation %d (preference %d of %s)", e.Op, e.Seq, e.Home)
	}
	return fmt.Sprintf("operation %d (%s %d of %s for interval %d)", e.Op, e.Kind, e.Seq, e.Home, e.Interval)
}
