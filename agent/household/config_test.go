package household

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// whole is a configuration as a person would write it.
const whole = `name: "Number 1"
role: validator
listen:
  api: 127.0.0.1:8600
  network:
    - /ip4/0.0.0.0/tcp/8602
peers:
  bootstrap:
    - /ip4/192.168.1.20/tcp/8602/p2p/12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8
  mdns: true
meters:
  - role: connection
    definition: eastron-sdm630
    address: tcp://192.168.1.20:502
    unit: 1
  - role: solar
    definition: tasmota
    address: mqtt://192.168.1.10:1883/roof
log: info
`

// A mistake is named with file, line, key, and what is allowed.
func TestConfigErrors(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), ConfigFile)
	for name, c := range map[string]struct{ old, new, want string }{
		"nothing wrong":              {"", "", ""},
		"typo at the top":            {"role: validator", "rolle: validator", ":2: rolle: unknown key, want one of name, role, access, listen, peers, meters, controls, definitions, log, clock, readings_days, join, retention"},
		"typo in a section":          {"  network:", "  networks:", ":5: listen.networks: unknown key, want one of api, network, hosts, tls, operations, port_mapping"},
		"typo in a list":             {"    unit: 1", "    units: 1", ":15: meters[0].units: unknown key, want one of role, definition, address, unit, username, password_file, ca_file, cert_file, key_file, server_name"},
		"no name":                    {`name: "Number 1"`, `name: ""`, `:1: name: got "", want 1 to 50 printable characters`},
		"long name":                  {"Number 1", strings.Repeat("é", 51), `:1: name: got "` + strings.Repeat("é", 51) + `", want 1 to 50 printable characters`},
		"name with a bell":           {"Number 1", `Number\a`, `:1: name: got "Number\a", want 1 to 50 printable characters`},
		"wrong role":                 {"role: validator", "role: king", `:2: role: got "king", want validator, replica or light`},
		"wrong join":                 {"role: validator", "role: validator\njoin: fast", `:3: join: got "fast", want auto, snapshot or genesis`},
		"retention in weeks":         {"role: validator", "role: validator\nretention: 4w", `:3: retention: got "4w", want all, or days such as 400d, 1d to 36500d`},
		"no role":                    {"role: validator\n", "", `: role: got "", want validator, replica or light`},
		"no port":                    {"127.0.0.1:8600", "127.0.0.1", `:4: listen.api: got "127.0.0.1", want host:port with a port from 0 (any) to 65535, such as 127.0.0.1:8600`},
		"port too high":              {"127.0.0.1:8600", "127.0.0.1:86010", `:4: listen.api: got "127.0.0.1:86010", want host:port with a port from 0 (any) to 65535, such as 127.0.0.1:8600`},
		"port by name":               {"127.0.0.1:8600", "127.0.0.1:http", `:4: listen.api: got "127.0.0.1:http", want host:port with a port from 0 (any) to 65535, such as 127.0.0.1:8600`},
		"network is no multiaddr":    {"/ip4/0.0.0.0/tcp/8602\n", "0.0.0.0:8602\n", `:6: listen.network[0]: got "0.0.0.0:8602", want a multiaddr such as /ip4/0.0.0.0/tcp/8602`},
		"no network":                 {"network:\n    - /ip4/0.0.0.0/tcp/8602\n", "network: []\n", ":5: listen.network: got 0 multiaddrs, want 1 to 64, such as /ip4/0.0.0.0/tcp/8602"},
		"a host that is none":        {"  network:", "  hosts: [\"a b\"]\n  network:", `:5: listen.hosts[0]: got "a b", want a host name such as house.local`},
		"a key of old, the engine's": {"  network:", "  engine: 127.0.0.1:8601\n  network:", ":5: listen.engine: is no key any more: the ledger's engine uses listen.network; remove it"},
		"a key of old, gossip":       {"  network:", "  gossip:", ":5: listen.gossip: is called listen.network now"},
		"peers of old, the engine's": {"  bootstrap:", "  engine: []\n  bootstrap:", ":8: peers.engine: is no key any more: the ledger's engine reaches the homes of peers.bootstrap; remove it"},
		"peers of old, gossip":       {"  bootstrap:", "  gossip:", ":8: peers.gossip: is called peers.bootstrap now"},
		"peer without id":            {"/p2p/12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8", "", `:9: peers.bootstrap[0]: got "/ip4/192.168.1.20/tcp/8602", want a multiaddr with the peer's id, such as /ip4/192.168.1.20/tcp/8602/p2p/12D3Koo...`},
		"wrong role of a meter":      {"role: solar", "role: wind", `:16: meters[1].role: got "wind", want connection, solar or battery`},
		"no role of a meter":         {"role: solar\n    definition", "definition", `:16: meters[1].role: got "", want connection, solar or battery`},
		"two connections":            {"role: solar", "role: connection", ":12: meters: got 2 meters of role connection, want exactly 1: it is the one that is settled"},
		"no connection":              {"role: connection", "role: battery", ":12: meters: got 0 meters of role connection, want exactly 1: it is the one that is settled"},
		"no definition":              {"definition: tasmota", `definition: ""`, ":17: meters[1].definition: got \"\", want one that `commonwatt meter list` shows"},
		"no address":                 {"    address: mqtt://192.168.1.10:1883/roof\n", "", `:16: meters[1].address: got "", want an address such as tcp://HOST:PORT or mqtt://HOST:PORT/TOPIC, see ` + "`commonwatt meter read --help`" + ``},
		"unit is no number":          {"unit: 1", "unit: one", ":15: "},
		"unit too high":              {"unit: 1", "unit: 256", ":15: "},
		"a word where a list goes":   {"network:\n    - /ip4/0.0.0.0/tcp/8602\n", "network: here\n", ":5: "},
		"wrong level":                {"log: info", "log: loud", `:19: log: got "loud", want debug, info, warn or error`},
		"the same key twice":         {"log: info", "log: info\nlog: warn", ":20: "},
		"no YAML":                    {"listen:", "listen: [", ":7: "},
		"an alias":                   {"role: validator", "role: &r validator", ":2: role: anchors, aliases and tags are not allowed, want the value itself"},
		"a second document":          {"log: info", "---\nlog: info", ":20: a second document begins here, want one"},
		"empty":                      {whole, "", `: name: got "", want 1 to 50 printable characters`},
		"a list":                     {whole, "- a\n", ":1: "},
	} {
		text := strings.Replace(whole, c.old, c.new, 1)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadConfig(path)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		ce := (*ConfigError)(nil)
		if !errors.As(err, &ce) || ce.File != path {
			t.Errorf("%s: got %v, want a ConfigError about %s", name, err, path)
			continue
		}
		got := strings.TrimPrefix(err.Error(), path)
		if got != c.want && (!strings.HasSuffix(c.want, ": ") || !strings.HasPrefix(got, c.want)) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.want)
		}
	}
}

