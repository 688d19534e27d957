package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/store"
)

// Flips of one strike.
const (
	flipsShort = 25
	flipsLong  = 200
)

// Kinds of what became of them, see patient.judge.
const (
	countFlipRefused  = "flip refused"
	countFlipNamed    = "flip named by the check"
	countFlipHarmless = "flip without effect"
	countFlipUnseen   = "flip that hides readings"
)

// strikeFlips stops a home, copies its folder, and lets it go on. In the copy it flips one
// bit, or tears one page, at a time: each must be refused, or named by the check, or leave
// every answer as it was.
func strikeFlips(ctx context.Context, r *rig, rnd *rand.Rand) error {
	full := slices.DeleteFunc(slices.Clone(r.homes), func(h *home) bool { return !h.full() })
	h := pick(rnd, full)
	r.harm("flips", h)
	if err := h.stop(); err != nil {
		return err
	}
	dir := filepath.Join(r.dir, "flips")
	err := copyTree(h.dir, dir)
	if err = errors.Join(err, h.start(r)); err != nil {
		return err
	}
	p, err := examine(dir)
	if err != nil {
		return fmt.Errorf("the undamaged copy of %s: %w", h.name, err)
	}
	flips := flipsShort
	if r.opt.long() {
		flips = flipsLong
	}
	for n := range flips {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		what, mend, err := p.damage(rnd)
		if err != nil {
			return err
		}
		kind := p.judge(what, n%8 == 0)
		r.count(countFlip)
		r.count(kind)
		if kind == countFlipSilent {
			r.wrong("%s: %s gives another answer without a word", h.name, what)
		}
		if err := mend(); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(dir), ctx.Err())
}

// patient is a copy of a home's folder, and what it answers while it is whole.
type patient struct {
	dir, chain string
	raw        []byte // the genesis document
	genesis    ledger.Genesis
	ledger     string // digest of all answers of the ledger
	blocks     map[int64]string
	readings   map[string]bool
	files      []string
}

func examine(dir string) (p *patient, err error) {
	p = &patient{dir: dir}
	if p.raw, err = os.ReadFile(filepath.Join(dir, household.CommunityFile)); err != nil { //nolint:gosec // of this run
		return nil, err
	}
	if p.chain, p.genesis, err = consensus.ParseGenesis(p.raw); err != nil {
		return nil, err
	}
	if p.ledger, err = p.answers(); err != nil {
		return nil, err
	}
	if p.blocks, err = p.chainOf(); err != nil {
		return nil, err
	}
	if p.readings, err = p.rows(); err != nil {
		return nil, err
	}
	p.files = []string{p.ledgerFile(), p.ledgerFile(), filepath.Join(dir, household.HistoryFile)}
	err = filepath.WalkDir(filepath.Join(p.engine(), "data"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && (strings.Contains(path, "blockstore.db") || strings.Contains(path, "state.db") || strings.Contains(path, "cs.wal")) {
			if info, err := e.Info(); err == nil && info.Size() > 0 {
				p.files = append(p.files, path)
			}
		}
		return err
	})
	return p, err
}

func (p *patient) engine() string     { return filepath.Join(p.dir, household.EngineFolder) }
func (p *patient) ledgerFile() string { return consensus.LedgerFile(p.engine()) }

// answers is a digest of all that the ledger's file says.
func (p *patient) answers() (digest string, err error) {
	s, err := store.OpenReadOnly(p.ledgerFile(), p.chain, p.genesis)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	h := sha256.New()
	fmt.Fprintf(h, "%d %x\n", s.Height(), s.AppHash())
	e := json.NewEncoder(h)
	for _, m := range s.State().Households() {
		if member, ok := s.State().Household(m); ok {
			fmt.Fprintf(h, "%s %d\n", m, member.Balance)
		}
		months, err := s.Months(m)
		if err != nil {
			return "", err
		}
		if err := e.Encode(months); err != nil {
			return "", err
		}
		err = s.Settlements(m, 0, func(x *ledger.Settlement) bool { return e.Encode(x) == nil })
		if err != nil {
			return "", err
		}
	}
	err = s.Results(market.Interval(0), func(x *ledger.MarketResult) bool { return e.Encode(x) == nil })
	for height := s.Base(); height <= s.Height(); height++ {
		hash, ok := s.AppHashAt(height)
		fmt.Fprintf(h, "%d %x %v\n", height, hash, ok)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), err
}

