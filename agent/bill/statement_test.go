package bill_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/bill"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// B1 and B3: every sum of a Statement is the sum of its lines, worked out here once more,
// and the day on which the clocks go forward has 92 intervals.
func TestStatement(t *testing.T) {
	s := newStreet(t, nil)
	s.live(130)
	for _, h := range s.homes {
		st := s.statement(h.ID, march)
		var net, saved market.Money
		var lines, corrections int
		latest := map[market.Interval]bill.Line{}
		for _, d := range st.Days {
			want := 96
			if d.Date == "2026-03-29" {
				want = 92
			}
			if d.Intervals != want {
				t.Errorf("%s: %d intervals, want %d", d.Date, d.Intervals, want)
			}
			for _, l := range d.Lines {
				if got := l.Start.Format("2006-01-02"); got != d.Date {
					t.Errorf("line %d of %s is listed on %s", l.Number, got, d.Date)
				}
				lines++
				if l.Version > 1 {
					corrections++
				}
				net += l.Net
				saved += l.Saved
				latest[l.Interval] = l
				if l.Block == 0 {
					t.Errorf("line %d has no block", l.Number)
				}
			}
		}
		var bought, imported market.WattHours
		var alone market.Money
		for _, l := range latest {
			bought += l.Bought
			imported += l.Import
			alone += l.Alone
			i, e := h.Energy(l.Interval)
			if l.Quality == "good" && (l.Import != i || l.Export != e) {
				t.Errorf("interval %d: metered %d and %d, the meter counted %d and %d", l.Interval, l.Import, l.Export, i, e)
			}
		}
		switch {
		case len(st.Days) != 31:
			t.Errorf("%d days, want 31", len(st.Days))
		case lines != st.Totals.Lines || corrections != st.Totals.Corrected || corrections < 5:
			t.Errorf("%d lines with %d corrections, the totals say %d and %d", lines, corrections, st.Totals.Lines, st.Totals.Corrected)
		case net != st.Totals.Net || alone != st.Totals.Alone || st.Totals.Actual != -net || saved != st.Totals.Saved || saved != alone+net:
			t.Errorf("net %d, alone %d, saved %d; totals %+v", net, alone, saved, st.Totals)
		case bought != st.Totals.Bought || imported != st.Totals.Import:
			t.Errorf("bought %d, imported %d; totals %+v", bought, imported, st.Totals)
		case st.Final:
			t.Error("it is final while reports may still come")
		}
	}
}

// The balance goes on from month to month, and the newest is the ledger's.
func TestStatementMonths(t *testing.T) {
	s := overMonths(t)
	h := s.homes[0].ID
	record, _ := s.store.State().Household(h)
	if record.Closed != 1 {
		t.Fatalf("%d months closed, want March", record.Closed)
	}
	a, err := bill.AccountOf(s.store.State(), h)
	if err != nil {
		t.Fatal(err)
	}
	newest, err := a.Newest(s.store)
	if err != nil || newest != march+1 {
		t.Errorf("newest month %s, %v", newest, err)
	}
	first, second := s.statement(h, march), s.statement(h, march+1)
	switch {
	case !first.Final || second.Final:
		t.Errorf("final: March %v, April %v", first.Final, second.Final)
	case first.Totals.Opening != 0 || second.Totals.Opening != first.Totals.Closing || second.Totals.Closing != record.Balance:
		t.Errorf("balances %d to %d, %d to %d, the ledger has %d",
			first.Totals.Opening, first.Totals.Closing, second.Totals.Opening, second.Totals.Closing, record.Balance)
	}
	if _, err := a.Read(s.store, march-1); !errors.Is(err, bill.ErrNothing) {
		t.Errorf("February: %v, want ErrNothing", err)
	}
	if _, err := bill.AccountOf(s.store.State(), market.HouseholdID{1}); !errors.Is(err, bill.ErrUnknown) {
		t.Errorf("a stranger: %v, want ErrUnknown", err)
	}
	before := *first
	if _, err := s.store.Prune(march); err != nil {
		t.Fatal(err)
	}
	pruned := s.statement(h, march)
	want := before.Totals
	want.Lines, want.Corrected, want.NotGood, want.Amounts = 0, 0, 0, bill.Amounts{}
	if !pruned.Pruned || pruned.Totals != want {
		t.Errorf("pruned: %v, totals %+v, want %+v", pruned.Pruned, pruned.Totals, want)
	}
	for name, st := range map[string]*bill.Statement{"pruned": pruned, "next": second} {
		checkJournals(t, name, st)
	}
}

