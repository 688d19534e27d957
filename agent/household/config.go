package household

import (
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Config is agent.yaml: what is particular to this gateway. What the community
// decided is in its genesis document, not here.
type Config struct {
	Name   string        `yaml:"name"`
	Role   string        `yaml:"role"` // validator or replica
	Listen ListenConfig  `yaml:"listen"`
	Peers  PeersConfig   `yaml:"peers"`
	Meters []MeterConfig `yaml:"meters"`
	Log    string        `yaml:"log"` // debug, info, warn, error
}

// ListenConfig names the ports of this agent.
type ListenConfig struct {
	API    string   `yaml:"api"`    // host:port of the page and the JSON API
	Engine string   `yaml:"engine"` // host:port of the consensus engine
	Gossip []string `yaml:"gossip"` // libp2p multiaddrs
	Hosts  []string `yaml:"hosts"`  // further host names under which the page is reached
}

// PeersConfig names whom to call first.
type PeersConfig struct {
	Engine []string `yaml:"engine"` // id@host:port
	Gossip []string `yaml:"gossip"` // multiaddrs with /p2p/ID
	MDNS   bool     `yaml:"mdns"`   // find homes on the local network
}

// MeterConfig is one device to read.
type MeterConfig struct {
	Role       string `yaml:"role"`       // connection, solar or battery
	Definition string `yaml:"definition"` // see `commonwatt meter read --help`
	Address    string `yaml:"address"`    // tcp://HOST:PORT or mqtt://HOST:PORT/TOPIC
	Unit       uint8  `yaml:"unit"`       // Modbus unit id
}

// The roles of meters. The connection's is the one that is settled.
const (
	RoleConnection = "connection"
	RoleSolar      = "solar"
	RoleBattery    = "battery"
)

const maxConfigBytes = 1 << 20

// ConfigError is a mistake in a configuration file, for a person to mend.
type ConfigError struct {
	File string
	Line int // 0: the file as a whole
	Key  string
	Text string // what was got and what is allowed
}

// Error reads "agent.yaml:7: listen.ap: unknown key, want one of api, ...".
func (e *ConfigError) Error() string {
	where := e.File
	if e.Line > 0 {
		where = fmt.Sprintf("%s:%d", e.File, e.Line)
	}
	if e.Key != "" {
		where += ": " + e.Key
	}
	return where + ": " + e.Text
}

// LoadConfig reads agent.yaml strictly. Errors are *ConfigError.
func LoadConfig(path string) (Config, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Config{}, &ConfigError{File: path, Text: "cannot be read: " + errors.Unwrap(err).Error()}
	}
	if info.Size() > maxConfigBytes {
		return Config{}, &ConfigError{File: path, Text: fmt.Sprintf("has %d bytes, want at most %d", info.Size(), maxConfigBytes)}
	}
	raw, err := os.ReadFile(path) //nolint:gosec // the path is the person's own
	if err != nil {
		return Config{}, &ConfigError{File: path, Text: err.Error()}
	}
	return parseConfig(path, raw)
}

func parseConfig(path string, raw []byte) (Config, error) {
	var c Config
	file, err := parser.ParseBytes(raw, 0)
	if err != nil {
		return c, yamlError(path, err)
	}
	for _, doc := range file.Docs {
		if err := checkKeys(doc.Body, reflect.TypeOf(c), ""); err != nil {
			err.File = path
			return c, err
		}
	}
	if err := yaml.UnmarshalWithOptions(raw, &c, yaml.Strict()); err != nil {
		return c, yamlError(path, err)
	}
	if err := c.validate(); err != nil {
		err.File, err.Line = path, lineOf(file, err.Key)
		return c, err
	}
	return c, nil
}

func yamlError(path string, err error) *ConfigError {
	e := &ConfigError{File: path, Text: err.Error()}
	if y := (yaml.Error)(nil); errors.As(err, &y) {
		e.Text = y.GetMessage()
		if t := y.GetToken(); t != nil && t.Position != nil {
			e.Line = t.Position.Line
		}
	}
	return e
}

// checkKeys finds the first key that the struct does not have, so that the answer
// can name what it might have been.
func checkKeys(n ast.Node, t reflect.Type, path string) *ConfigError {
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			if err := checkKey(v, t, path); err != nil {
				return err
			}
		}
	case *ast.MappingValueNode:
		return checkKey(n, t, path)
	case *ast.SequenceNode:
		if t.Kind() != reflect.Slice {
			return nil // the decoder says what type is wanted
		}
		for i, v := range n.Values {
			if err := checkKeys(v, t.Elem(), fmt.Sprintf("%s[%d]", path, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkKey(v *ast.MappingValueNode, t reflect.Type, path string) *ConfigError {
	if t.Kind() != reflect.Struct {
		return nil
	}
	key := v.Key.GetToken().Value
	var allowed []string
	for i := range t.NumField() {
		name := t.Field(i).Tag.Get("yaml")
		if name == key {
			return checkKeys(v.Value, t.Field(i).Type, join(path, key))
		}
		allowed = append(allowed, name)
	}
	return &ConfigError{
		Line: v.Key.GetToken().Position.Line, Key: join(path, key),
		Text: "unknown key, want one of " + strings.Join(allowed, ", "),
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// lineOf finds the line of a key given as "meters[1].role"; 0 if it is not there.
func lineOf(f *ast.File, key string) int {
	p, err := yaml.PathString("$." + key)
	if err != nil {
		return 0
	}
	n, err := p.FilterFile(f)
	if err != nil || n == nil {
		return 0
	}
	return n.GetToken().Position.Line
}

func (c *Config) validate() *ConfigError {
	bad := func(key, format string, args ...any) *ConfigError {
		return &ConfigError{Key: key, Text: fmt.Sprintf(format, args...)}
	}
	if c.Name == "" || len(c.Name) > 50 {
		return bad("name", "got %q, want 1 to 50 characters", c.Name)
	}
	if c.Role != "validator" && c.Role != "replica" {
		return bad("role", "got %q, want validator or replica", c.Role)
	}
	if !slices.Contains([]string{"", "debug", "info", "warn", "error"}, c.Log) {
		return bad("log", "got %q, want debug, info, warn or error", c.Log)
	}
	for key, addr := range map[string]string{"listen.api": c.Listen.API, "listen.engine": c.Listen.Engine} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return bad(key, "got %q, want host:port, such as 127.0.0.1:8600", addr)
		}
	}
	if len(c.Listen.Gossip) == 0 {
		return bad("listen.gossip", "want at least one multiaddr, such as /ip4/0.0.0.0/tcp/8602")
	}
	connections := 0
	for i, m := range c.Meters {
		if !slices.Contains([]string{RoleConnection, RoleSolar, RoleBattery}, m.Role) {
			return bad(fmt.Sprintf("meters[%d].role", i), "got %q, want connection, solar or battery", m.Role)
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
