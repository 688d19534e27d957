package consensus

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/cometbft/cometbft/types"
)

// How a machine begins that has no ledger yet.
const (
	JoinAuto     = ""         // by a snapshot if there is one, else from the first block
	JoinSnapshot = "snapshot" // from the state after a newer block, which a header proves
	JoinGenesis  = "genesis"  // from the first block, all of which it executes again
)

// ErrJoin means that no ledger could be had. The text says what to do.
var ErrJoin = errors.New("cannot join")

// Join is what a machine needs to begin. Home, Genesis, Ask and Providers are required.
type Join struct {
	Home    string
	Genesis []byte
	Mode    string
	// Own is this machine's validator key, nil if it has none: the validators of the genesis
	// document begin the chain, they do not wait for one.
	Own ed25519.PublicKey
	Ask Ask
	// Providers are asked again and again: who is there may change.
	Providers Providers
	// Retention is as in Config: older lines are not fetched.
	Retention time.Duration
	// Patience is how long JoinAuto waits for somebody to answer; default 15 s. Then it
	// begins from the first block, as the first ones must.
	Patience time.Duration
	// Progress is told how far it is, from one goroutine; nil: nobody is.
	Progress func(JoinProgress)
	Now      func() time.Time
	Log      *slog.Logger

	fault func(step string) error // set by tests: called after each step
	every time.Duration           // pause between attempts; default 1 s
}

// JoinProgress is how far a machine is that joins.
type JoinProgress struct {
	Step     string `json:"step"`     // for people: "state", "settlements of 2026-07", "checking"
	Provider string `json:"provider"` // of whom the last part was; empty: nobody's yet
	Height   int64  `json:"height"`   // of the snapshot
	Newest   int64  `json:"newest"`   // block of the chain, as the provider says
	Bytes    int64  `json:"bytes"`    // received so far
	Of       int64  `json:"of"`       // of the state; 0: not known yet
	Lines    uint64 `json:"lines"`    // of the history
	Trouble  string `json:"trouble"`  // why it does not go on, if it does not
}

// joinRun is one run of Join.
type joinRun struct {
	Join
	anchor   *Anchor
	doc      *types.GenesisDoc
	progress JoinProgress
	refused  map[string]error // providers that gave something wrong
	replace  func() error     // moves away what is there before another is installed; may be nil
}

// Run makes the folder's ledger, if it has none yet and it is to begin with a snapshot; when it
// returns nil, New and Run of a Node do the rest. It waits for providers as long as ctx
// lasts, and may be killed at any time: the next Run goes on. Its errors wrap ErrJoin, or
// are of ctx or the disk.
func (j Join) Run(ctx context.Context) error {
	r := &joinRun{Join: j, refused: map[string]error{}}
	if err := r.prepare(); err != nil {
		return err
	}
	if err := installJoined(j.Home); err != nil {
		return err
	}
	if _, err := os.Stat(LedgerFile(j.Home)); !errors.Is(err, fs.ErrNotExist) {
		return err // it has one
	}
	if _, err := os.Stat(filepath.Join(j.Home, "data", "blockstore.db")); err == nil {
		return fmt.Errorf("%w: %s has blocks of the engine but no ledger: move the folder away, and start again", ErrJoin, j.Home)
	}
	if err := os.MkdirAll(j.Home, 0o700); err != nil {
		return fmt.Errorf("joining: %w", err)
	}
	if resumed, err := r.resume(ctx); resumed || err != nil {
		return explainDisk(err)
	}
	if j.Mode == JoinGenesis || j.Mode == JoinAuto && r.founds() {
		return r.fromGenesis(ctx)
	}
	return explainDisk(r.choose(ctx))
}

// Needed says whether Run has anything to do: the folder has no ledger, and this machine is
// not one of those that begin the chain.
func (j Join) Needed() (bool, error) {
	r := &joinRun{Join: j}
	if err := r.prepare(); err != nil {
		return false, err
	}
	for _, path := range []string{joinFolder(j.Home), joinedFolder(j.Home)} {
		if _, err := os.Stat(path); err == nil {
			return true, nil
		}
	}
	_, err := os.Stat(LedgerFile(j.Home))
	if !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return j.Mode == JoinSnapshot || !r.founds(), nil
}