// broken is a history that has lost something.
type broken struct {
	bill.History
	change func(*ledger.Settlement) bool
}

func (b broken) Settlements(h market.HouseholdID, from market.Interval, f func(*ledger.Settlement) bool) error {
	return b.History.Settlements(h, from, func(s *ledger.Settlement) bool { return !b.change(s) || f(s) })
}

// B1: no Statement is made of a history that is not what the record says.
func TestStatementOfDamage(t *testing.T) {
	s := newStreet(t, nil)
	s.live(96)
	a, err := bill.AccountOf(s.store.State(), s.homes[1].ID)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ledger.Settlement) bool{
		"lost":    func(s *ledger.Settlement) bool { return s.Number != 5 },
		"empty":   func(*ledger.Settlement) bool { return false },
		"changed": func(s *ledger.Settlement) bool { s.EndSeq++; return true },
	} {
		if _, err := a.Read(broken{s.store, change}, march); !errors.Is(err, bill.ErrLedger) {
			t.Errorf("%s: %v, want ErrLedger", name, err)
		}
	}
}

func TestStatementGolden(t *testing.T) {
	s := newStreet(t, nil)
	s.live(26)
	st := s.statement(s.homes[1].ID, march)
	var table, csv, hledger, beancount bytes.Buffer
	for _, err := range []error{
		st.WriteTable(&table, true), st.WriteCSV(&csv),
		st.WriteJournal(&hledger, bill.HLedger), st.WriteJournal(&beancount, bill.Beancount),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	js, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "bill.txt", table.String())
	golden(t, "bill.csv", csv.String())
	golden(t, "bill.journal", hledger.String())
	golden(t, "bill.beancount", beancount.String())
	golden(t, "bill.json", string(js)+"\n")
}

// checkJournals has both programs judge the journals of a Statement (B5).
func checkJournals(t *testing.T, name string, st *bill.Statement) {
	t.Helper()
	for _, f := range []bill.Format{bill.HLedger, bill.Beancount} {
		var b bytes.Buffer
		if err := st.WriteJournal(&b, f); err != nil {
			t.Fatal(err)
		}
		judge(t, name, f, b.Bytes())
	}
}

// judge lets the real program check a journal.
func judge(t *testing.T, name string, f bill.Format, journal []byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name+"."+string(f))
	if err := os.WriteFile(path, journal, 0o600); err != nil {
		t.Fatal(err)
	}
	program, packet, args := "hledger", "hledger", []string{"-f", path, "check", "--strict", "ordereddates", "uniqueleafnames", "payees"}
	if f == bill.Beancount {
		program, packet, args = "bean-check", "beancount", []string{path}
	}
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is not installed: apt-get install %s", program, packet)
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %s: %v\n%s\n%.2000s", name, program, err, out, journal)
	}
}

// B2 and B5: hledger and beancount agree with the ledger on every household's month and
// on all accounts of the ledger.
func TestJournals(t *testing.T) {
	s := newStreet(t, nil)
	s.live(130)
	for i, h := range s.homes {
		checkJournals(t, fmt.Sprint("home", i), s.statement(h.ID, march))
	}
	var csv bytes.Buffer
	for _, f := range bill.Formats() {
		var b bytes.Buffer
		told := 0
		n, err := bill.Export(&b, bill.Format(f), s.store.State(), s.store, func(int) { told++ })
		if err != nil {
			t.Fatal(err)
		}
		if n < 1000 || told != n {
			t.Errorf("%s: %d transfers, told of %d; want 1000 or more", f, n, told)
		}
		if f == string(bill.CSV) {
			csv = b
			continue
		}
		judge(t, "all", bill.Format(f), b.Bytes())
	}
	checkCSV(t, s, csv.String())
}

