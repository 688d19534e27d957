package sim

import "github.com/commonwatt/commonwatt/market/ledger"

// admit has all homes admitted, and their meters; they take part from the Interval on whose
// gate is next then.
func (w *world) admit() {
	for _, h := range w.homes {
		join := ledger.RegisterHousehold{Key: public(key("household", h.i)), Device: public(h.device), Network: public(key("network", h.i)), Node: h.name}
		install := ledger.RegisterMeter{Key: public(h.meter), SignedBy: ledger.SignedByAgent, Definition: "simulated@1"}
		for o := range officers {
			join.Approvals = append(join.Approvals, ledger.Approval{Officer: uint64(o), Signature: sign(key("officer", o), join.AdmissionBytes(chainID))})
			install.Approvals = append(install.Approvals, ledger.Approval{Officer: uint64(o), Signature: sign(key("officer", o), install.AdmissionBytes(chainID, h.id))})
		}
		first, second := join.Sign(chainID, key("household", h.i)), install.Sign(chainID, h.id, h.device)
		var bring func()
		bring = func() {
			s := h.view()
			if s != nil {
				if m, ok := s.Household(h.id); !ok {
					h.send(first)
				} else if !m.HasMeter {
					h.send(second)
				} else {
					return
				}
			}
			w.after(20*1000, bring)
		}
		bring()
	}
}

// plan draws what goes wrong in the run.
func (w *world) plan() {
	if w.opt.Calm {
		return
	}
	rnd := w.stream("faults")
	w.net.loss = []int64{0, 0, 10, 100, 300}[rnd.IntN(5)]
	w.net.twice = []int64{0, 20, 200}[rnd.IntN(3)]
	w.net.slow = []int64{50, 500, 5000}[rnd.IntN(3)]
	end := w.start(w.last + 1)
	span := end - w.now - 2*hour
	if span <= 0 {
		return
	}
	when := func() int64 { return w.now + hour + rnd.Int64N(span) }
	for _, r := range w.replicas {
		r.offset = rnd.Int64N(2*honestClock+1) - honestClock
		for range rnd.IntN(4) {
			at, point := when(), crashPoint(rnd.IntN(3))
			down := 10*second + rnd.Int64N(20*minute)
			w.disturbed(at, at+down+hour) // a commit may come late
			w.at(at, func() { w.crash(r, point, down) })
		}
	}
	for range rnd.IntN(3) {
		at, long := when(), minute+rnd.Int64N(hour)
		sides := make([]int, len(w.net.side))
		for i := range sides {
			sides[i] = rnd.IntN(2)
		}
		w.partition(at, long, sides)
	}
	if rnd.IntN(4) == 0 {
		w.outage(when(), 3*hour, rnd.IntN(2) == 0)
	}
	for _, h := range w.homes {
		if rnd.IntN(4) > 0 {
			continue
		}
		at, long := when(), 10*minute+rnd.Int64N(3*hour)
		w.at(at, func() {
			if !w.over {
				w.trace("home %d is switched off for %d s", h.i, long/second)
				h.off++
			}
		})
		w.disturbed(at, at+long)
		w.at(at+long, func() { h.off = max(0, h.off-1) })
	}
}

// crash ends a replica: at once, or in its next commit.
func (w *world) crash(r *replica, point crashPoint, down int64) {
	if w.over {
		return
	}
	if point != crashNowhere {
		r.crashIn = point
		return
	}
	r.stop("crashes")
	w.after(down, r.start)
}

// partition puts the nodes on sides for a time.
func (w *world) partition(at, long int64, sides []int) {
	w.disturbed(at, at+long)
	w.at(at, func() {
		if w.over {
			return
		}
		w.report.Partitions++
		w.trace("partition %v for %d s", sides, long/second)
		w.net.cut++
		w.net.split(sides)
	})
	w.at(at+long, func() {
		if w.net.cut--; w.net.cut <= 0 {
			w.net.cut = 0
			w.net.heal()
			w.trace("the network is whole again")
		}
	})
}

// outage takes the quorum away: half of the validators cannot reach the other half, or are
// without power.
func (w *world) outage(at, long int64, power bool) {
	w.report.Outages++
	if !power {
		sides := make([]int, len(w.net.side))
		for i := range sides {
			sides[i] = i % 2
		}
		w.partition(at, long, sides)
		return
	}
	w.disturbed(at, at+long)
	for _, r := range w.replicas[:validators/2] {
		w.at(at, func() {
			if !w.over {
				r.stop("is without power")
			}
		})
		w.at(at+long, r.start)
	}
}
