package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/wire"
)

// Limits of the embedded broker: a street with ample room, not a public service.
const (
	maxClients    = 4096
	maxPacketSize = 64 << 10
	maxQueue      = 1024 // messages that wait for one slow subscriber
)

// Open opens one of the broker's listeners, anew after each absence, on the same
// address.
type Open func(ctx context.Context) (net.Listener, error)

// Login is what clients have to say; the zero value lets everybody in.
type Login struct{ User, Password string }

// Server is an MQTT 3.1.1 and 5 broker. It keeps nothing when it ends, and can be
// away for a time.
type Server struct {
	open  []Open
	login Login
	log   *slog.Logger

	mu     sync.Mutex
	broker *mochi.Server // nil: away
}

// NewServer makes a broker on listeners that are open, which it owns from then
// on; open opens them again.
func NewServer(listening []net.Listener, open []Open, login Login, log *slog.Logger) (*Server, error) {
	s := &Server{open: open, login: login, log: log}
	if err := s.begin(listening); err != nil {
		return nil, err
	}
	return s, nil
}

// begin needs s.mu, or that nobody knows of s.
func (s *Server) begin(listening []net.Listener) error {
	capabilities := mochi.NewDefaultServerCapabilities()
	capabilities.MaximumClients = maxClients
	capabilities.MaximumPacketSize = maxPacketSize
	capabilities.MaximumClientWritesPending = maxQueue
	b := mochi.New(&mochi.Options{Capabilities: capabilities, Logger: s.log})
	var err error
	if s.login == (Login{}) {
		err = b.AddHook(new(auth.AllowHook), nil)
	} else {
		err = b.AddHook(new(auth.Hook), &auth.Options{Ledger: &auth.Ledger{Auth: auth.AuthRules{
			{Username: auth.RString(s.login.User), Password: auth.RString(s.login.Password), Allow: true},
		}}})
	}
	for i, l := range listening {
		if err == nil {
			err = b.AddListener(listeners.NewNet(fmt.Sprintf("mqtt-%d", i), l))
		}
	}
	if err == nil {
		err = b.Serve()
	}
	if err != nil {
		return fmt.Errorf("setting the broker up: %w", err)
	}
	s.broker = b
	return nil
}

// Serve keeps the broker until the context ends.
func (s *Server) Serve(ctx context.Context) error {
	<-ctx.Done()
	return s.Away()
}

// Away ends the broker for a time: connections break, sessions and retained
// messages are forgotten.
func (s *Server) Away() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broker == nil {
		return nil
	}
	b := s.broker
	s.broker = nil
	if err := b.Close(); err != nil {
		return fmt.Errorf("closing the broker: %w", err)
	}
	return nil
}

// Back starts it again on the same addresses.
func (s *Server) Back(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broker != nil {
		return nil
	}
	var listening []net.Listener
	for _, open := range s.open {
		l, err := reopen(ctx, open)
		if err != nil {
			for _, l := range listening {
				_ = l.Close()
			}
			return fmt.Errorf("opening the broker again: %w", err)
		}
		listening = append(listening, l)
	}
	return s.begin(listening)
}

// reopen waits for an address that something took meanwhile.
func reopen(ctx context.Context, open Open) (net.Listener, error) {
	const tries, between = 100, 50 * time.Millisecond
	for try := 1; ; try++ {
		l, err := open(ctx)
		if err == nil || try == tries || !errors.Is(err, syscall.EADDRINUSE) {
			return l, err
		}
		if err := wire.Pause(ctx, between); err != nil {
			return nil, err
		}
	}
}

// Keep has the broker keep a message for those who subscribe from now on, without
// telling those who have; without a payload it forgets what it kept.
func (s *Server) Keep(m device.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broker == nil {
		return
	}
	s.broker.Topics.RetainMessage(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Retain: true, Qos: m.QoS},
		TopicName:   m.Topic, Payload: m.Payload, Created: time.Now().Unix(), Origin: "firmware-sim",
	})
}
