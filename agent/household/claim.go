package household

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Claim keeps an agent from starting in a home's folder until the function that it returns is
// called; ErrInUse if one runs there. It holds the lock of home.db, which it does not read:
// that may be damaged.
func Claim(dir string) (release func() error, err error) {
	path := filepath.Join(dir, DiskFile)
	f, err := os.OpenFile(path, os.O_RDONLY, 0) //nolint:gosec // the home's own folder
	if errors.Is(err, os.ErrNotExist) {
		return func() error { return nil }, nil // no agent has run there
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrInUse
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening %s: %w", path, err), f.Close())
	}
	return f.Close, nil
}
