package access

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// The files of this package in a home's folder.
const (
	AccountsFile = "access.json"
	TokenFile    = "api.token"
	AuditFile    = "audit.log"
	lockFile     = "access.lock"
)

// noFollow keeps root, who gives what it opened to the home's owner, from giving away what a link points to.
const noFollow = syscall.O_NOFOLLOW

// lock keeps other processes from the files of a folder until unlock is called. It waits.
func lock(dir string) (unlock func(), err error) {
	path := filepath.Join(dir, lockFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|noFollow, 0o600) //nolint:gosec // in the home's own folder
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	if err := errors.Join(giveToOwner(f, dir), flock(f)); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", path, err), f.Close())
	}
	return func() { _ = f.Close() }, nil // closing unlocks; nothing was written
}

func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// giveToOwner makes a file that root wrote for a home the home's own: a service has a user of its
// own, and its owner types `sudo commonwatt`.
func giveToOwner(f *os.File, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 {
		return f.Chown(int(s.Uid), int(s.Gid))
	}
	return nil
}

// replaceFile writes a file that only its owner can read, whole or not at all.
func replaceFile(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, giveToOwner(f, dir), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(f.Name()))
	}
	return syncDir(dir)
}

// syncDir makes a rename last.
func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the home's own folder
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readPrivate reads a file that nobody but its owner may read, up to a size.
func readPrivate(path string, most int64) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // in the home's own folder
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, &ExposedError{Path: path, Mode: mode}
	}
	raw, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if int64(len(raw)) > most {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrDamaged, path, most)
	}
	return raw, nil
}
