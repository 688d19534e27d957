package household

import (
	"strings"
	"testing"
)

// Who may see the page, and where, is refused in words where it would be unsafe.
func TestConfigAccess(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		access, api, tls, operations string
		want                         string // empty: all is well
	}{
		"nothing said":             {"", "0.0.0.0:8600", "", "", ""},
		"claimed, everywhere":      {"claimed", "[::]:8600", "auto", "", ""},
		"open, here":               {"open", "127.0.0.1:8600", "", "", ""},
		"open, here by IPv6":       {"open", "[::1]:8600", "on", "[::1]:0", ""},
		"open, by name":            {"open", "localhost:8600", "", "localhost:1", ""},
		"open to the house":        {"open", "192.168.1.5:8600", "", "", "access: got open while listen.api is 192.168.1.5:8600, want claimed, or listen.api on this machine alone, such as 127.0.0.1:8600"},
		"open everywhere":          {"open", ":8600", "", "", "access: got open while listen.api is :8600, want claimed, or listen.api on this machine alone, such as 127.0.0.1:8600"},
		"open by a lookalike":      {"open", "127.0.0.1.example:8600", "", "", "access: got open while listen.api is 127.0.0.1.example:8600, want claimed, or listen.api on this machine alone, such as 127.0.0.1:8600"},
		"a word of one's own":      {"public", "127.0.0.1:8600", "", "", `access: got "public", want claimed or open`},
		"no TLS":                   {"", "0.0.0.0:8600", "off", "", `listen.tls: got "off", want auto or on`},
		"operations for the house": {"", "127.0.0.1:8600", "", "192.168.1.5:8603", `listen.operations: got "192.168.1.5:8603", want host:port on this machine alone, such as 127.0.0.1:8603, or nothing`},
		"operations everywhere":    {"", "127.0.0.1:8600", "", ":8603", `listen.operations: got ":8603", want host:port on this machine alone, such as 127.0.0.1:8603, or nothing`},
		"operations without port":  {"", "127.0.0.1:8600", "", "127.0.0.1", `listen.operations: got "127.0.0.1", want host:port on this machine alone, such as 127.0.0.1:8603, or nothing`},
	} {
		cfg, err := parseConfig("agent.yaml", []byte(whole))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Access, cfg.Listen.API, cfg.Listen.TLS, cfg.Listen.Operations = c.access, c.api, c.tls, c.operations
		got := ""
		if err := cfg.validate(); err != nil {
			got = strings.TrimPrefix(err.Error(), ": ")
		}
		if got != c.want {
			t.Errorf("%s:\n got %q\nwant %q", name, got, c.want)
		}
	}
}

func TestPageURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ api, tls, want string }{
		{"127.0.0.1:8600", "", "http://127.0.0.1:8600"},
		{"localhost:8600", "auto", "http://localhost:8600"},
		{"[::1]:8600", "auto", "http://[::1]:8600"},
		{"127.0.0.1:8600", "on", "https://127.0.0.1:8600"},
		{"192.168.1.5:8600", "", "https://192.168.1.5:8600"},
		{"0.0.0.0:8600", "", "https://127.0.0.1:8600"},
		{":8600", "", "https://127.0.0.1:8600"},
		{"[::]:8600", "", "https://[::1]:8600"},
		{"house.local:8600", "", "https://house.local:8600"},
	} {
		l := ListenConfig{API: c.api, TLS: c.tls}
		if got := l.PageURL(c.api); got != c.want {
			t.Errorf("%s, tls %q: got %s, want %s", c.api, c.tls, got, c.want)
		}
	}
}

func TestMayBeOpen(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"demo-1": true, "sim-street": true, "street": false, "demo": false, "my-demo-1": false, "": false} {
		if MayBeOpen(name) != want {
			t.Errorf("%q: got %v, want %v", name, !want, want)
		}
	}
}
