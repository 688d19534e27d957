package mqtt

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(address string) Config {
	return Config{Address: address, Topics: []string{"a", "b"}, MaxPayload: 1000, Now: time.Now}
}

// newBroker starts a broker within the process, where a test can see who subscribed.
func newBroker(t *testing.T) (*broker.Server, string) {
	t.Helper()
	return brokerWith(t, listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
}

func brokerWith(t *testing.T, c listeners.Config) (*broker.Server, string) {
	t.Helper()
	s := broker.New(&broker.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	if err := s.AddHook(new(auth.AllowHook), nil); err != nil {
		t.Fatal(err)
	}
	l := listeners.NewTCP(c)
	if err := s.AddListener(l); err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, l.Address()
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

// TestOrderAndOverflow: messages come in order, and when nobody takes them the oldest go.
func TestOrderAndOverflow(t *testing.T) {
	server, address := newBroker(t)
	s := Open(config(address))
	defer s.Close()
	eventually(t, "connected", s.Connected)
	const n = 3 * queueLength
	for i := range n {
		if err := server.Publish("a", fmt.Appendf(nil, "%d", i), false, 0); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all but a queue full dropped", func() bool { return s.Dropped() == n-queueLength })
	for i := n - queueLength; i < n; i++ {
		if m := <-s.Messages(); string(m.Payload) != fmt.Sprint(i) || m.Topic != "a" || m.Retained || m.At.IsZero() {
			t.Fatalf("got %+v, expected %d", m, i)
		}
	}
}

// TestLargeMessages: a message above the limit is thrown away, whether paho saw it or not, and the next one comes.
func TestLargeMessages(t *testing.T) {
	server, address := newBroker(t)
	s := Open(config(address))
	defer s.Close()
	eventually(t, "connected", s.Connected)
	for _, size := range []int{1001, 1 << 20, 1000} {
		if err := server.Publish("b", make([]byte, size), false, 0); err != nil {
			t.Fatal(err)
		}
	}
	if m := <-s.Messages(); len(m.Payload) != 1000 {
		t.Errorf("got %d bytes, expected 1000", len(m.Payload))
	}
	if n := s.Dropped(); n != 2 {
		t.Errorf("dropped: got %d, expected 2", n)
	}
}

// TestThrownOff: a client that the broker throws off comes back and subscribes again.
func TestThrownOff(t *testing.T) {
	t.Parallel()
	server, address := newBroker(t)
	c := config(address)
	c.ClientID = "meter-1"
	s := Open(c)
	defer s.Close()
	eventually(t, "connected", s.Connected)
	client, ok := server.Clients.Get("meter-1")
	if !ok {
		t.Fatal("the broker does not know the client")
	}
	client.Stop(io.EOF)
	eventually(t, "missed", func() bool { return !s.Connected() })
	eventually(t, "connected again", s.Connected)
	if err := server.Publish("a", []byte("again"), false, 0); err != nil {
		t.Fatal(err)
	}
	if m := <-s.Messages(); string(m.Payload) != "again" {
		t.Errorf("got %q", m.Payload)
	}
}

// scripted is a broker that answers each packet by type and counts the connections.
func scripted(t *testing.T, answer map[byte][]byte) (string, func() int) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			done.Go(func() {
				defer conn.Close()
				for {
					var head [2]byte // all packets that we send here are under 128 bytes
					if _, err := io.ReadFull(conn, head[:]); err != nil {
						return
					}
					if _, err := io.CopyN(io.Discard, conn, int64(head[1])); err != nil {
						return
					}
					if _, err := conn.Write(answer[head[0]>>4]); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		done.Wait()
	})
	return listener.Addr().String(), func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(conns)
	}
}

// TestStubbornBrokers: a broker that refuses the topics, refuses the client, talks nonsense or says nothing is never
// taken for connected, is asked again, and does not hold up Close.
func TestStubbornBrokers(t *testing.T) {
	t.Parallel()
	connack := []byte{0x20, 2, 0, 0}
	for name, c := range map[string]struct {
		answer map[byte][]byte
		again  bool
	}{
		"refuses a topic":      {map[byte][]byte{1: connack, 8: {0x90, 4, 0, 1, 0, 0x80}}, true},
		"refuses the password": {map[byte][]byte{1: {0x20, 2, 0, 4}}, true},
		"talks nonsense":       {map[byte][]byte{1: []byte("HTTP/1.1 400 Bad Request\r\n\r\n")}, true},
		"says nothing":         {nil, false},
		"never confirms":       {map[byte][]byte{1: connack}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, connections := scripted(t, c.answer)
			s := Open(config(address))
			want := 1
			if c.again {
				want = 2
			}
			eventually(t, "asked often enough", func() bool { return connections() >= want })
			if s.Connected() {
				t.Error("counts as connected")
			}
			begin := time.Now()
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if took := time.Since(begin); took > 3*time.Second {
				t.Errorf("Close took %v", took)
			}
		})
	}
}