func (r *joinRun) prepare() (err error) {
	switch r.Mode {
	case JoinAuto, JoinSnapshot, JoinGenesis:
	default:
		return fmt.Errorf("%w: join: got %q, want %s or %s", ErrConfig, r.Mode, JoinSnapshot, JoinGenesis)
	}
	if r.Now == nil {
		r.Now = time.Now
	}
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	if r.fault == nil {
		r.fault = func(string) error { return nil }
	}
	setDefault(&r.every, time.Second)
	setDefault(&r.Patience, 15*time.Second)
	if r.anchor, err = NewAnchor(r.Genesis); err != nil {
		return err
	}
	r.doc, _, err = parseGenesis(r.Genesis)
	return err
}

// founds says whether this machine is one of the first validators.
func (r *joinRun) founds() bool {
	return slices.ContainsFunc(r.doc.Validators, func(v types.GenesisValidator) bool {
		return len(r.Own) > 0 && slices.Equal(v.PubKey.Bytes(), r.Own)
	})
}

// explainDisk says of a full disk what can be done.
func explainDisk(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w: the disk is full: make room and start again, it goes on where it was: %w", ErrJoin, err)
	}
	return err
}

// offered is what one provider has.
type offered struct {
	id     string
	answer *OffersAnswer
}

// offers asks everybody that is there.
func (r *joinRun) offers(ctx context.Context) (all []offered) {
	for _, p := range r.Providers() {
		if r.refused[p.ID] != nil || ctx.Err() != nil {
			continue
		}
		a, err := Put[OffersAnswer](ctx, r.Ask, p.ID, AskOffers, OffersQuestion{})
		if err != nil {
			r.Log.InfoContext(ctx, "provider does not say what it has", "provider", p.ID, "err", err)
			r.trouble(fmt.Sprintf("%s: %v", p.ID, err))
			continue
		}
		all = append(all, offered{id: p.ID, answer: a})
	}
	return all
}

// fromGenesis says that the first block is fetched, and whether there is one to be had. It
// does not wait: the engine does.
func (r *joinRun) fromGenesis(ctx context.Context) error {
	if r.Mode != JoinGenesis || r.founds() {
		return nil
	}
	offers := r.offers(ctx)
	low := int64(0)
	for _, o := range offers {
		if o.answer.Base <= 1 {
			return nil
		}
		if low == 0 || o.answer.Base < low {
			low = o.answer.Base
		}
	}
	if low > 1 {
		return fmt.Errorf("%w: nobody who can be asked keeps blocks before %d any more: write \"join: snapshot\" into agent.yaml, or ask your cooperative for a node that keeps all", ErrJoin, low)
	}
	return nil
}

// choose waits for a snapshot that its header proves and joins with it.
func (r *joinRun) choose(ctx context.Context) error {
	deadline := r.Now().Add(r.Patience)
	for {
		all := r.offers(ctx)
		switch {
		case len(all) > 0 && !slices.ContainsFunc(all, func(o offered) bool { return !r.short(o.answer) }):
			r.Log.InfoContext(ctx, "the chain is short, it is fetched from its first block")
			return nil
		case len(all) == 0 && r.Mode == JoinAuto && !r.Now().Before(deadline):
			r.Log.InfoContext(ctx, "nobody answers, the ledger begins with the first block")
			return nil
		}
		for _, o := range ranked(all) {
			done, err := r.begin(ctx, o)
			if done || err != nil {
				return err
			}
		}
		if err := r.pause(ctx); err != nil {
			return err
		}
	}
}

// short says whether the chain is fetched from its first block, by what one provider has.
func (r *joinRun) short(a *OffersAnswer) bool {
	return len(a.Snapshots) == 0 && a.Base <= 1 && (r.Mode == JoinAuto || a.Newest < a.Every)
}

// candidate is a snapshot and who has it.
type candidate struct {
	offer     Offer
	providers []string
	newest    int64
}

// ranked are the snapshots on offer: the newest first, of one height that of most providers.
func ranked(all []offered) []candidate {
	var out []candidate
	for _, o := range all {
		for _, s := range o.answer.Snapshots {
			i := slices.IndexFunc(out, func(c candidate) bool { return c.offer == s })
			if i < 0 {
				i = len(out)
				out = append(out, candidate{offer: s})
			}
			out[i].providers = append(out[i].providers, o.id)
			out[i].newest = max(out[i].newest, o.answer.Newest)
		}
	}
	slices.SortStableFunc(out, func(a, b candidate) int {
		if a.offer.Height != b.offer.Height {
			return int(b.offer.Height - a.offer.Height)
		}
		return len(b.providers) - len(a.providers)
	})
	return out
}

