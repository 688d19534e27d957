package p2p_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/commonwatt/commonwatt/p2p"
)

// childEnv makes the test binary a host of its own: seed, listen address, bootstrap.
const childEnv = "P2P_TEST_CHILD"

func TestMain(m *testing.M) {
	if args := os.Getenv(childEnv); args != "" {
		if err := child(strings.Fields(args)); err != nil {
			slog.Error("child", "err", err)
			os.Exit(1)
		}
		return
	}
	if settings := os.Getenv(networkEnv); settings != "" {
		if err := networkHome(settings); err != nil {
			slog.Error("home", "err", err)
			os.Exit(1)
		}
		return
	}
	if settings := os.Getenv(namesEnv); settings != "" {
		if err := serveNames(settings); err != nil {
			slog.Error("names", "err", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// child publishes a numbered message every 20 ms and prints what it is sent, until it is
// killed.
func child(args []string) error {
	seed, err := hex.DecodeString(args[0])
	if err != nil {
		return err
	}
	h, err := p2p.New(p2p.Config{
		Key: ed25519.NewKeyFromSeed(seed), Listen: args[1:2], Bootstrap: args[2:],
		Member: func(ed25519.PublicKey) bool { return true },
	})
	if err != nil {
		return err
	}
	tp, err := h.Join("orders", 1024, acceptAll, func(_ p2p.PeerID, data []byte) { fmt.Printf("got %s\n", data) })
	if err != nil {
		return err
	}
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		now := <-tick.C
		if err := tp.Publish(context.Background(), fmt.Appendf(nil, "child %d %d", os.Getpid(), now.UnixNano())); err != nil {
			return err
		}
	}
}

// TestKilledPeer: a peer that is killed without a goodbye and restarted is heard, and
// hears, soon; over QUIC, nothing tells the survivor of the death.
func TestKilledPeer(t *testing.T) {
	for name, format := range map[string]string{"tcp": "/ip4/127.0.0.1/tcp/%d", "quic": "/ip4/127.0.0.1/udp/%d/quic-v1"} {
		t.Run(name, func(t *testing.T) { testKilledPeer(t, format) })
	}
}

func testKilledPeer(t *testing.T, format string) {
	t.Helper()
	key, other := newKey(t), newKey(t)
	members := newCommunity(key, other)
	listen := fixed(t, other, format)
	id, err := p2p.IDOf(other.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	h := start(t, p2p.Config{
		Key: key, Listen: []string{strings.ReplaceAll(format, "%d", "0")}, Member: members.has,
		Bootstrap: []string{listen[0] + "/p2p/" + string(id)},
	})
	var box inbox
	tp := join(t, h, "orders", acceptAll, &box)
	const rounds = 4
	for round := range rounds {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+hex.EncodeToString(other.Seed())+" "+listen[0]+" "+h.Addrs()[0])
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		heard := make(chan struct{})
		go func() {
			defer close(heard)
			for lines := bufio.NewScanner(out); lines.Scan(); {
				if strings.HasPrefix(lines.Text(), fmt.Sprintf("got hello %d ", round)) {
					return
				}
			}
		}()
		mine := fmt.Sprintf("child %d ", cmd.Process.Pid)
		eventually(t, "the child is heard", func() bool { return box.hasPrefix(mine) })
		t.Logf("round %d: child heard after %v", round, time.Since(begin))
		n := 0
		eventually(t, "the child hears", func() bool {
			n++
			if err := tp.Publish(t.Context(), fmt.Appendf(nil, "hello %d %d", round, n)); err != nil {
				t.Fatal(err)
			}
			select {
			case <-heard:
				return true
			default:
				return false
			}
		})
		t.Logf("round %d: child hears after %v", round, time.Since(begin))
		if round == rounds-2 {
			// The last time, the connection that dies has lasted. See supersede.
			eventually(t, "the connection is old", func() bool {
				p := h.Peers()
				return len(p) == 1 && time.Since(p[0].Since) > 6*time.Second
			})
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		receive(t, "the child's output ends", heard)
	}
}
