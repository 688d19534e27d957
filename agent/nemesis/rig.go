package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// rig is one run: the street, what is done to it, and what is known of it.
type rig struct {
	opt     options
	dir     string
	agent   string // the commonwatt program
	homes   []*home
	world   process // firmware-sim
	start   time.Time
	rate    int64
	trading int64 // the first interval of which all homes' settlements are looked at
	ended   int64 // the last one
	prices  prices
	journal *journal
	client  *client
	say     io.Writer // for people

	cloneSpace *space // of strikeClone; nil before the first

	mu     sync.Mutex
	counts map[string]int // by kind, see count
	wrongs []string
	open   []harm // that have not ended
}

// count notes that something of a kind was done.
func (r *rig) count(kind string) { r.add(kind, 1) }

func (r *rig) add(kind string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts[kind] += n
}

// wrong notes what must not be; the run fails at its end.
func (r *rig) wrong(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.mu.Lock()
	r.wrongs = append(r.wrongs, text)
	r.mu.Unlock()
	r.tell("WRONG: %s", text)
}

// tell writes a line for people, with the time since the start.
func (r *rig) tell(format string, args ...any) {
	fmt.Fprintf(r.say, "%6.1fs  %s\n", time.Since(r.start).Seconds(), fmt.Sprintf(format, args...))
}

// harm notes that these homes cannot be relied on until the street has recovered; without
// a home: that there is no quorum.
func (r *rig) harm(kind string, homes ...*home) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(homes) == 0 {
		r.open = append(r.open, harm{Kind: kind, From: time.Now()})
	}
	for _, h := range homes {
		r.open = append(r.open, harm{Kind: kind, Home: h.name, From: time.Now()})
	}
}

// over ends all harm that is going on.
func (r *rig) over() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.open {
		h.To = time.Now()
		r.journal.harmed(h)
	}
	r.open = nil
}

// validators are the homes that vote.
func (r *rig) validators() (out []*home) {
	for _, h := range r.homes {
		if h.role == "validator" {
			out = append(out, h)
		}
	}
	return out
}

// pick is one of them.
func pick[T any](rnd *rand.Rand, from []T) T { return from[rnd.IntN(len(from))] }

// height is the highest that any of these homes has.
func (r *rig) height(ctx context.Context, homes ...*home) (highest int64) {
	for _, h := range homes {
		if s, err := h.status(ctx); err == nil {
			highest = max(highest, s.height())
		}
	}
	return highest
}

// run is the whole of it.
func run(ctx context.Context, o options, say io.Writer) (sum *summary, err error) {
	r := &rig{opt: o, dir: o.dir, agent: filepath.Join(o.programs, "commonwatt"), say: say, counts: map[string]int{}}
	if r.dir == "" {
		if r.dir, err = os.MkdirTemp("", "nemesis-"); err != nil {
			return nil, err
		}
		defer os.RemoveAll(r.dir) //nolint:errcheck // a folder of this run
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, err
	}
	if r.journal, err = newJournal(filepath.Join(r.dir, "journal.jsonl")); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.journal.file.Close()) }()
	defer func() { err = errors.Join(err, r.removeCards()) }() // by now all programs have ended
	defer r.killAll()
	defer func() {
		if err != nil {
			r.lastLines(say)
		}
	}()
	fmt.Fprintf(say, "nemesis: seed %d, %v of faults, an interval takes %v\n", o.seed, o.duration, o.pace())
	if err := r.assemble(ctx); err != nil {
		return nil, err
	}
	recoveries, err := r.storm(ctx)
	if err != nil {
		return nil, err
	}
	b, err := r.collect(ctx, r.ended)
	if err != nil {
		return nil, err
	}
	return r.sum(judge(r.journal.entries, b, r.conditions(ctx)), recoveries), nil
}

// assemble founds the street and waits until it trades.
func (r *rig) assemble(ctx context.Context) error {
	if err := r.found(ctx); err != nil {
		return fmt.Errorf("founding the street: %w", err)
	}
	if err := r.simulate(ctx); err != nil {
		return err
	}
	for _, h := range r.homes {
		if err := h.start(r); err != nil {
			return err
		}
	}
	for _, h := range r.homes {
		if err := r.joined(ctx, h); err != nil {
			return err
		}
	}
	for _, h := range r.homes {
		err := await(ctx, readyTimeout, fmt.Sprintf("%s has metered interval %d", h.name, r.trading), func() bool {
			list, err := h.intervals(ctx)
			return err == nil && slices.ContainsFunc(list, func(k shownInterval) bool { return k.Interval == r.trading && k.Import != nil })
		})
		if err != nil {
			return err
		}
	}
	r.tell("all %d homes trade", len(r.homes))
	return nil
}

