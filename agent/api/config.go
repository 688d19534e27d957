package api

import (
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
	Log      *slog.Logger
	Version  string // of the agent, shown on the page and in OpenAPI

	// Hosts are the names besides localhost and the listen address under which
	// the page may be called, without port. Any other Host header is refused,
	// so that a web site cannot reach the agent by pointing its name here.
	Hosts []string

	// Registry is shown at /metrics, to loopback only, after this package's own
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
