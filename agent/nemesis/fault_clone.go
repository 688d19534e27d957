package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/commonwatt/commonwatt/agent/household"
)

// spaceOfClone is the number of the address where clones start.
const spaceOfClone = 50

// strikeClone starts a copy of a validator's folder on another machine, as somebody does who
// tries a backup while the gateway runs. The copy has to end by itself, with the words for it,
// before it has signed anything.
func strikeClone(ctx context.Context, r *rig, rnd *rand.Rand) (err error) {
	h := pick(rnd, r.validators())
	r.harm("clone", h)
	r.count("cloned validator")
	if r.cloneSpace == nil {
		if r.cloneSpace, err = newSpace(ctx, "clone", spaceOfClone); err != nil {
			return err
		}
	}
	c := &process{space: r.cloneSpace, logFile: filepath.Join(r.dir, "logs", "clone.log")}
	dir := filepath.Join(r.dir, "clone")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := h.stop(); err != nil {
		return err
	}
	copied := exec.CommandContext(ctx, "cp", "-a", h.dir, dir) //nolint:gosec // the run's own folders
	if out, err := copied.CombinedOutput(); err != nil {
		return fmt.Errorf("copying %s: %w: %s", h.name, err, out)
	}
	if err := errors.Join(h.start(r), move(dir, h.space.ip, c.space.ip), h.ready(ctx)); err != nil {
		return err
	}
	if err := os.WriteFile(c.logFile, nil, 0o600); err != nil {
		return err
	}
	if err := c.begin(nil, r.agent, "run", "--home", dir); err != nil {
		return err
	}
	defer c.kill()
	ended := await(ctx, readyTimeout, "a clone has ended by itself", func() bool { return !c.runs() })
	log, err := os.ReadFile(c.logFile)
	if err != nil {
		return err
	}
	if ended != nil || !bytes.Contains(log, []byte("one place only")) {
		r.wrong("a clone of %s was not refused: its log ends with %s", h.name, log[max(0, len(log)-500):])
	}
	return ctx.Err()
}

// move lets a copied home listen at another address.
func move(dir, from, to string) error {
	c, err := household.LoadConfig(filepath.Join(dir, household.ConfigFile))
	if err != nil {
		return err
	}
	for i, address := range c.Listen.Network {
		c.Listen.Network[i] = strings.Replace(address, from, to, 1)
	}
	return household.WriteConfig(dir, c)
}
