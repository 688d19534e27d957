package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// evening is a street of two full homes and a light one that kept every promise: what the
// checker sees of it.
type evening struct {
	entries []entry
	books   books
	cond    conditions
	blocks  map[string][]byte // of full homes
}

const (
	firstSettled = 100
	lastSettled  = 109
)

// at is an instant of the wall clock in the evening; the street's time goes at the same pace.
func at(interval int64) time.Time { return startOf(interval) }

func newEvening() *evening {
	e := &evening{blocks: map[string][]byte{}}
	p := prices{retail: 310_000, feedIn: 79_000, fee: 5_000}
	e.cond = conditions{
		prices: p, excuse: time.Hour, wall: func(t time.Time) time.Time { return t },
		meters: map[string]func(time.Time) (energy, error){},
	}
	accounts := map[string]account{}
	var fees, all int64
	for n, name := range []string{"home-1", "home-2", "home-3"} {
		count := func(t time.Time) (energy, error) {
			minutes := t.Unix() / 60
			return energy{in: minutes * (7 + int64(n)), out: minutes * 2}, nil
		}
		e.cond.meters[name] = count
		var a account
		for k := int64(firstSettled); k <= lastSettled; k++ {
			d, _ := between(count, k, k+1)
			l := billLine{
				Number: uint64(len(a.lines) + 1), Interval: k, Version: 1, Quality: "good", Bought: 30, Price: 150_000 + k,
				Import: d.in, Export: d.out, Retail: p.retail, FeedIn: p.feedIn, Fee: p.fee,
			}
			a.lines = append(a.lines, l)
			a.closing += p.net(&l)
			fees += times(p.fee, l.Bought)
			e.entries = append(e.entries, entry{
				Op: len(e.entries) + 1, Kind: opReport, Home: name, Interval: k, Import: d.in, Export: d.out, Answer: answerAcknowledged,
			})
		}
		accounts[name] = a
		all += a.closing
	}
	for i := range 8 {
		k := int64(firstSettled + 2 + i/2)
		o := entry{
			Op: len(e.entries) + 1, Kind: opOrder, Home: "home-1", Interval: k, Side: "bid", Seq: uint64(1000 + i), Answer: answerAcknowledged,
			Tx: hex.EncodeToString(fmt.Appendf(nil, "<order %d>", i)), Answered: at(k).Add(-4 * time.Hour),
		}
		e.entries = append(e.entries, o)
		accounts["home-1"].lines[k-firstSettled].Bid = o.Seq
	}
	e.entries = append(e.entries, entry{
		Op: len(e.entries) + 1, Kind: opPreference, Home: "home-2", Seq: 7, Answer: answerAcknowledged, Tx: hex.EncodeToString([]byte("<preference>")),
	})
	var blocks []byte
	for _, o := range e.entries {
		raw, _ := hex.DecodeString(o.Tx)
		blocks = append(append(blocks, raw...), "...."...)
	}
	e.books = books{first: firstSettled, last: lastSettled}
	for _, name := range []string{"home-1", "home-2", "home-3"} {
		h := homeBooks{name: name, full: name != "home-3", accounts: map[string]account{}}
		for of, a := range accounts {
			if h.full || of == name {
				h.accounts[of] = account{slices.Clone(a.lines), a.closing}
			}
		}
		if h.full {
			h.hash, h.offices = "aa", map[string]int64{"cooperative": fees, "supplier": -all - fees}
			e.blocks[name] = bytes.Clone(blocks)
			h.copies = func(tx []byte) int { return bytes.Count(e.blocks[name], tx) }
		}
		e.books.homes = append(e.books.homes, h)
	}
	return e
}

// order returns the n-th order of the journal.
func (e *evening) order(n int) *entry { return &e.entries[30+n] }

// change edits a household's account everywhere.
func (e *evening) change(home string, edit func(a *account)) {
	for _, h := range e.books.homes {
		if a, ok := h.accounts[home]; ok {
			edit(&a)
			h.accounts[home] = a
		}
	}
}

