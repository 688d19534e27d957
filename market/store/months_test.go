package store_test

import (
	"encoding/binary"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
	"github.com/commonwatt/commonwatt/market/store"
)

// quarter is a street of two homes from June to August: June and July are closed.
func quarter(t *testing.T) (s *street, homes []*ledgertest.Home) {
	t.Helper()
	s = newStreet(t, 1)
	homes = []*ledgertest.Home{ledgertest.NewHome("one"), ledgertest.NewHome("two")}
	put := func(txs ...[]byte) {
		t.Helper()
		b := store.Committed{Height: s.store.Height() + 1, Block: ledger.Block{Txs: txs}, AppHash: s.store.AppHash()}
		d, receipts, err := ledger.Apply(s.store.State(), b.Block)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range receipts {
			if r.Refusal != nil {
				t.Fatal(r.Kind, r.Refusal)
			}
		}
		s.commit(t, b, d)
	}
	k := s.First
	put(s.Join(homes[0], 2), s.Join(homes[1], 2), s.Install(homes[0], 2), s.Install(homes[1], 2), ledger.NewTick(k, k, k))
	put(s.Report(homes[0], k, 1), s.Report(homes[1], k, 1), ledger.NewTick(k+1, k+2, k+1))
	put(s.Report(homes[0], k+1, 1), ledger.NewTick(k+3, k+3000, k+3))
	put(ledger.NewTick(k+3001, k+6000, k+3001))
	put(ledger.NewTick(k+6001, k+6020, k+6001)) // past deadline and window of what the last tick closed
	return s, homes
}

// TestMonths: what is closed is in the file, proven by the household's record, and its
// lines may go without anything else going with them.
func TestMonths(t *testing.T) {
	s, homes := quarter(t)
	june, july := market.Month(2026*12+5), market.Month(2026*12+6)
	if open := s.store.State().OpenMonth(); open != july+1 {
		t.Fatalf("the open month is %s, want %s", open, july+1)
	}
	before := map[market.HouseholdID][]ledger.Month{}
	lines := 0
	for _, h := range homes {
		months, err := s.store.Months(h.ID)
		if err != nil || len(months) != 2 || months[0].Month != june || months[1].Month != july {
			t.Fatalf("months %v, %v, want June and July", months, err)
		}
		if imported, exported := h.Energy(s.First); months[0].Import < imported || months[0].Export < exported {
			t.Errorf("June has import %d and export %d Wh, want at least the first interval's %d and %d", months[0].Import, months[0].Export, imported, exported)
		}
		before[h.ID] = months
		lines += int(months[0].Lines)
	}
	if _, err := s.store.Prune(july + 1); err == nil {
		t.Error("pruned a month that is not closed")
	}
	if n, err := s.store.Prune(june); err != nil || n != lines {
		t.Errorf("removed %d lines, %v, want %d", n, err, lines)
	}
	if n, err := s.store.Prune(june); err != nil || n != 0 {
		t.Errorf("removed %d lines again, %v", n, err)
	}
	s.reopen(t)
	for _, h := range homes {
		months, err := s.store.Months(h.ID)
		if err != nil || len(months) != 2 || months[0] != before[h.ID][0] {
			t.Errorf("months after pruning %v, %v", months, err)
		}
		first := market.Interval(0)
		if err := s.store.Settlements(h.ID, 0, func(x *ledger.Settlement) bool { first = x.Interval; return false }); err != nil {
			t.Error(err)
		}
		if m := s.store.State().Calendar().MonthOf(first, s.store.State().Zone()); m != july {
			t.Errorf("the history begins in %s, want %s", m, july)
		}
	}
	for k, want := range map[market.Interval]int{s.First: 0, s.First + 5000: 2} {
		if all, err := s.store.IntervalSettlements(k); err != nil || len(all) != want {
			t.Errorf("interval %d: %d settlements, %v, want %d", k, len(all), err, want)
		}
	}
	s.close(t)
	if r := s.check(t, s.path); !r.OK() {
		t.Errorf("after pruning:\n%s", texts(r))
	}
}

// TestPruneSurvivesCrash: with the mark set and lines still there, nothing is wrong and
// the next Prune goes on.
func TestPruneSurvivesCrash(t *testing.T) {
	s, homes := quarter(t)
	june := market.Month(2026*12 + 5)
	months, err := s.store.Months(homes[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	s.close(t)
	if err := store.Tamper(s.path, "meta", []byte("pruned"), binary.BigEndian.AppendUint32(nil, uint32(june))); err != nil {
		t.Fatal(err)
	}
	if r := s.check(t, s.path); !r.OK() {
		t.Errorf("half pruned:\n%s", texts(r))
	}
	s.reopen(t)
	n := 0
	if err := s.store.Settlements(homes[0].ID, 0, func(*ledger.Settlement) bool { n++; return true }); err != nil || n == 0 {
		t.Errorf("%d settlements, %v", n, err)
	}
	if removed, err := s.store.Prune(june); err != nil || removed != 2*int(months[0].Lines) {
		t.Errorf("removed %d, %v, want %d", removed, err, 2*months[0].Lines)
	}
}

// TestMonthDamage: a month that is not what was closed is named, and not read.
func TestMonthDamage(t *testing.T) {
	s, homes := quarter(t)
	s.close(t)
	var month store.Entry
	for _, e := range entries(t, s.path) {
		if e.Bucket == "months" && strings.Contains(e.Record, homes[0].ID.String()) {
			month = e
			break
		}
	}
	for name, value := range map[string][]byte{
		"changed": append(append([]byte(nil), month.Value[:len(month.Value)-1]...), month.Value[len(month.Value)-1]^1),
		"garbage": []byte("x"),
		"removed": nil,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.db")
			copyFile(t, path, s.path)
			if err := store.Tamper(path, "months", month.Key, value); err != nil {
				t.Fatal(err)
			}
			r, err := store.Check(path, ledgertest.ChainID, s.Genesis, s.blocks)
			if err != nil || r.OK() || !strings.Contains(texts(r), homes[0].ID.String()) {
				t.Errorf("%v, %s", err, texts(r))
			}
			again := open(t, path, s.Community)
			defer again.Close()
			if _, err := again.Months(homes[0].ID); !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("reading it: %v", err)
			}
			if _, err := again.Months(homes[1].ID); err != nil {
				t.Errorf("another household's: %v", err)
			}
		})
	}
}
