package card

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// MinSize is the smallest card: a journal and a home's ledger of some days.
const MinSize = 16 << 20

const (
	// shutdown is EXT4_IOC_SHUTDOWN, _IOR('X', 125, __u32).
	shutdown = 0x8004587d
	// withoutFlush is EXT4_GOING_FLAGS_NOLOGFLUSH: what the journal has not on disk is lost.
	withoutFlush = 2

	filler = ".filler" // the file that fills the card
)

// Card is a file system of its own in a file.
type Card struct {
	image, dir string
	mounted    bool
}

// New makes a card of that many bytes, empty, in the file dir+".card", and mounts it at dir,
// which is made.
func New(dir string, size int64) (*Card, error) {
	if size < MinSize {
		return nil, fmt.Errorf("making a card: size: got %d bytes, want at least %d", size, int64(MinSize))
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("making a card: %w", err)
	}
	c := &Card{image: dir + ".card", dir: dir}
	if err := c.format(size); err != nil {
		return nil, errors.Join(fmt.Errorf("making a card: %w", err), c.Remove())
	}
	return c, nil
}

func (c *Card) format(size int64) error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(c.image, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return err
	}
	// No blocks are kept for root, which would write on when the others cannot.
	if err := command("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", c.image); err != nil {
		return err
	}
	return c.Mount()
}

// Dir is where the card is mounted.
func (c *Card) Dir() string { return c.dir }

// Mount puts the card in again; after a Cut its journal is replayed.
func (c *Card) Mount() error { return c.mount("loop") }

// MountReadOnly puts the card in so that nothing can be written on it.
func (c *Card) MountReadOnly() error { return c.mount("loop,ro") }

func (c *Card) mount(options string) error {
	if c.mounted {
		return fmt.Errorf("mounting %s: it is mounted", c.dir)
	}
	if err := command("mount", "-t", "ext4", "-o", options, c.image, c.dir); err != nil {
		return err
	}
	c.mounted = true
	return nil
}

// ReadOnly makes the card in its place read-only, as the kernel does after errors, or
// writable again. It fails with EBUSY as long as a file is open for writing.
func (c *Card) ReadOnly(yes bool) error {
	option := "remount,rw"
	if yes {
		option = "remount,ro"
	}
	return command("mount", "-o", option, c.dir)
}

// Unmount takes the card out. Files that are still open keep their old content in memory
// and hold the loop device; nobody else sees them.
func (c *Card) Unmount() error {
	if !c.mounted {
		return nil
	}
	err := unix.Unmount(c.dir, 0)
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(c.dir, unix.MNT_DETACH)
	}
	if err != nil {
		return fmt.Errorf("unmounting %s: %w", c.dir, err)
	}
	c.mounted = false
	return nil
}

// Cut cuts the power: from now on every read and write fails, and what was not synced is
// gone. Unmount and Mount follow.
func (c *Card) Cut() error {
	d, err := os.Open(c.dir)
	if err != nil {
		return fmt.Errorf("cutting the power: %w", err)
	}
	err = unix.IoctlSetPointerInt(int(d.Fd()), shutdown, withoutFlush)
	if err := errors.Join(err, d.Close()); err != nil {
		return fmt.Errorf("cutting the power of %s: %w", c.dir, err)
	}
	return nil
}

// Fill takes all the room there is on the card.
func (c *Card) Fill() error {
	f, err := os.OpenFile(filepath.Join(c.dir, filler), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("filling the card: %w", err)
	}
	for part := make([]byte, 1<<20); len(part) > 0 && err == nil; {
		if _, err = f.Write(part); errors.Is(err, unix.ENOSPC) {
			part, err = part[:len(part)/2], nil
		}
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("filling the card: %w", err)
	}
	return nil
}

// Free gives the room back that Fill took.
func (c *Card) Free() error {
	if err := os.Remove(filepath.Join(c.dir, filler)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("freeing the card: %w", err)
	}
	return nil
}

// Remove takes the card out and throws it away.
func (c *Card) Remove() error {
	err := c.Unmount()
	if err == nil {
		err = os.Remove(c.dir) // empty: what was on it is on the card
	}
	for _, e := range []error{err, os.Remove(c.image)} {
		if e != nil && !errors.Is(e, fs.ErrNotExist) {
			return fmt.Errorf("removing the card: %w", e)
		}
	}
	return nil
}

func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput() //nolint:gosec,noctx // ours, and none of them waits for anybody
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%w: it comes with e2fsprogs (mkfs.ext4) or util-linux (mount)", err)
	case err != nil && os.Getuid() != 0:
		return fmt.Errorf("%s: %w: %s (only root may mount a card)", name, err, strings.TrimSpace(string(out)))
	case err != nil:
		return fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}
