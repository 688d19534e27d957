package sim

import "math/rand/v2"

// adversary is how somebody cheats. Each has a file of its own and a row in the table.
type adversary struct {
	name string
	// A validator's: propose changes what it proposes; second is another proposal for the same
	// height; vote is how it votes. Nil: as an honest one does. A silent one proposes nothing.
	propose func(r *replica, height int64, txs [][]byte) [][]byte
	second  func(r *replica, height int64, txs [][]byte) [][]byte
	vote    func(r *replica, p *proposal) bool
	silent  bool
	// turn has the validator begin; play has a home, or somebody on the network who is no
	// member, begin: it is given a home that is in league with it.
	turn func(r *replica, rnd *rand.Rand)
	play func(h *home, rnd *rand.Rand)
}

// adversaries is the table: of validators, one at most takes part in a run, as that is what
// four of them bear.
var adversaries = []func() *adversary{
	absent, credulous, early, overfull, malformed, withholding, twoFaced, wrongClock,
	replaying, forging, equivocating, late, cheating, spamming, doubling, babbling,
}

// validator says whether a validator cheats, or somebody else.
func (a *adversary) validator() bool { return a.play == nil }

// invite has the adversaries of the run begin.
func (w *world) invite() {
	rnd := w.stream("adversaries")
	var chosen []*adversary
	for _, want := range w.opt.Adversaries {
		for _, row := range adversaries {
			if a := row(); a.name == want {
				chosen = append(chosen, a)
			}
		}
	}
	if w.opt.Adversaries == nil && !w.opt.Calm {
		judges, others := 0, 0
		for _, i := range rnd.Perm(len(adversaries)) {
			a := adversaries[i]()
			if a.validator() && judges == 0 && rnd.IntN(4) > 0 {
				judges++
				chosen = append(chosen, a)
			} else if !a.validator() && others < 2 && rnd.IntN(2) == 0 {
				others++
				chosen = append(chosen, a)
			}
		}
	}
	for _, a := range chosen {
		w.report.Adversaries = append(w.report.Adversaries, a.name)
		if !a.validator() {
			a.play(w.homes[rnd.IntN(len(w.homes))], rnd)
			continue
		}
		r := w.replicas[rnd.IntN(len(w.replicas))]
		r.adversary = a
		if a.turn != nil {
			a.turn(r, rnd)
		}
	}
}

// trick counts what an adversary has tried.
func (w *world) trick() { w.report.Tricks++ }

// every does something now and then until the day is over.
func (w *world) every(rnd *rand.Rand, ms int64, do func()) {
	var again func()
	again = func() {
		if w.over {
			return
		}
		do()
		w.after(ms/2+rnd.Int64N(ms), again)
	}
	w.after(rnd.Int64N(ms), again)
}
