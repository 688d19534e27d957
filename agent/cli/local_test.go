package cli

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/commonwatt/commonwatt/agent/household"
)

// atPage is the configuration of a home whose page is at an address.
func atPage(addr string) household.Config {
	return household.Config{Name: "home", Listen: household.ListenConfig{API: addr, TLS: "auto"}}
}

func writePID(t *testing.T, home string, pid int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(home, household.PIDFile), fmt.Appendln(nil, pid), 0o600); err != nil {
		t.Fatal(err)
	}
}

// hangsUp serves a page that hangs up on the first n questions.
func hangsUp(t *testing.T, n int64) (addr string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) <= n {
			panic(http.ErrAbortHandler)
		}
		fmt.Fprint(w, "well")
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), asked
}

// An agent that lives is asked again while it starts. One that does not, and what might be done
// twice, is not.
func TestAskedAgain(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	addr, asked := hangsUp(t, 2)
	raw, err := fetch(t.Context(), atPage(addr), home, "/api/status", 100)
	if err == nil || asked.Load() != 1 || !strings.Contains(err.Error(), "hung up without an answer") {
		t.Errorf("nobody lives: got %q, %v, asked %d times", raw, err, asked.Load())
	}
	writePID(t, home, os.Getpid())
	if raw, err = fetch(t.Context(), atPage(addr), home, "/api/status", 100); err != nil || string(raw) != "well" || asked.Load() != 3 {
		t.Errorf("it starts: got %q, %v, asked %d times", raw, err, asked.Load())
	}
	addr, asked = hangsUp(t, 2)
	if _, err = ask(t.Context(), http.MethodPost, atPage(addr), home, "/api/transactions", []byte("{}")); err == nil || asked.Load() != 1 {
		t.Errorf("a submission: got %v, asked %d times", err, asked.Load())
	}
}

// Nobody listens: the words say where, what to do, and show nothing of the inside.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := atPage(l.Addr().String())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dead := exec.CommandContext(t.Context(), "true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	other := exec.CommandContext(t.Context(), "sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	})
	home := t.TempDir()
	for name, c := range map[string]struct {
		pid  int
		hint string
	}{
		"none":           {0, "is it running? start it with `commonwatt run --home " + home + "`"},
		"of one that is": {os.Getpid(), fmt.Sprintf("process %d seems to be it", os.Getpid())},
		"of the dead":    {dead.Process.Pid, "is it running?"},
		"of another":     {other.Process.Pid, "is it running?"},
	} {
		if c.pid != 0 {
			writePID(t, home, c.pid)
		}
		_, err := fetch(t.Context(), cfg, home, "/api/status", 100)
		err = unanswered(cfg, home, err)
		p := (*problem)(nil)
		want := "asking the agent of home: nothing answers at http://" + cfg.Listen.API
		if !errors.As(err, &p) || p.Error() != want || !strings.HasPrefix(p.hint, c.hint) {
			t.Errorf("%s: got %v, %+v", name, err, p)
		}
		if err := os.Remove(filepath.Join(home, household.PIDFile)); err != nil && c.pid != 0 {
			t.Error(err)
		}
	}
}
