package main

import (
	"context"
	"math/rand/v2"
)

// fault is one kind of harm. strike does it and undoes it before it returns; it takes a
// bounded time, and notes with rig.harm whom it keeps from working, with rig.count what it
// did, and with rig.wrong what must not be.
type fault struct {
	name   string
	weight int  // how often it strikes in a long run, against the others
	long   bool // only in long runs
	strike func(ctx context.Context, r *rig, rnd *rand.Rand) error
}

// faults is the table. A new fault is a file fault_<name>.go and a row.
var faults = []fault{
	{name: "kill", weight: 4, strike: strikeKill},
	{name: "pause", weight: 2, strike: strikePause},
	{name: "restart", weight: 2, strike: strikeRestart},
	{name: "halves", weight: 2, strike: strikeHalves},
	{name: "cut", weight: 2, strike: strikeCut},
	{name: "loss", weight: 2, strike: strikeLoss},
	{name: "slow", weight: 2, strike: strikeSlow},
	{name: "meters", weight: 2, strike: strikeMeters},
	{name: "clone", weight: 1, long: true, strike: strikeClone},
	{name: "proposer", weight: 2, long: true, strike: strikeProposer},
	{name: "power", weight: 6, strike: strikePower},
	{name: "full", weight: 2, strike: strikeFull},
	{name: "flips", weight: 1, strike: strikeFlips},
	{name: "outage", weight: 0, long: true, strike: strikeOutage},
}

// order is one of each fault that belongs to the run, in an order of chance.
func (r *rig) order(rnd *rand.Rand) (queue []fault) {
	for _, f := range faults {
		if r.opt.only == f.name || r.opt.only == "" && (r.opt.long() || !f.long) {
			queue = append(queue, f)
		}
	}
	rnd.Shuffle(len(queue), func(i, j int) { queue[i], queue[j] = queue[j], queue[i] })
	return queue
}

// draw is a fault by weight.
func (r *rig) draw(rnd *rand.Rand) fault {
	all := 0
	for _, f := range faults {
		if r.opt.only == f.name {
			return f
		}
		all += f.weight
	}
	n := rnd.IntN(all)
	for _, f := range faults {
		if n -= f.weight; n < 0 {
			return f
		}
	}
	return faults[0]
}