// joined waits until a home is a member, and learns from which interval on its meter reports. What lies before the first
// whole interval belongs to nobody, and so does a gap that begins there: faults wait for that.
func (r *rig) joined(ctx context.Context, h *home) error {
	return await(ctx, readyTimeout, h.name+" is a member and its ledger runs", func() bool {
		s, err := h.status(ctx)
		if err != nil || s.Ledger.CatchingUp {
			return false
		}
		list, err := h.intervals(ctx) // they begin with the first that its meter reports
		if err != nil || len(list) == 0 {
			return false
		}
		r.trading = max(r.trading, list[0].Interval)
		return true
	})
}

// storm lets faults strike while the client works, and returns how long each recovery took.
func (r *rig) storm(ctx context.Context) (recoveries []recovery, err error) {
	rnd := rand.New(rand.NewPCG(r.opt.seed, 1))                                                     //nolint:gosec // to be repeated
	r.client = &client{r: r, rnd: rand.New(rand.NewPCG(r.opt.seed, 2)), made: map[*home][]*entry{}} //nolint:gosec // to be repeated
	work, stop := context.WithCancel(ctx)
	defer stop()
	g, work := errgroup.WithContext(work)
	g.Go(func() error { return r.client.work(work) })
	g.Go(func() error { return r.readMeters(work) })
	err = r.strikes(work, rnd, &recoveries)
	if err == nil {
		// What is still to be settled shows on the pages meanwhile.
		err = r.quiet(work, func() { r.client.rest() })
	}
	stop()
	return recoveries, errors.Join(err, g.Wait())
}

// strikes lets one fault after the other strike.
func (r *rig) strikes(ctx context.Context, rnd *rand.Rand, recoveries *[]recovery) error {
	end := time.Now().Add(r.opt.duration)
	queue := r.order(rnd)
	for n := 0; ; n++ {
		var f fault
		switch {
		case n < len(queue):
			f = queue[n]
		case !r.opt.long() || time.Now().After(end):
			return nil
		default:
			f = r.draw(rnd)
		}
		if err := r.strike(ctx, f, rnd, recoveries); err != nil {
			return err
		}
		if r.opt.long() && !pause(ctx, time.Duration(rnd.Int64N(int64(3*time.Second)))) {
			return ctx.Err()
		}
	}
}

// strike does one fault, and waits until the street has recovered from it.
func (r *rig) strike(ctx context.Context, f fault, rnd *rand.Rand, recoveries *[]recovery) error {
	begun := time.Now()
	r.count("fault " + f.name)
	if err := f.strike(ctx, r, rnd); err != nil {
		return fmt.Errorf("fault %s: %w", f.name, err)
	}
	healed := time.Now()
	err := r.recover(ctx)
	r.over()
	took := recovery{f.name, healed.Sub(begun), time.Since(healed)}
	*recoveries = append(*recoveries, took)
	if err != nil {
		return fmt.Errorf("after fault %s: %w", f.name, err)
	}
	for _, h := range r.homes {
		for _, s := range h.surprises() {
			r.wrong("%s %s, see its log", h.name, s)
			if err := h.start(r); err != nil {
				return err
			}
		}
	}
	r.tell("%-12s for %4.1fs; recovered after %4.1fs", f.name, took.harm.Seconds(), took.took.Seconds())
	return nil
}

// recover waits for two new blocks on all homes. Somebody decides something meanwhile, so that
// there is a reason for blocks.
func (r *rig) recover(ctx context.Context) error {
	base := r.height(ctx, r.homes...)
	asked := time.Time{}
	var err error
	wait := await(ctx, recoverTimeout, fmt.Sprintf("two blocks after block %d on all homes", base), func() bool {
		if time.Since(asked) > time.Second {
			asked = time.Now()
			err = errors.Join(err, r.client.probe(ctx, r.homes[int(base)%4]))
		}
		for _, h := range r.homes {
			s, err := h.status(ctx)
			if err != nil || s.Ledger.CatchingUp || s.height() < base+2 {
				return false
			}
		}
		return true
	})
	return errors.Join(err, wait)
}

const recoverTimeout = 3 * time.Minute

// quiet lets all that was begun come to its end: every interval that has ended by now is
// settled on all homes, and nothing waits for a block.
func (r *rig) quiet(ctx context.Context, rest func()) error {
	rest()
	ended := intervalAt(r.community(time.Now())) - 1
	r.ended = ended
	r.tell("all is mended; waiting until interval %d is settled everywhere", ended)
	return await(ctx, quietTimeout, fmt.Sprintf("all intervals up to %d are settled on all homes, and no transaction waits", ended), func() bool {
		for _, h := range r.homes {
			s, err := h.status(ctx)
			if err != nil || s.Ledger.PoolSize > 0 {
				return false
			}
			list, err := h.intervals(ctx)
			if err != nil || len(list) == 0 {
				return false
			}
			for _, k := range list {
				if k.Interval <= ended && k.State != "settled" {
					return false
				}
			}
		}
		return true
	})
}

const quietTimeout = 4 * time.Minute

// killAll leaves nothing behind.
func (r *rig) killAll() {
	for _, h := range r.homes {
		h.kill()
	}
	r.world.kill()
}
