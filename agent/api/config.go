package api

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/commonwatt/commonwatt/agent/access"
)

// ErrConfig is wrapped by every error of New that a change of the configuration cures.
var ErrConfig = errors.New("api configuration")

// A Provider holds the home's state. All methods are called from many goroutines.
type Provider interface {
	// Snapshot returns a consistent copy and does not block on I/O. The caller
	// may keep it; nobody changes what it points to.
	Snapshot() Snapshot

	// Subscribe returns a channel of capacity 1 that gets a value, without
	// blocking the sender, whenever Snapshot would return something new. It is
	// not closed by the Provider. cancel releases it and may be called twice.
	Subscribe() (changes <-chan struct{}, cancel func())

	// AppHash returns the hex hash of the ledger's state after the block at
	// height; ok is false if this agent does not have it.
	AppHash(height int64) (hash string, ok bool)
}

// Config is what New needs. Listen or Listener, Provider and Log are required,
// every other field has a default.
type Config struct {
	Listen   string       // host:port; port 0 chooses one
	Listener net.Listener // instead of Listen; the Server closes it

	Provider Provider
	Network  Network        // nil: /api/grid knows the newest interval only, and no transactions are taken
	Bills    Bills          // nil: /api/bill has none
	Readings Readings       // nil: none are kept
	Controls Controls       // nil: nothing is led
	Meters   Meters         // nil: nothing is known of registrations, and nothing is approved
	Office   Office         // nil: nothing is known of members and rules
	Access   *access.Keeper // who may see and do what
	Open     bool           // instead of Access: everybody who reaches the page, for demonstrations on this machine
	// Certificate puts the page inside TLS. Nil: it is in clear, and reached from this machine only.
	Certificate *access.Certificate

	Log     *slog.Logger
	Version string // of the agent, shown on the page and in OpenAPI

	// Hosts are the names besides localhost and the listen address under which
	// the page may be called, without port. Any other Host header is refused,
	// so that a web site cannot reach the agent by pointing its name here.
	Hosts []string

	// Operations is host:port on loopback for /metrics and /debug/pprof, and /livez and /readyz
	// once more. Empty: off.
	Operations string

	// Registry is shown at /metrics after this package's own
	// metrics (commonwatt_home_*, commonwatt_ledger_*, commonwatt_meter_*,
	// commonwatt_api_*, commonwatt_build_info). Nil: only those.
	Registry prometheus.Gatherer

	// Location is the time zone the page shows times in. Nil: time.Local.
	Location *time.Location

	MaxStreams   int           // open event streams; default 64
	StreamGap    time.Duration // shortest time between two events of a stream; default 500 ms
	Heartbeat    time.Duration // longest silence of a stream; default 15 s
	WriteTimeout time.Duration // for one event to a stream; default 5 s
}

// Defaults of Config.
const (
	defaultMaxStreams   = 64
	defaultStreamGap    = 500 * time.Millisecond
	defaultHeartbeat    = 15 * time.Second
	defaultWriteTimeout = 5 * time.Second
)

// withDefaults returns a copy with every field set, or says what is wrong.
func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Provider == nil:
		return c, fmt.Errorf("%w: Provider is nil, it must be set", ErrConfig)
	case c.Log == nil:
		return c, fmt.Errorf("%w: Log is nil, it must be set", ErrConfig)
	case c.Listen == "" && c.Listener == nil:
		return c, fmt.Errorf("%w: neither Listen nor Listener is set, got nothing to listen on", ErrConfig)
	case c.Listen != "" && c.Listener != nil:
		return c, fmt.Errorf("%w: both Listen and Listener are set, expected one of them", ErrConfig)
	case (c.Access == nil) != c.Open:
		return c, fmt.Errorf("%w: want either Access or Open", ErrConfig)
	case c.Operations != "" && !loopbackAddress(c.Operations):
		return c, fmt.Errorf("%w: Operations: got %q, want host:port on this machine alone", ErrConfig, c.Operations)
	case c.MaxStreams < 0 || c.StreamGap < 0 || c.Heartbeat < 0 || c.WriteTimeout < 0:
		return c, fmt.Errorf("%w: a limit or a duration is negative, expected 0 (the default) or more", ErrConfig)
	}
	hosts := make([]string, len(c.Hosts))
	for i, h := range c.Hosts {
		if hosts[i] = normalHost(h); !validHost(hosts[i]) {
			return c, fmt.Errorf("%w: host %q is not a host name, expected one like house.local, without scheme, port or path", ErrConfig, h)
		}
	}
	c.Hosts = hosts
	c.Location = cmp.Or(c.Location, time.Local)
	c.MaxStreams = cmp.Or(c.MaxStreams, defaultMaxStreams)
	c.StreamGap = cmp.Or(c.StreamGap, defaultStreamGap)
	c.Heartbeat = cmp.Or(c.Heartbeat, defaultHeartbeat)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, defaultWriteTimeout)
	return c, nil
}

// loopbackAddress says whether host:port is of this machine alone.
func loopbackAddress(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}
