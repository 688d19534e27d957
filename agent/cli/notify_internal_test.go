package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestNotifier: the watchdog is fed while the loops are alive, and only then.
func TestNotifier(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	n := newNotifier(environment(map[string]string{
		"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "30000", "WATCHDOG_PID": strconv.Itoa(os.Getpid()),
	}), slog.New(slog.DiscardHandler))
	if n.every != 10*time.Millisecond {
		t.Errorf("a watchdog of 30 ms is fed every %v", n.every)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// Not ready twice, then alive twice, then dead three times, then alive once more.
	looks, said := []bool{false, false, true, true, false, false, false, true}, 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.run(ctx, func(context.Context) error {
			if said == len(looks) {
				cancel()
				return ctx.Err()
			}
			said++
			if !looks[said-1] {
				return errors.New("a loop stands still")
			}
			return nil
		})
	}()
	<-done
	var got []string
	b := make([]byte, 100)
	for len(got) == 0 || got[len(got)-1] != "STOPPING=1" {
		k, err := socket.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.TrimSuffix(string(b[:k]), "\n"))
	}
	if want := "READY=1 WATCHDOG=1 WATCHDOG=1 STOPPING=1"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func environment(m map[string]string) func(string) string {
	return func(name string) string { return m[name] }
}

func TestNotifierByEnvironment(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	if n := newNotifier(environment(nil), log); n != nil {
		t.Errorf("without a socket: got %+v", n)
	}
	for name, c := range map[string]struct {
		usec, pid string
		want      time.Duration
	}{
		"no watchdog":         {"", "", notifyIdle},
		"a minute":            {"60000000", "", 20 * time.Second},
		"of another process":  {"60000000", "1", notifyIdle},
		"no number":           {"soon", "", notifyIdle},
		"negative":            {"-1", "", notifyIdle},
		"longer than it fits": {"9223372036854775807", "", notifyIdle},
	} {
		n := newNotifier(environment(map[string]string{"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": c.usec, "WATCHDOG_PID": c.pid}), log)
		if n == nil || n.every != c.want {
			t.Errorf("%s: got %+v, want every %v", name, n, c.want)
		}
	}
}
