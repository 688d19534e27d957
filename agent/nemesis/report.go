package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// recovery is how long one fault lasted, and how long the street took from its end on to two
// new blocks on all homes.
type recovery struct {
	fault string
	harm  time.Duration
	took  time.Duration
}

// summary is the last line of a run.
type summary struct {
	Ops          int            `json:"ops"`
	Acknowledged int            `json:"acknowledged"`
	Lost         int            `json:"lost"`
	Doubled      int            `json:"doubled"`
	PowerCuts    int            `json:"power_cuts"`
	Flips        int            `json:"flips"`
	FlipsSilent  int            `json:"flips_silent"`
	HashesEqual  bool           `json:"hashes_equal"`
	Slowest      float64        `json:"slowest_recovery_s"`
	Seed         uint64         `json:"seed"`
	OpsByKind    map[string]int `json:"ops_by_kind"`
	Faults       map[string]int `json:"faults"`
	Replaced     int            `json:"replaced"`
	MissedGate   int            `json:"missed_gate"`
	Wrong        []string       `json:"wrong"`
}

// Kinds of what other faults count for the last line.
const (
	countPowerCut   = "power cut"
	countFlip       = "flip"
	countFlipSilent = "silent flip"
)

// good says whether the street kept its promises.
func (s *summary) good() bool {
	return s.Lost == 0 && s.Doubled == 0 && s.FlipsSilent == 0 && s.HashesEqual && len(s.Wrong) == 0
}

// write prints the line, and nothing after it.
func (s *summary) write(to io.Writer) error { return json.NewEncoder(to).Encode(s) }

// sum makes the summary, and the report for people.
func (r *rig) sum(v *verdict, recoveries []recovery) *summary {
	s := &summary{
		Ops: len(r.journal.entries), Acknowledged: v.acknowledged, Lost: len(v.lost), Doubled: len(v.doubled),
		PowerCuts: r.counts[countPowerCut], Flips: r.counts[countFlip], FlipsSilent: r.counts[countFlipSilent],
		HashesEqual: v.hashesEqual, Seed: r.opt.seed, OpsByKind: map[string]int{}, Faults: r.counts,
		Replaced: len(v.replaced), MissedGate: len(v.excused), Wrong: append(r.wrongs, v.texts...),
	}
	if s.Wrong == nil {
		s.Wrong = []string{}
	}
	answers := map[string]int{}
	for _, e := range r.journal.entries {
		s.OpsByKind[e.Kind]++
		answers[e.Kind+" "+e.Answer]++
	}
	for _, x := range recoveries {
		s.Slowest = max(s.Slowest, float64(x.took.Round(10*time.Millisecond))/float64(time.Second))
	}
	r.people(s, answers, recoveries)
	return s
}

// people prints what the run came to, in words.
func (r *rig) people(s *summary, answers map[string]int, recoveries []recovery) {
	fmt.Fprintf(r.say, "\nWhat was done to the street:\n")
	for _, kind := range slices.Sorted(maps.Keys(s.Faults)) {
		if len(kind) < 6 || kind[:6] != "fault " {
			fmt.Fprintf(r.say, "  %4d × %s\n", s.Faults[kind], kind)
		}
	}
	byFault := map[string][]time.Duration{}
	for _, x := range recoveries {
		byFault[x.fault] = append(byFault[x.fault], x.took)
	}
	fmt.Fprintf(r.say, "\nFrom the end of it to two new blocks on all homes:\n  %-12s %6s  %8s  %8s\n", "fault", "times", "median", "slowest")
	for _, name := range slices.Sorted(maps.Keys(byFault)) {
		took := byFault[name]
		slices.Sort(took)
		fmt.Fprintf(r.say, "  %-12s %6d  %7.1fs  %7.1fs\n", name, len(took), took[len(took)/2].Seconds(), took[len(took)-1].Seconds())
	}
	fmt.Fprintf(r.say, "\nWhat the homes were asked:\n  %-12s %6s  %12s  %8s  %9s\n", "kind", "times", "acknowledged", "refused", "no answer")
	for _, kind := range []string{opOrder, opReplacement, opPreference, opReport} {
		fmt.Fprintf(r.say, "  %-12s %6d  %12d  %8d  %9d\n", kind, s.OpsByKind[kind],
			answers[kind+" "+answerAcknowledged], answers[kind+" "+answerRefused], answers[kind+" "+answerUnknown])
	}
	fmt.Fprintf(r.say, "\nOf %d acknowledged, %d are lost and %d doubled; %d orders were replaced before a block had them, %d missed their gate in harm.\n",
		s.Acknowledged, s.Lost, s.Doubled, s.Replaced, s.MissedGate)
	for _, w := range s.Wrong {
		fmt.Fprintf(r.say, "  WRONG: %s\n", w)
	}
	if s.good() {
		fmt.Fprintf(r.say, "The street kept its promises. Seed %d.\n", s.Seed)
	} else {
		fmt.Fprintf(r.say, "The street broke a promise. The same faults and orders again: -seed %d\n", s.Seed)
	}
}
