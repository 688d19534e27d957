package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"index/suffixarray"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// collect reads every home's books: its pages while it runs, its folder when it has ended.
func (r *rig) collect(ctx context.Context, last int64) (*books, error) {
	b := &books{first: r.trading, last: last}
	common := int64(-1)
	for _, h := range r.homes {
		s, err := h.status(ctx)
		if err != nil {
			return nil, fmt.Errorf("reading the books of %s: %w", h.name, err)
		}
		if common < 0 || h.full() && s.height() < common {
			common = s.height()
		}
	}
	for _, h := range r.homes {
		hb, err := r.read(ctx, h, common)
		if err != nil {
			return nil, fmt.Errorf("reading the books of %s: %w", h.name, err)
		}
		b.homes = append(b.homes, hb)
	}
	r.tell("hashes at block %d are compared, and %d accounts of %d homes; now all homes end", common, len(r.homes), len(r.homes))
	var wait sync.WaitGroup
	for _, h := range r.homes {
		wait.Go(func() {
			if err := h.stop(); err != nil {
				r.wrong("%v", err)
			}
		})
	}
	wait.Wait()
	for i, h := range r.homes {
		if !h.full() {
			continue
		}
		if err := r.look(ctx, h, &b.homes[i]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// read asks a running home, until nothing changed while it was asked.
func (r *rig) read(ctx context.Context, h *home, common int64) (b homeBooks, err error) {
	err = await(ctx, readyTimeout, "its accounts were read between two blocks", func() bool {
		before, was := h.status(ctx)
		b, err = r.readOnce(ctx, h)
		after, is := h.status(ctx)
		return errors.Join(was, err, is) == nil && before.height() == after.height()
	})
	if err != nil || !h.full() {
		return b, err
	}
	b.hash, err = h.hashAt(ctx, common)
	return b, err
}

func (r *rig) readOnce(ctx context.Context, h *home) (homeBooks, error) {
	b := homeBooks{name: h.name, full: h.full(), accounts: map[string]account{}}
	for _, of := range r.homes {
		if of != h && !h.full() {
			continue
		}
		lines, closing, err := h.bill(ctx, of.id, begin.Format("2006-01"))
		if err != nil {
			return b, err
		}
		b.accounts[of.name] = account{lines, closing}
	}
	if !h.full() {
		return b, nil
	}
	var grid struct {
		Accounts []struct {
			Account string `json:"account"`
			Balance int64  `json:"balance_micro"`
		} `json:"accounts"`
	}
	if err := h.get(ctx, "/api/grid", &grid); err != nil {
		return b, err
	}
	b.offices = map[string]int64{}
	for _, a := range grid.Accounts {
		if a.Account != "households" {
			b.offices[a.Account] = a.Balance
		}
	}
	return b, nil
}

// look checks a stopped home's folder, and reads its blocks.
func (r *rig) look(ctx context.Context, h *home, b *homeBooks) error {
	out, err := exec.CommandContext(ctx, r.agent, "ledger", "check", h.dir).CombinedOutput() //nolint:gosec // our own program
	if err != nil {
		b.ledger = fmt.Sprintf("%v: %s", err, bytes.TrimSpace(out))
		return nil
	}
	file := filepath.Join(r.dir, h.name+".archive")
	out, err = exec.CommandContext(ctx, r.agent, "ledger", "export", h.dir, "--archive", file).CombinedOutput() //nolint:gosec // our own program
	if err != nil {
		return fmt.Errorf("archive of %s: %w: %s", h.name, err, out)
	}
	if !strings.Contains(string(out), "blocks 1 to ") {
		r.tell("%s began with a snapshot: its blocks are not compared", h.name)
		return nil
	}
	raw, err := os.ReadFile(file) //nolint:gosec // just written
	if err != nil {
		return err
	}
	index := suffixarray.New(raw)
	b.copies = func(tx []byte) int { return len(index.Lookup(tx, -1)) }
	return os.Remove(file)
}

// conditions are what the judge has to know beside journal and books.
func (r *rig) conditions(ctx context.Context) conditions {
	c := conditions{
		harms: r.journal.harms, prices: r.prices, excuse: 2*r.opt.pace() + excuseMore, wall: r.wall,
		meters: map[string]func(time.Time) (energy, error){},
	}
	for _, h := range r.homes {
		known := map[time.Time]energy{}
		c.meters[h.name] = func(at time.Time) (energy, error) {
			if e, ok := known[at]; ok {
				return e, nil
			}
			in, out, err := r.counted(ctx, h, at)
			if err == nil {
				known[at] = energy{in, out}
			}
			return energy{in, out}, err
		}
	}
	return c
}

// excuseMore is what an order may need beside two intervals: to be sent, and to wait for a proposer.
const excuseMore = 5 * time.Second
