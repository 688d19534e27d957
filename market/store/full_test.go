//go:build unix

package store_test

import (
	"errors"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/commonwatt/commonwatt/market/store"
)

// TestFull commits until the file may not grow any more. The block that does not fit
// is not there, in no part; nothing before it is lost; the store takes no other; and
// with room again everything goes on.
func TestFull(t *testing.T) {
	s := newStreet(t, 30)
	s.grow(t, 20)
	info, err := os.Stat(s.path)
	if err != nil {
		t.Fatal(err)
	}
	signal.Ignore(syscall.SIGXFSZ) // the kernel's way to say it twice
	defer signal.Reset(syscall.SIGXFSZ)
	var was syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	limit := was
	limit.Cur = uint64(info.Size()) + 8192 //nolint:gosec // a size
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was) }()
	var want content
	for range 500 {
		want = mustRead(t, s.store)
		b, d := s.next(t)
		if err = s.store.Commit(b.Height, d); err != nil {
			break
		}
		s.store.State().Absorb(d)
		s.chain = append(s.chain, b)
	}
	if err == nil {
		t.Fatal("the file grew beyond its limit")
	}
	_, d := s.next(t)
	if err := s.store.Commit(want.Height+1, d); !errors.Is(err, store.ErrFailed) {
		t.Errorf("after a failed commit: %v, want ErrFailed", err)
	}
	if diff := cmp.Diff(want, mustRead(t, s.store)); diff != "" {
		t.Errorf("after a failed commit (-want +got):\n%s", diff)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &was); err != nil {
		t.Fatal(err)
	}
	s.reopen(t)
	if diff := cmp.Diff(want, mustRead(t, s.store)); diff != "" {
		t.Errorf("opened again (-want +got):\n%s", diff)
	}
	s.grow(t, 30)
	s.close(t)
	if r := s.check(t, s.path); !r.OK() {
		t.Error(texts(r))
	}
}