// chainOf is a digest of each block that verifies.
func (p *patient) chainOf() (map[int64]string, error) {
	all := map[int64]string{}
	var broken error
	for b, err := range consensus.Blocks(p.engine()) {
		if err != nil {
			broken = errors.Join(broken, err)
			continue
		}
		all[b.Height] = fmt.Sprintf("%x %x %x", b.AppHash, b.Block.Seed, b.Block.Txs)
	}
	return all, broken
}

// rows are the readings that the home's history shows.
func (p *patient) rows() (map[string]bool, error) {
	rows, err := household.ReadHistory(p.dir, api.ReadingsQuery{Limit: 100_000})
	all := map[string]bool{}
	for _, row := range rows {
		raw, err := json.Marshal(row)
		if err != nil {
			return nil, err
		}
		if row.Verdict != "damaged" {
			all[string(raw)] = true
		}
	}
	return all, err
}

// damage flips a bit of one of the files, or has a sector of it hold what was never written.
func (p *patient) damage(rnd *rand.Rand) (what string, mend func() error, err error) {
	path := p.files[rnd.IntN(len(p.files))]
	whole, err := os.ReadFile(path) //nolint:gosec // of this run
	if err != nil {
		return "", nil, err
	}
	b, at := slices.Clone(whole), rnd.IntN(len(whole))
	name, _ := filepath.Rel(p.dir, path)
	if rnd.IntN(8) > 0 {
		bit := rnd.IntN(8)
		b[at] ^= 1 << bit
		what = fmt.Sprintf("bit %d of byte %d of %s", bit, at, name)
	} else {
		const sector = 512
		from := at / sector * sector
		clear(b[from:min(from+sector, len(b))])
		what = fmt.Sprintf("the sector at byte %d of %s", from, name)
	}
	return what, func() error { return os.WriteFile(path, whole, 0o600) }, os.WriteFile(path, b, 0o600) //nolint:gosec // of this run
}

// judge says what became of the damage. The check of the file is asked where opening it has
// found nothing, as `commonwatt ledger check` does; replayed: against the blocks too.
func (p *patient) judge(what string, replayed bool) (kind string) {
	switch {
	case strings.HasSuffix(what, household.HistoryFile):
		return p.judgeReadings()
	case !strings.HasSuffix(what, filepath.Base(p.ledgerFile())):
		blocks, err := p.chainOf()
		for height, digest := range blocks {
			if p.blocks[height] != digest {
				return countFlipSilent
			}
		}
		switch {
		case err != nil:
			return countFlipNamed
		case len(blocks) != len(p.blocks):
			return countFlipSilent
		}
		return countFlipHarmless
	}
	digest, err := p.answers()
	if err != nil {
		return countFlipRefused
	}
	if digest == p.ledger {
		return countFlipHarmless
	}
	var blocks store.Blocks
	if replayed {
		blocks = func(yield func(store.Committed, error) bool) {
			for b, err := range consensus.Blocks(p.engine()) {
				if !yield(store.Committed{Height: b.Height, Block: b.Block, AppHash: b.AppHash}, err) {
					return
				}
			}
		}
	}
	report, err := store.Check(p.ledgerFile(), p.chain, p.genesis, blocks)
	if err != nil || !report.OK() {
		return countFlipNamed
	}
	return countFlipSilent
}

// judgeReadings wants every reading that is shown to be one that was kept. The history
// proves nothing, and may lose readings: those are counted by themselves.
func (p *patient) judgeReadings() string {
	rows, err := p.rows()
	for row := range rows {
		if !p.readings[row] {
			return countFlipSilent
		}
	}
	switch {
	case err != nil:
		return countFlipRefused
	case len(rows) < len(p.readings):
		return countFlipUnseen
	}
	return countFlipHarmless
}

// copyTree copies a folder in place of what is there.
func copyTree(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		at := filepath.Join(to, inside)
		switch {
		case e.IsDir():
			return os.MkdirAll(at, 0o700)
		case !e.Type().IsRegular():
			return nil
		}
		b, err := os.ReadFile(path) //nolint:gosec // of this run
		if err != nil {
			return err
		}
		return os.WriteFile(at, b, 0o600) //nolint:gosec // of this run
	})
}
