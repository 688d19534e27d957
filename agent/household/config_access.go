package household

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// How the page is reached.
const (
	AccessClaimed = "claimed" // by those who log in
	AccessOpen    = "open"    // by everybody on this machine

	TLSAuto = "auto" // inside TLS where it listens beyond this machine
	TLSOn   = "on"   // always inside TLS
)

func (c *Config) validateAccess() *ConfigError {
	if !slices.Contains([]string{"", AccessClaimed, AccessOpen}, c.Access) {
		return bad("access", "got %q, want claimed or open", c.Access)
	}
	if c.Access == AccessOpen && !onLoopback(c.Listen.API) {
		return bad("access", "got open while listen.api is %s, want claimed, or listen.api on this machine alone, such as 127.0.0.1:8600", c.Listen.API)
	}
	if !slices.Contains([]string{"", TLSAuto, TLSOn}, c.Listen.TLS) {
		return bad("listen.tls", "got %q, want auto or on", c.Listen.TLS)
	}
	if o := c.Listen.Operations; o != "" && (!isHostPort(o, 0) || !onLoopback(o)) {
		return bad("listen.operations", "got %q, want host:port on this machine alone, such as 127.0.0.1:8603, or nothing", o)
	}
	return nil
}

// MayBeOpen says whether a community's page may be shown without a login: those of a
// demonstration, where nobody lives.
func MayBeOpen(community string) bool {
	return strings.HasPrefix(community, "demo-") || strings.HasPrefix(community, "sim-")
}

// UsesTLS says whether the page is served inside TLS.
func (l *ListenConfig) UsesTLS() bool { return l.TLS == TLSOn || !onLoopback(l.API) }

// PageURL is where this machine reaches the page that listens at an address: an address of all
// interfaces is no destination.
func (l *ListenConfig) PageURL(address string) string {
	scheme := "http://"
	if l.UsesTLS() {
		scheme = "https://"
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return scheme + address
	}
	switch addr, err := netip.ParseAddr(host); {
	case host == "", err == nil && addr == netip.IPv4Unspecified():
		host = "127.0.0.1"
	case err == nil && addr == netip.IPv6Unspecified():
		host = "::1"
	}
	return scheme + net.JoinHostPort(host, port)
}

// onLoopback says whether an address is this machine's alone.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}
