//go:build unix

package store_test

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
	"github.com/commonwatt/commonwatt/market/store"
)

// The environment that makes the test binary commit to a file until it is killed or,
// with a limit on the size of its files, cannot.
const (
	commitTo    = "COMMONWATT_TEST_COMMIT_TO"
	commitLimit = "COMMONWATT_TEST_COMMIT_LIMIT"
	commitLazy  = "COMMONWATT_TEST_COMMIT_LAZY" // without syncing
)

func TestMain(m *testing.M) {
	if path := os.Getenv(commitTo); path != "" {
		os.Exit(commitUntil(path))
	}
	goleak.VerifyTestMain(m)
}

// commitUntil prints each height that Commit has answered for.
func commitUntil(path string) int {
	if text := os.Getenv(commitLimit); text != "" {
		limit, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			fmt.Println("error", err)
			return 1
		}
		signal.Ignore(syscall.SIGXFSZ) // the kernel's way to say it twice
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			fmt.Println("error", err)
			return 1
		}
	}
	c := ledgertest.New(rules())
	s, err := store.Open(path, ledgertest.ChainID, c.Genesis)
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	if os.Getenv(commitLazy) != "" {
		s.NoSync()
	}
	traffic := ledgertest.NewTraffic(c, s.State(), 4, rand.New(rand.NewPCG(uint64(s.Height()), 9)))
	for height := s.Height() + 1; ; height++ {
		d, err := applyTo(s, traffic.Block())
		if err != nil {
			fmt.Println("error", err)
			return 1
		}
		if err := s.Commit(height, d); err != nil {
			again := s.Commit(height, d)
			_, ok := s.AppHashAt(height)
			fmt.Println("failed", errors.Is(again, store.ErrFailed), ok, s.Height() == height-1, s.Close())
			return 0
		}
		s.State().Absorb(d)
		fmt.Println(height)
	}
}

// writer is the test binary as a process that commits to a file.
type writer struct {
	path    string
	limit   int64             // of the file's bytes, 0: none
	lazy    bool              // it does not sync
	heights int               // after so many it is stopped
	stop    func(kill func()) // nil: by kill
}

// run returns the last height that the process has answered for, and what else it said.
func (w writer) run(t *testing.T) (last int64, said string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), commitTo+"="+w.path)
	if w.limit > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", commitLimit, w.limit))
	}
	if w.lazy {
		cmd.Env = append(cmd.Env, commitLazy+"=1")
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { _ = cmd.Process.Kill() } // it may be gone
	if w.stop == nil {
		w.stop = func(kill func()) { kill() }
	}
	deadline := time.AfterFunc(time.Minute, kill)
	defer deadline.Stop()
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
			said = lines.Text()
		}
		if n == w.heights {
			w.stop(kill)
		}
	}
	_ = cmd.Wait() // it was killed
	return last, said
}

// run has a process commit until it is killed.
func run(t *testing.T, path string, limit int64, heights int) (last int64, said string) {
	t.Helper()
	return writer{path: path, limit: limit, heights: heights}.run(t)
}

// TestKill kills a process that commits, again and again: no block that Commit has
// answered for is ever lost, and the file is whole each time.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	c := ledgertest.New(rules())
	acknowledged := int64(0)
	for round := range 8 {
		last, said := run(t, path, 0, 3+7*round)
		if said != "" {
			t.Fatal(said)
		}
		acknowledged = last
		s := open(t, path, c)
		if h := s.Height(); h != acknowledged && h != acknowledged+1 {
			t.Errorf("round %d: height %d, acknowledged %d", round, h, acknowledged)
		}
		for _, err := range s.State().Audit() {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		whole(t, path, c)
	}
	if acknowledged < 100 {
		t.Errorf("only %d blocks committed", acknowledged)
	}
}

func whole(t *testing.T, path string, c *ledgertest.Community) {
	t.Helper()
	r, err := store.Check(path, ledgertest.ChainID, c.Genesis, nil)
	if err != nil || !r.OK() {
		t.Fatalf("%v\n%s", err, texts(r))
	}
}

// TestFull commits until the file may not grow any more. The block that does not fit
// is not there, in no part; nothing before it is lost; the store takes no other; and
// with room again everything goes on.
func TestFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	c := ledgertest.New(rules())
	for round := range int64(3) {
		last, said := run(t, path, (round+1)*180_000, -1)
		if said != "failed true false true <nil>" || last < 10 {
			t.Fatalf("round %d: %q after block %d", round, said, last)
		}
		s := open(t, path, c)
		if s.Height() != last {
			t.Errorf("round %d: height %d, want %d", round, s.Height(), last)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		whole(t, path, c)
	}
}
