//go:build linux

package cli_test

import (
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/commonwatt/commonwatt/agent/nemesis/card"
)

// cards are the commands of a script that has a memory card:
//
//	card DIR           puts a new one in at DIR
//	cardfull DIR       takes all the room there is on it
//	cardfree DIR       gives it back
//	cardreadonly DIR   makes it read-only; no file may be open for writing
//	cardwritable DIR   undoes that
func cards() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	var all sync.Map // folder -> *card.Card
	with := func(f func(c *card.Card) error) func(ts *testscript.TestScript, neg bool, args []string) {
		return func(ts *testscript.TestScript, neg bool, args []string) {
			if neg || len(args) != 1 {
				ts.Fatalf("usage: COMMAND FOLDER")
			}
			c, ok := all.Load(ts.MkAbs(args[0]))
			if !ok {
				ts.Fatalf("%s: there is no card", args[0])
			}
			ts.Check(f(c.(*card.Card)))
		}
	}
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"card": func(ts *testscript.TestScript, neg bool, args []string) {
			if neg || len(args) != 1 {
				ts.Fatalf("usage: card FOLDER")
			}
			c, err := card.New(ts.MkAbs(args[0]), 4*card.MinSize)
			ts.Check(err)
			ts.Defer(func() { ts.Check(c.Remove()) })
			all.Store(c.Dir(), c)
		},
		"cardfull":     with((*card.Card).Fill),
		"cardfree":     with((*card.Card).Free),
		"cardreadonly": with(func(c *card.Card) error { return c.ReadOnly(true) }),
		"cardwritable": with(func(c *card.Card) error { return c.ReadOnly(false) }),
	}
}
