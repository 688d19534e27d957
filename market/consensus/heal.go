package consensus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cometbft/cometbft/privval"
)

// Heal gets a ledger from the others in place of one that is damaged. What is damaged is
// kept: it is moved aside, into a folder named by date, and only after somebody has been
// found who gives another. What this validator has signed stays where it is; nothing else in
// the home is touched. The node must not be running.
//
// It may be killed at any time and run again. The steps, and what a crash after each leaves:
//
//	fetched     the damaged ledger in its place, a whole one beside it: begun anew
//	moved aside no ledger, and a whole one beside it: New or Run installs it
//	installed   nothing
type Heal struct {
	Join // Mode and Own count for nothing here
	// StateFile is the validator's, see Config.
	StateFile string
	// Restored: the folder came from a backup, so what this validator signed since is not in
	// StateFile; it is taken as lost.
	Restored bool
}

// Healed is what Heal did.
type Healed struct {
	Kept     string `json:"kept"`     // the folder of what was damaged
	Height   int64  `json:"height"`   // of the snapshot; 0: the blocks are fetched from the first one on
	Newest   int64  `json:"newest"`   // block of the chain, as the others say
	Bytes    int64  `json:"bytes"`    // received
	Unsigned bool   `json:"unsigned"` // it signs nothing until it is clear what it had signed
}

// ErrSignState means that it is not known what this validator has signed.
var ErrSignState = errors.New("what this validator has signed is lost")

// lostMark stands beside a validator's state as long as that is not all that was signed.
func lostMark(stateFile string) string { return stateFile + ".lost" }

// Run does it. Its errors wrap ErrJoin, ErrConfig, or are of ctx or the disk.
func (h Heal) Run(ctx context.Context) (*Healed, error) {
	h.Mode, h.Own = JoinAuto, nil
	r := &joinRun{Join: h.Join, refused: map[string]error{}}
	if err := r.prepare(); err != nil {
		return nil, err
	}
	done, err := r.heal(ctx, h)
	if err != nil {
		return nil, explainDisk(err)
	}
	return done, nil
}

func (r *joinRun) heal(ctx context.Context, h Heal) (*Healed, error) {
	done, replaced := &Healed{}, false
	r.replace = func() (err error) {
		replaced = true
		done.Kept, err = r.setAside()
		return err
	}
	if _, err := os.Stat(joinedFolder(r.Home)); err == nil { // of a run that was killed
		if err := errors.Join(r.replace(), installJoined(r.Home)); err != nil {
			return nil, err
		}
	} else if err := r.fetchAnother(ctx); err != nil {
		return nil, err
	}
	if !replaced { // nobody has a snapshot: the blocks come from the first one on
		if err := r.replace(); err != nil {
			return nil, err
		}
	}
	done.Newest, done.Height, done.Bytes = r.progress.Newest, r.progress.Height, r.progress.Bytes
	var err error
	done.Unsigned, err = h.keepSigned(r.Now())
	return done, err
}

// fetchAnother installs a snapshot in place of what is there, unless the chain is so short
// that there is none.
func (r *joinRun) fetchAnother(ctx context.Context) error {
	if err := r.awaitOffer(ctx); err != nil {
		return err
	}
	if resumed, err := r.resume(ctx); resumed || err != nil {
		return err
	}
	return r.choose(ctx)
}

// awaitOffer waits until somebody is there who keeps the ledger: before that nothing is
// moved.
func (r *joinRun) awaitOffer(ctx context.Context) error {
	r.step("asking the others")
	for deadline := r.Now().Add(r.Patience); ; {
		all := r.offers(ctx)
		for _, o := range all {
			r.progress.Newest = max(r.progress.Newest, o.answer.Newest)
		}
		switch {
		case len(all) > 0:
			return nil
		case r.Now().After(deadline):
			return fmt.Errorf("%w: nobody who keeps the ledger has answered within %v, nothing was changed: see that the network works and that other homes run, then try again", ErrJoin, r.Patience)
		}
		if err := r.pause(ctx); err != nil {
			return err
		}
	}
}

// inLedger are the files and folders that a ledger is made of, all that is moved aside: keys,
// what was signed, settings and what is being fetched are not among them.
var inLedger = []string{
	joinLedger, "validators", "snapshots",
	"data/blockstore.db", "data/state.db", "data/evidence.db", "data/tx_index.db", "data/cs.wal",
}

const asidePrefix = "damaged-"

// stamp names what is kept.
const stamp = "20060102-150405"

// setAside moves the ledger, the engine's stores and all that was made of them into a folder
// of their own, and returns it; empty if there was nothing.
func (r *joinRun) setAside() (string, error) {
	kept, err := r.keptFolder()
	if err != nil {
		return "", fmt.Errorf("moving the damaged ledger aside: %w", err)
	}
	keptData, moved := filepath.Join(kept, "data"), 0
	err = os.Mkdir(keptData, 0o700)
	for _, name := range inLedger {
		if err != nil {
			break
		}
		switch err = os.Rename(filepath.Join(r.Home, name), filepath.Join(kept, name)); {
		case err == nil:
			moved++
		case errors.Is(err, fs.ErrNotExist):
			err = nil
		}
	}
	if err == nil && moved == 0 {
		return "", errors.Join(os.Remove(keptData), os.Remove(kept))
	}
	if err == nil {
		err = errors.Join(syncFolder(keptData), syncFolder(kept), syncFolder(r.Home), r.fault("aside"))
	}
	if err != nil {
		return "", fmt.Errorf("moving the damaged ledger aside: %w", err)
	}
	r.Log.Info("the damaged ledger is kept", "folder", kept)
	return kept, nil
}

// keptFolder makes a new one.
func (r *joinRun) keptFolder() (string, error) {
	base := filepath.Join(r.Home, asidePrefix+r.Now().UTC().Format(stamp))
	for n := 1; ; n++ {
		kept := base
		if n > 1 { // within a second
			kept = fmt.Sprintf("%s-%d", base, n)
		}
		if err := os.Mkdir(kept, 0o700); !errors.Is(err, fs.ErrExist) || n > 100 {
			return kept, err
		}
	}
}

// keepSigned leaves what was signed as it is, if it can be relied on. If not, it marks it as
// lost, keeps what there is under another name, and begins anew; the guard then finds out
// what may be signed (see guard.settle). The mark comes first: without it nothing is signed
// that could have been signed before.
func (h Heal) keepSigned(now time.Time) (lost bool, err error) {
	mark := lostMark(h.StateFile)
	if _, err := os.Stat(mark); err == nil {
		lost = true
	}
	_, err = loadSignState(h.StateFile)
	if err == nil && !h.Restored {
		return lost, nil
	}
	if err != nil && !errors.Is(err, ErrSignState) {
		return false, err
	}
	if err := writeSynced(mark, []byte(now.UTC().Format(time.RFC3339)+"\n"), 0o600); err != nil {
		return false, err
	}
	err = os.Rename(h.StateFile, h.StateFile+"."+now.UTC().Format(stamp))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("keeping the damaged signing state: %w", err)
	}
	if err := writeSignState(h.StateFile, &privval.FilePVLastSignState{}); err != nil {
		return false, err
	}
	return true, syncFolder(filepath.Dir(h.StateFile))
}
