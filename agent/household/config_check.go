package household

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxName   = 50 // characters
	maxMeters = 32
	maxPeers  = 64
	maxAccess = 1000 // bytes of a name or a path

	maxReadingsDays     = 3660
	defaultReadingsDays = 400
)

// bad is an error about one key.
func bad(key, format string, args ...any) *ConfigError {
	return &ConfigError{Key: key, Text: fmt.Sprintf(format, args...)}
}

// validate finds the first value that cannot be right, in the order of the file.
func (c *Config) validate() *ConfigError {
	if n := utf8.RuneCountInString(c.Name); n == 0 || n > maxName || !printable(c.Name) {
		return bad("name", "got %q, want 1 to %d printable characters", c.Name, maxName)
	}
	if !slices.Contains([]string{RoleValidator, RoleReplica, RoleLight}, c.Role) {
		return bad("role", "got %q, want validator, replica or light", c.Role)
	}
	for _, check := range []func() *ConfigError{c.validateListen, c.validateAccess, c.validatePeers, c.validateMeters, c.validateControls, c.validateKept} {
		if err := check(); err != nil {
			return err
		}
	}
	if !slices.Contains([]string{"", "debug", "info", "warn", "error"}, c.Log) {
		return bad("log", "got %q, want debug, info, warn or error", c.Log)
	}
	if !slices.Contains([]string{"", ClockSystem, ClockTrusted}, c.Clock) {
		return bad("clock", "got %q, want system or trusted", c.Clock)
	}
	if c.ReadingsDays < 0 || c.ReadingsDays > maxReadingsDays {
		return bad("readings_days", "got %d, want 1 to %d, or 0 for %d", c.ReadingsDays, maxReadingsDays, defaultReadingsDays)
	}
	return nil
}

func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

func (c *Config) validateListen() *ConfigError {
	l := &c.Listen
	if !isHostPort(l.API, 0) {
		return bad("listen.api", "got %q, want host:port with a port from 0 (any) to 65535, such as 127.0.0.1:8600", l.API)
	}
	if len(l.Network) == 0 || len(l.Network) > maxPeers {
		return bad("listen.network", "got %d multiaddrs, want 1 to %d, such as /ip4/0.0.0.0/tcp/8602", len(l.Network), maxPeers)
	}
	for i, a := range l.Network {
		if !isMultiaddr(a) {
			return bad(fmt.Sprintf("listen.network[%d]", i), "got %q, want a multiaddr such as /ip4/0.0.0.0/tcp/8602", a)
		}
	}
	for i, name := range l.Hosts {
		if name == "" || !printable(name) || strings.ContainsAny(name, " /@") {
			return bad(fmt.Sprintf("listen.hosts[%d]", i), "got %q, want a host name such as house.local", name)
		}
	}
	return nil
}

func (c *Config) validatePeers() *ConfigError {
	p := &c.Peers
	if n := len(p.Bootstrap); n > maxPeers {
		return bad("peers.bootstrap", "got %d, want at most %d", n, maxPeers)
	}
	for i, peer := range p.Bootstrap {
		if !isMultiaddr(peer) || !strings.Contains(peer, "/p2p/") {
			return bad(fmt.Sprintf("peers.bootstrap[%d]", i), "got %q, want a multiaddr with the peer's id, such as /ip4/192.168.1.20/tcp/8602/p2p/12D3Koo...", peer)
		}
	}
	return nil
}

func (c *Config) validateMeters() *ConfigError {
	if len(c.Meters) > maxMeters {
		return bad("meters", "got %d, want at most %d", len(c.Meters), maxMeters)
	}
	connections := 0
	for i, m := range c.Meters {
		key := fmt.Sprintf("meters[%d].", i)
		if !slices.Contains([]string{RoleConnection, RoleSolar, RoleBattery}, m.Role) {
			return bad(key+"role", "got %q, want connection, solar or battery", m.Role)
		}
		if m.Definition == "" || !printable(m.Definition) {
			return bad(key+"definition", "got %q, want one that `commonwatt meter list` shows", m.Definition)
		}
		if m.Address == "" || !printable(m.Address) {
			return bad(key+"address", "got %q, want an address such as tcp://HOST:PORT or mqtt://HOST:PORT/TOPIC, see `commonwatt meter read --help`", m.Address)
		}
		for name, text := range map[string]string{
			"username": m.Username, "password_file": m.PasswordFile, "ca_file": m.CAFile, "cert_file": m.CertFile, "key_file": m.KeyFile, "server_name": m.ServerName,
		} {
			if len(text) > maxAccess || !printable(text) {
				return bad(key+name, "got %.80q, want at most %d printable characters", text, maxAccess)
			}
		}
		if m.Role == RoleConnection {
			connections++
		}
	}
	if connections != 1 {
		return bad("meters", "got %d meters of role connection, want exactly 1: it is the one that is settled", connections)
	}
	return nil
}

// isHostPort wants host:port; without a host it is every address of this machine.
func isHostPort(text string, lowest uint64) bool {
	host, port, err := net.SplitHostPort(text)
	n, bad := strconv.ParseUint(port, 10, 16)
	return err == nil && bad == nil && n >= lowest && printable(host) && !strings.ContainsAny(host, " /@")
}

// isMultiaddr looks at the outline only: the network room knows the protocols.
func isMultiaddr(text string) bool {
	return strings.HasPrefix(text, "/") && printable(text) && !strings.Contains(text, " ")
}