// forget takes a text out of the blocks of some homes.
func (e *evening) forget(text string, homes ...string) {
	for _, h := range homes {
		e.blocks[h] = bytes.ReplaceAll(e.blocks[h], []byte(text), nil)
	}
}

// outcome is what the checker is to say.
type outcome struct {
	lost, doubled, replaced, excused int
	hashes                           bool
	says                             string // somewhere among what is wrong; empty: nothing is
}

// The checker finds what is lost, doubled, different and wrong, and nothing in a street that
// kept its promises.
func TestCheckerFinds(t *testing.T) {
	for name, test := range map[string]struct {
		harm func(e *evening)
		want outcome
	}{
		"nothing": {func(*evening) {}, outcome{hashes: true}},
		"N1: a lost order": {func(e *evening) { e.forget("<order 1>", "home-1", "home-2") }, outcome{
			lost: 1, hashes: true, says: "operation 32 (order 1001 of home-1 for interval 102), acknowledged",
		}},
		"N1: one that a single home lost": {func(e *evening) { e.forget("<preference>", "home-2") }, outcome{
			lost: 1, hashes: true, says: "home-2: operation 39 (preference 7 of home-2), acknowledged",
		}},
		"N1: one that was refused": {func(e *evening) {
			e.forget("<preference>", "home-1", "home-2")
			e.entries[38].Answer = answerRefused
		}, outcome{hashes: true}},
		"N1: one that a later one replaced": {func(e *evening) { e.forget("<order 0>", "home-1", "home-2") }, outcome{replaced: 1, hashes: true}},
		"N1: one whose gate closed in harm": {func(e *evening) {
			e.forget("<order 1>", "home-1", "home-2")
			e.forget("<order 0>", "home-1", "home-2")
			e.change("home-1", func(a *account) { a.lines[2].Bid = 0 })
			e.cond.harms = []harm{{Home: "home-1", From: at(90), To: at(99)}, {From: at(98), To: at(110)}, {Home: "home-2", From: at(0), To: at(200)}}
			e.order(0).Answered, e.order(1).Answered = at(96), at(97)
		}, outcome{excused: 2, hashes: true}},
		"N1: one in harm of another home": {func(e *evening) {
			e.forget("<order 1>", "home-1", "home-2")
			e.forget("<order 0>", "home-1", "home-2")
			e.change("home-1", func(a *account) { a.lines[2].Bid = 0 })
			e.cond.harms = []harm{{Home: "home-2", From: at(0), To: at(200)}}
		}, outcome{lost: 2, hashes: true, says: "is in no block"}},
		"N2: a doubled order": {func(e *evening) { e.blocks["home-2"] = append(e.blocks["home-2"], "<order 3>"...) }, outcome{
			doubled: 1, hashes: true, says: "home-2: operation 34 (order 1003 of home-1 for interval 103) is in 2 places",
		}},
		"N3: an order that was not used": {func(e *evening) { e.change("home-1", func(a *account) { a.lines[3].Bid = 1002 }) }, outcome{
			lost: 1, hashes: true, says: "interval 103 of home-1 is settled with bid 1002, but 1003 is in a block",
		}},
		"N4: a lost interval": {func(e *evening) {
			e.change("home-2", func(a *account) {
				a.closing -= e.cond.prices.net(&a.lines[4])
				a.lines = slices.Delete(a.lines, 4, 5)
			})
		}, outcome{lost: 1, hashes: true, says: "interval 104 of home-2 is not settled"}},
		"N4: a doubled interval": {func(e *evening) {
			e.change("home-2", func(a *account) {
				again := a.lines[4]
				again.Number = 11
				a.lines = append(a.lines, again)
			})
		}, outcome{doubled: 1, hashes: true, says: "interval 104 of home-2 is settled by version 1 after version 1"}},
		"N4: a lost report": {func(e *evening) { e.change("home-3", func(a *account) { a.lines[5].Quality = "substitute" }) }, outcome{
			lost: 1, hashes: true, says: "interval 105 of home-3 is settled without its report",
		}},
		"N4: a report that changed": {func(e *evening) { e.entries[25].Import++ }, outcome{
			lost: 1, hashes: true, says: "operation 26 (what home-3 metered in interval 105) was shown as",
		}},
		"N5: another hash":    {func(e *evening) { e.books.homes[1].hash = "bb" }, outcome{says: "home-1 and home-2 have other hashes at one height: aa and bb"}},
		"N5: another line":    {func(e *evening) { e.books.homes[2].accounts["home-3"].lines[1].Price++ }, outcome{hashes: true, says: "home-1 and home-3 have other lines in the account of home-3"}},
		"N6: another balance": {func(e *evening) { e.change("home-3", func(a *account) { a.closing++ }) }, outcome{hashes: true, says: "the balance of home-3 is"}},
		"N6: not to zero":     {func(e *evening) { e.books.homes[0].offices["supplier"]++ }, outcome{hashes: true, says: "all accounts together come to 1 micro-units, want 0"}},
		"N6: other energy": {func(e *evening) { e.cond.meters["home-2"] = e.cond.meters["home-1"] }, outcome{
			lost: 10, hashes: true, says: "interval 100 of home-2: settled are 120 Wh in and 30 out, its meter counted 105 and 30",
		}},
		"N6: shares": {func(e *evening) {
			e.change("home-2", func(a *account) {
				for i := 3; i < 7; i++ {
					a.lines[i].Quality = "estimated"
				}
			})
		}, outcome{hashes: true}},
		"N6: uneven shares": {func(e *evening) {
			e.change("home-2", func(a *account) {
				for i := 3; i < 7; i++ {
					a.lines[i].Quality = "estimated"
				}
				a.lines[3].Export, a.lines[4].Export = a.lines[3].Export+1, a.lines[4].Export-1
			})
		}, outcome{lost: 3, hashes: true, says: "intervals 103 to 106 of home-2 are no even shares"}},
		"N7: a damaged folder": {func(e *evening) { e.books.homes[1].ledger = "record 7 is damaged" }, outcome{hashes: true, says: "home-2: ledger check: record 7 is damaged"}},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEvening()
			test.harm(e)
			v := judge(e.entries, &e.books, e.cond)
			got := outcome{len(v.lost), len(v.doubled), len(v.replaced), len(v.excused), v.hashesEqual, ""}
			text := strings.Join(v.texts, "\n")
			if want := test.want; test.want.says == "" && text != "" || !strings.Contains(text, test.want.says) {
				t.Errorf("says %q, want %q", text, want.says)
			}
			if test.want.says = ""; got != test.want {
				t.Errorf("got %+v, want %+v: lost %v, doubled %v\n%s", got, test.want, slices.Collect(maps.Keys(v.lost)), slices.Collect(maps.Keys(v.doubled)), text)
			}
		})
	}
}

// A summary of anything lost, doubled, silent or different is no good one.
func TestGood(t *testing.T) {
	if s := (summary{HashesEqual: true}); !s.good() {
		t.Errorf("%+v is not good", s)
	}
	for _, s := range []summary{
		{HashesEqual: true, Lost: 1},
		{HashesEqual: true, Doubled: 1},
		{HashesEqual: true, FlipsSilent: 1},
		{},
		{HashesEqual: true, Wrong: []string{"half a street went on"}},
	} {
		if s.good() {
			t.Errorf("%+v is good", s)
		}
	}
}

// What a person can type wrong is named.
func TestOptions(t *testing.T) {
	for args, want := range map[string]string{
		"-duration 0s": "-duration: got 0s, want 1s to 24h",
		"-rate 0":      "-rate: got 0, want more than 0 and at most 50",
		"-rate NaN":    "-rate: got NaN, want",
		"-fault fire":  `-fault: got "fire", want one of kill`,
	} {
		var out, errs bytes.Buffer
		if code := command(t.Context(), strings.Fields(args), &out, &errs); code != 2 || !strings.Contains(errs.String(), want) || out.Len() > 0 {
			t.Errorf("%s: exit code %d, %q, want %q", args, code, errs.String(), want)
		}
	}
}