// checkCSV adds the rows up by account: each is the ledger's balance, all are 0.
func checkCSV(t *testing.T, s *street, text string) {
	t.Helper()
	sums := map[market.Account]int64{}
	for i, row := range strings.Split(strings.TrimSpace(text), "\n")[1:] {
		f := strings.Split(row, ",")
		var whole, micro int64
		if _, err := fmt.Sscanf(f[9], "%d.%06d", &whole, &micro); err != nil {
			t.Fatalf("row %d: amount %q: %v", i, f[9], err)
		}
		sums[market.Account(f[7])] -= whole*1_000_000 + micro
		sums[market.Account(f[8])] += whole*1_000_000 + micro
	}
	var all int64
	for a, m := range s.store.State().Accounts() {
		if sums[a] != int64(m) {
			t.Errorf("account %s: the export comes to %d, the ledger has %d", a, sums[a], m)
		}
		all += sums[a]
	}
	if all != 0 {
		t.Errorf("all accounts come to %d, want 0", all)
	}
}

// What is no longer kept line by line is in the books as an opening balance.
func TestExportPruned(t *testing.T) {
	s := overMonths(t)
	if _, err := s.store.Prune(march); err != nil {
		t.Fatal(err)
	}
	for _, f := range []bill.Format{bill.HLedger, bill.Beancount} {
		var b bytes.Buffer
		if _, err := bill.Export(&b, f, s.store.State(), s.store, func(int) {}); err != nil {
			t.Fatal(err)
		}
		judge(t, "pruned", f, b.Bytes())
	}
}

// B3: the day on which the clocks go back has 100 intervals, one hour of them twice, and
// the days of any month have all of its intervals.
func TestStatementInAutumn(t *testing.T) {
	s := newStreetAt(t, time.Date(2026, time.October, 25, 0, 0, 0, 0, time.UTC), nil)
	s.live(12)
	october := mustMonth("2026-10")
	st := s.statement(s.homes[0].ID, october)
	first, end := s.store.State().Calendar().OfMonth(october, s.store.State().Zone())
	all, hours := 0, map[string]int{}
	for _, d := range st.Days {
		all += d.Intervals
		want := 96
		if d.Date == "2026-10-25" {
			want = 100
		}
		if d.Intervals != want {
			t.Errorf("%s: %d intervals, want %d", d.Date, d.Intervals, want)
		}
		for _, l := range d.Lines {
			if l.Version == 1 {
				hours[l.Start.Format("15:04")]++
			}
		}
	}
	if all != int(end-first) || len(st.Days) != 31 {
		t.Errorf("%d days with %d intervals, want 31 with %d", len(st.Days), all, end-first)
	}
	if hours["02:00"] != 1 || hours["02:15"] != 2 || hours["02:45"] != 2 {
		t.Errorf("the hour that comes twice: %v", hours)
	}
	checkJournals(t, "autumn", st)
}

// A ledger in which nothing has been settled yet has books, too.
func TestExportNothing(t *testing.T) {
	s := newStreet(t, nil)
	for _, f := range bill.Formats() {
		var b bytes.Buffer
		n, err := bill.Export(&b, bill.Format(f), s.store.State(), s.store, func(int) {})
		if err != nil || n != 0 {
			t.Fatalf("%s: %d transfers, %v", f, n, err)
		}
		if f != string(bill.CSV) {
			judge(t, "nothing", bill.Format(f), b.Bytes())
		}
	}
}

// counter is a home that has the whole ledger.
type counter struct {
	bill.History
	street *street
}

func (c counter) Read(f func(*ledger.State)) { f(c.street.store.State()) }

func (c counter) Proof(context.Context, func(*ledger.State)) (*consensus.SignedHeader, error) {
	return nil, consensus.ErrUnproven
}

// A home that has the ledger says on its bill who signs the meter's readings.
func TestStatementSigner(t *testing.T) {
	s := overMonths(t)
	desk := &bill.Desk{Own: s.homes[0].ID, Source: counter{s.store, s}}
	st, err := desk.Bill("", "")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := st.WriteTable(&out, false); err != nil {
		t.Fatal(err)
	}
	if st.SignedBy != "agent" || !strings.Contains(out.String(), "its readings are signed by the home's gateway, which reads it\n") {
		t.Errorf("signed by %q:\n%s", st.SignedBy, out.String())
	}
}
