package sim

import (
	"bufio"
	"cmp"
	"flag"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	seeds = flag.Int("sim.seeds", 20, "how many seeds TestSeeds runs")
	from  = flag.Int64("sim.from", 0, "the first of them")
	seed  = flag.Int64("sim.seed", -1, "run this one seed of TestSeeds, and tell everything that happens")
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(400) // many small worlds, each gone in a moment
	os.Exit(m.Run())
}

// A day of every seed holds what the package promises. A seed that does not is printed: run it
// alone with -sim.seed, and keep it in testdata/seeds.txt with what it has found.
func TestSeeds(t *testing.T) {
	if *seed >= 0 {
		r, err := Run(Options{Seed: uint64(*seed), Trace: func(line string) { fmt.Println(line) }})
		t.Logf("%+v", *r)
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	began := time.Now()
	reports := make([]*Report, *seeds)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(reports)) && !t.Failed(); i = next.Add(1) - 1 {
				n := *from + i
				r, err := Run(Options{Seed: uint64(n)})
				if err != nil {
					t.Errorf("%v\nagain, with all that happens: go test ./agent/sim -run TestSeeds -sim.seed %d", err, n)
				}
				reports[i] = r
			}
		})
	}
	workers.Wait()
	t.Logf("%d seeds from %d on in %s: %s", *seeds, *from, time.Since(began).Round(time.Second), add(reports))
}

// add tells what many runs came to together.
func add(reports []*Report) string {
	var sum Report
	for _, r := range reports {
		if r == nil {
			continue
		}
		to, of := reflect.ValueOf(&sum).Elem(), reflect.ValueOf(r).Elem()
		for i := range to.NumField() {
			if f := to.Field(i); f.CanInt() {
				f.SetInt(f.Int() + of.Field(i).Int())
			}
		}
	}
	return fmt.Sprintf("%d blocks, %d transactions, %d refused, %d refusals of proposals, %d tricks, %d crashes, %d partitions, %d outages, %d settlements, %d corrections, %d messages",
		sum.Blocks, sum.Txs, sum.Refused, sum.BadProposals, sum.Tricks, sum.Crashes, sum.Partitions, sum.Outages, sum.Settlements, sum.Corrections, sum.Messages)
}

// Seeds that have found something hold for ever.
func TestKeptSeeds(t *testing.T) {
	f, err := os.Open("testdata/seeds.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		text, what, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil || strings.TrimSpace(what) == "" {
			t.Fatalf("seeds.txt: got %q, want a seed, # and what it found", lines.Text())
		}
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			if _, err := Run(Options{Seed: n}); err != nil {
				t.Errorf("%v\nit had found: %s", err, what)
			}
		})
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

// Every adversary of the table is there to do something, is named once, and does not win.
func TestAdversaries(t *testing.T) {
	var names []string
	for _, row := range adversaries {
		a := row()
		if slices.Contains(names, a.name) {
			t.Errorf("%s is there twice", a.name)
		}
		names = append(names, a.name)
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			r, err := Run(Options{Seed: 1, Intervals: 24, Homes: 4, Adversaries: []string{a.name}})
			if err != nil {
				t.Error(err)
			}
			if r.Tricks == 0 {
				t.Error("it tried nothing")
			}
			if slices.Contains([]string{"early", "overfull", "malformed"}, a.name) && r.BadProposals == 0 {
				t.Error("none of its proposals was refused")
			}
		})
	}
}

// S1: the same seed gives the same run, every event of it.
func TestSameSeedSameRun(t *testing.T) {
	tell := func() (lines []string, r *Report) {
		r, err := Run(Options{Seed: 11, Intervals: 30, Trace: func(line string) { lines = append(lines, line) }})
		if err != nil {
			t.Fatal(err)
		}
		return lines, r
	}
	one, a := tell()
	two, b := tell()
	if !slices.Equal(one, two) || !reflect.DeepEqual(a, b) {
		for i := range min(len(one), len(two)) {
			if one[i] != two[i] {
				t.Fatalf("line %d:\n%s\n%s", i, one[i], two[i])
			}
		}
		t.Fatalf("%d and %d lines, %+v and %+v", len(one), len(two), *a, *b)
	}
	if cmp.Compare(len(one), 30) < 0 {
		t.Errorf("only %d lines were told", len(one))
	}
}
