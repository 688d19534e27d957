package cli_test

import (
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// manager is what a service manager hears at its socket.
type manager struct {
	mu    sync.Mutex
	words []string
}

// notify is the script command that opens the socket $NOTIFY_SOCKET.
func (m *manager) notify(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: notify")
	}
	path := filepath.Join(ts.Getenv("WORK"), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	ts.Check(err)
	ts.Setenv("NOTIFY_SOCKET", path)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 4096)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.words = append(m.words, strings.Fields(string(b[:n]))...)
			m.mu.Unlock()
		}
	}()
	ts.Defer(func() {
		_ = c.Close()
		<-done
	})
}

// notified is the script command that waits until words were heard in this order, others between
// them or not.
func (m *manager) notified(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: notified WORD...")
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		left := args
		m.mu.Lock()
		heard := strings.Join(m.words, " ")
		for _, w := range m.words {
			if len(left) > 0 && w == left[0] {
				left = left[1:]
			}
		}
		m.mu.Unlock()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("heard %q, want %s", heard, strings.Join(args, " "))
		}
	}
}
