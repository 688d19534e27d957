package mqtt

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// The sharp edges of the library, one by one, and that none of them cuts.

// TestM1 (handlers that wait stop the client): many messages at once, while nobody takes any, neither stop the
// connection nor lose the last of them.
func TestM1(t *testing.T) {
	t.Parallel()
	server, address := newBroker(t)
	s := Open(config(address))
	defer s.Close()
	eventually(t, "connected", s.Connected)
	const n = 20 * queueLength
	for i := range n {
		if err := server.Publish("a", fmt.Appendf(nil, "%d", i), false, 0); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all but a queue full dropped", func() bool { return s.Dropped() == n-queueLength })
	if !s.Connected() {
		t.Error("the connection was lost")
	}
	for i := n - queueLength; i < n; i++ {
		if m := <-s.Messages(); string(m.Payload) != fmt.Sprint(i) {
			t.Fatalf("got %s, expected %d", m.Payload, i)
		}
	}
}

// TestM2M4 (subscriptions are forgotten when a broker restarts; waiting for a broker that is not there blocks): Open
// returns at once, and the subscriptions stand once the broker is there, and again after it was away.
func TestM2M4(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	s := Open(config(address))
	defer s.Close()
	eventually(t, "missed", func() bool { return s.Err() != nil })
	for _, life := range []string{"first", "second"} {
		t.Run(life, func(t *testing.T) { // the broker lives as long as this
			server, _ := brokerWith(t, listeners.Config{ID: "tcp", Address: address})
			eventually(t, "connected", s.Connected)
			if err := server.Publish("a", []byte("here"), false, 0); err != nil {
				t.Fatal(err)
			}
			if m := <-s.Messages(); string(m.Payload) != "here" {
				t.Errorf("got %q", m.Payload)
			}
		})
		eventually(t, "missed", func() bool { return !s.Connected() })
	}
	if s.Err() == nil {
		t.Error("nothing is said of the broker that is away")
	}
}

// TestM3 (IsConnected is true while there is no connection): what we call connected is a subscription that the broker
// has confirmed, on a connection that stands.
func TestM3(t *testing.T) {
	t.Parallel()
	address, connections := scripted(t, map[byte][]byte{1: {0x20, 2, 0, 0}}) // confirms the client, not the topics
	s := Open(config(address))
	defer s.Close()
	eventually(t, "dialled", func() bool { return connections() > 0 })
	if s.Connected() {
		t.Error("counts as connected")
	}
}

// TestM5 (two clients of one id throw each other off for ever): they do so less and less often, and say why. Ids that are
// made up differ.
func TestM5(t *testing.T) {
	t.Parallel()
	_, address := newBroker(t)
	c := config(address)
	c.ClientID = "twin"
	one, two := Open(c), Open(c)
	defer two.Close()
	defer one.Close()
	says := func(s *Subscriber) bool {
		return s.Err() != nil && strings.Contains(s.Err().Error(), "another client may have the id twin")
	}
	eventually(t, "said", func() bool { return says(one) || says(two) })
	a, b := Open(config(address)), Open(config(address))
	defer a.Close()
	defer b.Close()
	if a.config.ClientID == b.config.ClientID || a.config.ClientID == "" {
		t.Errorf("ids %q and %q", a.config.ClientID, b.config.ClientID)
	}
}

// TestM6 (what a broker kept is told apart by a flag only): the flag arrives with the message, and only with what was
// kept.
func TestM6(t *testing.T) {
	t.Parallel()
	server, address := newBroker(t)
	if err := server.Publish("a", []byte("old"), true, 0); err != nil {
		t.Fatal(err)
	}
	s := Open(config(address))
	defer s.Close()
	if m := <-s.Messages(); string(m.Payload) != "old" || !m.Retained {
		t.Errorf("got %+v", m)
	}
	eventually(t, "connected", s.Connected)
	if err := server.Publish("a", []byte("new"), true, 0); err != nil {
		t.Fatal(err)
	}
	if m := <-s.Messages(); string(m.Payload) != "new" || m.Retained {
		t.Errorf("got %+v", m)
	}
}

// TestM7 (overlapping filters bring a message twice): a topic that is named twice is subscribed to once. A device that
// publishes a message twice is heard twice, in order.
func TestM7(t *testing.T) {
	t.Parallel()
	server, address := newBroker(t)
	c := config(address)
	c.Topics = []string{"a", "a", "b", "a"}
	s := Open(c)
	defer s.Close()
	eventually(t, "connected", s.Connected)
	for _, payload := range []string{"1", "2", "2", "3"} {
		if err := server.Publish("a", []byte(payload), false, 0); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for range 4 {
		m := <-s.Messages()
		got = append(got, string(m.Payload))
	}
	if !slices.Equal(got, []string{"1", "2", "2", "3"}) || len(s.Messages()) != 0 {
		t.Errorf("got %q and %d more", got, len(s.Messages()))
	}
}

// TestTLSTooLarge: the bound on messages holds within TLS too.
func TestTLSTooLarge(t *testing.T) {
	t.Parallel()
	server, address, trust := newTLSBroker(t)
	c := config(address)
	c.TLS = trust
	s := Open(c)
	defer s.Close()
	eventually(t, "connected", s.Connected)
	for _, size := range []int{1 << 20, 1000} {
		if err := server.Publish("b", bytes.Repeat([]byte{'x'}, size), false, 0); err != nil {
			t.Fatal(err)
		}
	}
	if m := <-s.Messages(); len(m.Payload) != 1000 || s.Dropped() != 1 {
		t.Errorf("got %d bytes, dropped %d", len(m.Payload), s.Dropped())
	}
	c.TLS = nil
	plain := Open(c)
	defer plain.Close()
	eventually(t, "refused", func() bool { return plain.Err() != nil })
}

// TestTLSSilent: a server that never answers the handshake does not hold up Close.
func TestTLSSilent(t *testing.T) {
	t.Parallel()
	address, connections := scripted(t, nil)
	_, _, trust := newTLSBroker(t)
	c := config(address)
	c.TLS = trust
	s := Open(c)
	eventually(t, "dialled", func() bool { return connections() > 0 })
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("Close waits")
	}
}

// newTLSBroker is newBroker behind TLS, with a certificate for 127.0.0.1 and what is needed to trust it.
func newTLSBroker(t *testing.T) (*broker.Server, string, *tls.Config) {
	t.Helper()
	web := httptest.NewTLSServer(nil) // for its certificate only
	defer web.Close()
	pool := x509.NewCertPool()
	pool.AddCert(web.Certificate())
	server, address := brokerWith(t, listeners.Config{ID: "tls", Address: "127.0.0.1:0", TLSConfig: &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}})
	return server, address, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// TestQuiet: a broker that is away fills no log.
func TestQuiet(t *testing.T) {
	t.Parallel()
	var lines bytes.Buffer
	c := config("127.0.0.1:1")
	c.Log = slog.New(slog.NewTextHandler(&lines, nil))
	s := Open(c)
	first := func() bool { return s.Err() != nil }
	eventually(t, "tried", first)
	s.failure.Store(nil)
	eventually(t, "tried again", first)
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(lines.String(), "\n"); n != 1 {
		t.Errorf("%d lines, expected 1:\n%s", n, lines.String())
	}
}
