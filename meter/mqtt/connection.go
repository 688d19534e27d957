package mqtt

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// connection is the network connection under one paho client, kept so that it can be cut from outside.
type connection struct {
	mu   sync.Mutex
	conn net.Conn // guarded by mu
}

func (l *connection) dial(ctx context.Context, s *Subscriber, host string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, fmt.Errorf("dialling broker: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
	return newLimited(conn, s.config.MaxPayload+packetOverhead, func(size int) {
		s.dropped.Add(1)
		s.config.Log.WarnContext(ctx, "mqtt message too large", "broker", s.config.Address, "bytes", size, "limit", s.config.MaxPayload)
	}), nil
}

func (l *connection) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		_ = l.conn.Close() // mostly closed already
	}
}
