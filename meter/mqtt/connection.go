package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
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
	if s.config.TLS != nil {
		if conn, err = l.secure(ctx, s.config, conn); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn = conn
	return newLimited(conn, s.config.MaxPayload+packetOverhead, func(size int) {
		s.dropped.Add(1)
		s.config.Log.Log(ctx, s.level(slog.LevelWarn), "mqtt message too large", "broker", s.config.Address, "bytes", size, "limit", s.config.MaxPayload)
	}), nil
}

// secure makes the connection one of TLS, and the handshake at once: what is wrong with a certificate is said here.
func (l *connection) secure(ctx context.Context, c Config, conn net.Conn) (net.Conn, error) {
	t := c.TLS.Clone()
	if t.ServerName == "" {
		host, _, err := net.SplitHostPort(c.Address)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("broker address: %w", err), conn.Close())
		}
		t.ServerName = host
	}
	secured := tls.Client(conn, t)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // it is given up
		return nil, fmt.Errorf("TLS with broker: %w", err)
	}
	return secured, nil
}

func (l *connection) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		_ = l.conn.Close() // mostly closed already
	}
}
