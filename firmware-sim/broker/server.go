package broker

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// Limits of the embedded broker: a street with ample room, not a public service.
const (
	maxClients    = 4096
	maxPacketSize = 64 << 10
	maxQueue      = 1024 // messages that wait for one slow subscriber
)

// Server is an MQTT 3.1.1 and 5 broker that lets everybody in. It keeps
// nothing when it ends.
type Server struct {
	listener net.Listener
	broker   *mochi.Server
}

// NewServer makes a broker on a listener, which it owns from then on.
func NewServer(listener net.Listener, log *slog.Logger) (*Server, error) {
	capabilities := mochi.NewDefaultServerCapabilities()
	capabilities.MaximumClients = maxClients
	capabilities.MaximumPacketSize = maxPacketSize
	capabilities.MaximumClientWritesPending = maxQueue
	b := mochi.New(&mochi.Options{Capabilities: capabilities, Logger: log})
	if err := b.AddHook(new(auth.AllowHook), nil); err != nil {
		return nil, fmt.Errorf("setting the broker up: %w", err)
	}
	if err := b.AddListener(listeners.NewNet("mqtt", listener)); err != nil {
		return nil, fmt.Errorf("setting the broker up: %w", err)
	}
	return &Server{listener: listener, broker: b}, nil
}

// Serve runs the broker until the context ends.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.broker.Serve(); err != nil {
		return fmt.Errorf("serving mqtt: %w", err)
	}
	<-ctx.Done()
	if err := s.broker.Close(); err != nil {
		return fmt.Errorf("closing the broker: %w", err)
	}
	return nil
}
