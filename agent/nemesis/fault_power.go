package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/commonwatt/commonwatt/agent/nemesis/card"
)

// cardBytes is how large a home's memory card is; what is not written takes no room.
const cardBytes = 96 << 20

// insertCard gives a home a memory card of its own, on which its folder will be.
func (r *rig) insertCard(h *home) (err error) {
	place := filepath.Join(r.dir, "homes", h.name)
	if err := os.MkdirAll(filepath.Dir(place), 0o700); err != nil {
		return err
	}
	if h.card, err = card.New(place, cardBytes); err != nil {
		return err
	}
	h.dir = filepath.Join(place, "home")
	return nil
}

// removeCards leaves no mount and no loop device behind.
func (r *rig) removeCards() error {
	var errs []error
	for _, h := range r.homes {
		if h.card != nil {
			errs = append(errs, h.card.Remove())
		}
	}
	return errors.Join(errs...)
}

// expect says that the program may end by itself from now on.
func (p *process) expect() { p.signal(syscall.Signal(0), true) }

// unplug cuts the power of a home: what its card has not got by now it never gets.
func (h *home) unplug() error {
	h.expect()
	err := h.card.Cut()
	h.kill()
	return errors.Join(err, h.card.Unmount(), h.card.Mount())
}

// strikePower cuts the power of a home, or of the whole street at once, and in a long run
// again and again before it has come to itself.
func strikePower(ctx context.Context, r *rig, rnd *rand.Rand) error {
	homes, times := []*home{pick(rnd, r.homes)}, 1+rnd.IntN(2)
	if r.opt.long() {
		times = 2 + rnd.IntN(4)
		if rnd.IntN(4) == 0 {
			homes = r.homes
			r.harm("power")
		}
	}
	r.harm("power", homes...)
	for n := range times {
		for _, h := range homes {
			if err := h.unplug(); err != nil {
				return err
			}
			r.count(countPowerCut)
		}
		for _, h := range homes {
			if err := h.start(r); err != nil {
				return err
			}
		}
		if n+1 < times && !pause(ctx, time.Duration(rnd.Int64N(int64(4*time.Second)))) {
			return ctx.Err()
		}
	}
	return ctx.Err()
}

// fullTimeout is how long an agent may go on with a full disk.
const fullTimeout = time.Minute

// strikeFull fills a home's card, has its agent say so and end, and makes room again.
func strikeFull(ctx context.Context, r *rig, rnd *rand.Rand) error {
	h := pick(rnd, r.homes)
	r.harm("full", h)
	before := logSize(h.logFile)
	h.expect()
	if err := h.card.Fill(); err != nil {
		return err
	}
	if err := await(ctx, fullTimeout, h.name+" ends when its card is full", func() bool { return !h.runs() }); err != nil {
		r.wrong("%v", err)
		h.kill()
	}
	r.count("disk full")
	if said := logFrom(h.logFile, before); !strings.Contains(said, "is full") || !strings.Contains(said, "hint: make room") {
		r.wrong("%s ended with a full card and did not say so, see its log", h.name)
	}
	return errors.Join(h.card.Free(), h.start(r), ctx.Err())
}

func logSize(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// logFrom is what a log has more than it had; up to a bound.
func logFrom(path string, from int64) string {
	f, err := os.Open(path) //nolint:gosec // of this run
	if err != nil {
		return fmt.Sprint(err)
	}
	defer f.Close() //nolint:errcheck // only read from
	b := make([]byte, 1<<20)
	n, _ := f.ReadAt(b, from) // the end is no error here
	return string(b[:n])
}