func TestConfigUnreadable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, ConfigFile)
	if _, err := LoadConfig(path); err == nil || err.Error() != path+": cannot be read: no such file or directory" {
		t.Errorf("no file: got %v", err)
	}
	if _, err := LoadConfig(dir); err == nil || err.Error() != dir+": cannot be read: is a directory" {
		t.Errorf("a folder: got %v", err)
	}
	if err := os.WriteFile(path, make([]byte, maxConfigBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadConfig(path); err == nil || !strings.Contains(err.Error(), "has 1048577 bytes, want at most 1048576") {
		t.Errorf("too large: got %v", err)
	}
}

// What only package meter knows is an error of the same form, with the line.
func TestMeterConfigErrors(t *testing.T) {
	t.Parallel()
	tw := found(t, townOptions{start: dawn, now: (&clock{now: dawn}).Now})
	for name, c := range map[string]struct {
		change func(m *MeterConfig)
		want   string
	}{
		"unknown definition": {func(m *MeterConfig) { m.Definition = "eastron-sdm631" }, `meters[1].definition: got "eastron-sdm631", want one of the `},
		"wrong protocol":     {func(m *MeterConfig) { m.Address = "mqtt://127.0.0.1:1883/x" }, `meters[1].address: got "mqtt://127.0.0.1:1883/x", want an address beginning with tcp://`},
		"port out of range":  {func(m *MeterConfig) { m.Address = "tcp://127.0.0.1:99999" }, `meters[1].address: got "tcp://127.0.0.1:99999", want a host and a port from 1 to 65535`},
		"impossible unit":    {func(m *MeterConfig) { m.Unit = 250 }, `meters[1].unit: got "250", want 1 to 247`},
	} {
		cfg := config("eastron-sdm630", nowhere)
		cfg.Meters = append(cfg.Meters, MeterConfig{Role: RoleSolar, Definition: "eastron-sdm630", Address: nowhere, Unit: 2})
		c.change(&cfg.Meters[1])
		if err := WriteConfig(tw.dirs[0], cfg); err != nil {
			t.Fatal(err)
		}
		read, err := LoadConfig(filepath.Join(tw.dirs[0], ConfigFile))
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(tw.options(0, read))
		path := filepath.Join(tw.dirs[0], ConfigFile)
		raw, rerr := os.ReadFile(path)
		if rerr != nil {
			t.Fatal(rerr)
		}
		ce := (*ConfigError)(nil)
		if !errors.As(err, &ce) {
			t.Errorf("%s: got %v, want a *ConfigError", name, err)
			continue
		}
		want := fmt.Sprintf("%s:%d: %s", path, ce.Line, c.want)
		_, key, _ := strings.Cut(ce.Key, ".")
		if lines := strings.Split(string(raw), "\n"); !strings.HasPrefix(err.Error(), want) || !strings.Contains(lines[max(ce.Line, 1)-1], key+":") {
			t.Errorf("%s:\n got %v\nwant %s, on the line of %s", name, err, want, key)
		}
	}
}

// What WriteConfig writes, LoadConfig reads back the same, whatever is in it; what LoadConfig
// would refuse is not written.
func TestConfigRoundTrip(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// Most are right, if odd: there are so many fields that one wrong in three would leave nothing to be written.
	odd := rapid.SampledFrom([]string{
		"yes", "null", "~", "1", "1e3", "0x1f", "a:b", "a#b", "-a", "{a}", "[a]", "&a", "*a", "!a", "|", ">", "%a", "`a", `"`, `\`, "'", "é", "{{.}}",
	})
	nasty := rapid.OneOf(odd, odd, odd, odd, odd, odd, rapid.String(), rapid.SampledFrom([]string{"", "a: b", "a #b", "- a", "@a", "\u2028", "\x00", "a\nb", "\xff"}))
	list := func(t *rapid.T, name string, g *rapid.Generator[string]) []string {
		return rapid.SliceOfN(g, 0, 3).Draw(t, name)
	}
	written := 0
	access := rapid.SampledFrom([]string{"", "a: b", "# c", `"d`, "'e", "- f"})
	rapid.Check(t, func(t *rapid.T) {
		c := Config{
			Name: nasty.Draw(t, "name"), Role: rapid.SampledFrom([]string{"validator", "replica"}).Draw(t, "role"),
			Listen: ListenConfig{
				API:     rapid.SampledFrom([]string{"127.0.0.1:8600", ":8601", "[::1]:1", "a:1"}).Draw(t, "api"),
				Network: append([]string{"/ip4/0.0.0.0/tcp/1"}, list(t, "network", rapid.Map(nasty, func(s string) string { return "/" + s }))...),
				Hosts:   list(t, "hosts", nasty),
			},
			Peers: PeersConfig{
				Bootstrap: list(t, "peers", rapid.Map(nasty, func(s string) string { return "/" + s + "/p2p/x" })),
				MDNS:      rapid.Bool().Draw(t, "mdns"),
			},
			Meters: []MeterConfig{{Role: RoleConnection, Definition: nasty.Draw(t, "definition"), Address: nasty.Draw(t, "address"), Unit: rapid.Uint8().Draw(t, "unit"), Username: access.Draw(t, "username"), PasswordFile: access.Draw(t, "password_file"), ServerName: access.Draw(t, "server_name")}},
			Log:    rapid.SampledFrom([]string{"", "debug", "info", "warn", "error"}).Draw(t, "log"),
			Clock:  rapid.SampledFrom([]string{"", "system", "trusted", "system", "sundial"}).Draw(t, "clock"), ReadingsDays: rapid.IntRange(-1, 3700).Draw(t, "days"),
		}
		c.Access = rapid.SampledFrom([]string{"", AccessClaimed, AccessOpen}).Draw(t, "access")
		c.Join = rapid.SampledFrom([]string{"", JoinAuto, "snapshot", "genesis"}).Draw(t, "join")
		c.Retention = rapid.SampledFrom([]string{"", RetentionAll, "60d", "36500d"}).Draw(t, "retention")
		c.Listen.TLS = rapid.SampledFrom([]string{"", TLSAuto, TLSOn}).Draw(t, "tls")
		c.Listen.Operations = rapid.SampledFrom([]string{"", "127.0.0.1:0", "[::1]:8603", "localhost:1"}).Draw(t, "operations")
		if err := WriteConfig(dir, c); err != nil {
			if ce := (*ConfigError)(nil); !errors.As(err, &ce) || c.validate() == nil {
				t.Fatalf("writing %+v: %v", c, err)
			}
			return
		}
		written++
		got, err := LoadConfig(filepath.Join(dir, ConfigFile))
		if err != nil {
			t.Fatalf("reading back %+v: %v", c, err)
		}
		if c.Log == "" {
			c.Log = "info"
		}
		if c.Clock == "" {
			c.Clock = ClockSystem
		}
		if c.Access == "" {
			c.Access = AccessClaimed
		}
		if c.Listen.TLS == "" {
			c.Listen.TLS = TLSAuto
		}
		if c.ReadingsDays == 0 {
			c.ReadingsDays = defaultReadingsDays
		}
		if c.Join == "" {
			c.Join = JoinAuto
		}
		if c.Retention == "" {
			c.Retention = RetentionAll
		}
		if diff := cmp.Diff(plain(c), plain(got)); diff != "" {
			t.Fatal(diff)
		}
	})
	t.Logf("%d written", written)
	if written == 0 {
		t.Fatal("no configuration was good enough to be written")
	}
	if info, err := os.Stat(filepath.Join(dir, ConfigFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info, err)
	}
}

// FuzzConfig: whatever the file is, the answer is a Config that can be right, or a
// *ConfigError with a line of the file.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(whole))
	for _, text := range []string{
		"", "- a", "a: *b", "a: &b [*b]", "<<: {a: b}", "? [a]\n: b", "!!str a: b", "name: !!binary aGk=", "meters: {role: a}", "---\n---\n", "name: |\n  a", "\xff", "{", "a:\n\t- b", "listen: {api: {api: {}}}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 4096 {
			return
		}
		c, err := parseConfig("agent.yaml", raw)
		if err == nil {
			if err := c.validate(); err != nil {
				t.Fatalf("accepted, but %v", err)
			}
			return
		}
		ce := (*ConfigError)(nil)
		if !errors.As(err, &ce) || ce.File != "agent.yaml" || ce.Text == "" || ce.Line < 0 || ce.Line > strings.Count(string(raw), "\n")+strings.Count(string(raw), "\r")+2 {
			t.Fatalf("got %#v", err)
		}
	})
}