// begin asks for a snapshot's manifest and headers, and if they are right goes on with it.
// done is false if another one has to be tried.
func (r *joinRun) begin(ctx context.Context, c candidate) (done bool, err error) {
	for _, id := range c.providers {
		a, err := Put[ManifestAnswer](ctx, r.Ask, id, AskManifest, ManifestQuestion{Height: c.offer.Height})
		if err != nil {
			r.lacks(ctx, id, err)
			continue
		}
		o, err := r.anchor.verifyOrigin(a)
		if err == nil && o.manifest.ID() != c.offer.Manifest {
			err = fmt.Errorf("%w: it offered another manifest", ErrAnswer)
		}
		if err != nil {
			r.refuse(ctx, id, err)
			continue
		}
		if err := r.agree(ctx, o, id); err != nil {
			return false, err
		}
		raw, err := bundleEnc.Marshal(a)
		if err != nil {
			return false, err
		}
		r.Log.InfoContext(ctx, "joining by a snapshot", "height", o.manifest.Height, "bytes", o.manifest.Bytes, "providers", len(c.providers), "newest", c.newest)
		r.progress.Newest = c.newest
		if err := r.keepOrigin(raw); err != nil {
			return false, err
		}
		return r.fetch(ctx, o)
	}
	return false, nil
}

// agree compares the header with the other providers'. Two headers of one height that are
// both signed mean that validators have signed twice: then nobody can be believed.
func (r *joinRun) agree(ctx context.Context, o *origin, from string) error {
	for _, p := range r.Providers() {
		if p.ID == from || r.refused[p.ID] != nil {
			continue
		}
		a, err := Put[HeaderAnswer](ctx, r.Ask, p.ID, AskHeader, HeaderQuestion{Height: o.next.Height})
		if err != nil || len(a.Block) == 0 {
			continue // it may not have it
		}
		b, err := decodeLightBlock(r.anchor.chainID, a.Block)
		if err != nil {
			r.refuse(ctx, p.ID, err)
			continue
		}
		if b.Height == o.next.Height && slices.Equal(b.Hash(), o.next.Hash()) {
			continue
		}
		if err := o.sets[1].VerifyCommit(r.anchor.chainID, b.Commit.BlockID, b.Height, b.Commit); err != nil {
			r.refuse(ctx, p.ID, fmt.Errorf("%w: block %d: %w", ErrSignature, b.Height, err))
			continue
		}
		return fmt.Errorf("%w: %s and %s have different headers of block %d, and both are signed: validators have signed twice; ask your cooperative before you go on",
			ErrJoin, from, p.ID, o.next.Height)
	}
	return nil
}

// refuse notes that a provider gave something wrong, and asks it no more.
func (r *joinRun) refuse(ctx context.Context, id string, err error) {
	r.refused[id] = err
	r.Log.WarnContext(ctx, "snapshot refused, another is asked", "provider", id, "err", err)
	r.trouble(fmt.Sprintf("%s was refused: %v", id, err))
}

// lacks notes that a provider could not be asked, or does not have it.
func (r *joinRun) lacks(ctx context.Context, id string, err error) {
	r.Log.InfoContext(ctx, "provider does not give it", "provider", id, "err", err)
	r.trouble(fmt.Sprintf("%s: %v", id, err))
}

func (r *joinRun) trouble(text string) {
	r.progress.Trouble = text
	r.report()
}

func (r *joinRun) report() {
	if r.Progress != nil {
		r.Progress(r.progress)
	}
}

// pause waits before everybody is asked again. If all who are there have been refused, they
// get another chance: there may be nobody else, and what they give is checked.
func (r *joinRun) pause(ctx context.Context) error {
	left := slices.ContainsFunc(r.Providers(), func(p Provider) bool { return r.refused[p.ID] == nil })
	if !left && len(r.refused) > 0 {
		clear(r.refused)
	}
	t := time.NewTimer(r.every)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
