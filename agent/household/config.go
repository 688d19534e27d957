package household

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Config is agent.yaml: what is particular to this gateway. What the community
// decided is in its genesis document, not here.
type Config struct {
	Name     string          `yaml:"name"`
	Role     string          `yaml:"role"`   // validator, replica or light
	Access   string          `yaml:"access"` // claimed or open; empty is claimed
	Listen   ListenConfig    `yaml:"listen"`
	Peers    PeersConfig     `yaml:"peers"`
	Meters   []MeterConfig   `yaml:"meters"`
	Controls []ControlConfig `yaml:"controls"` // what this home leads; may be left out
	// Definitions is a folder with device definitions of one's own, from the home's folder on.
	Definitions string `yaml:"definitions"`
	Log         string `yaml:"log"`   // debug, info, warn, error
	Clock       string `yaml:"clock"` // system or trusted; empty is system
	// ReadingsDays is how long readings are kept; 0 is the default.
	ReadingsDays int `yaml:"readings_days"`
	// Join and Retention are how a home without a ledger begins, and how long it keeps blocks
	// and lines; see JoinMode and KeptFor.
	Join      string `yaml:"join"`
	Retention string `yaml:"retention"`
}

// ListenConfig names the ports of this agent.
type ListenConfig struct {
	API     string   `yaml:"api"`     // host:port of the page and the JSON API
	Network []string `yaml:"network"` // libp2p multiaddrs
	Hosts   []string `yaml:"hosts"`   // further host names under which the page is reached

	TLS         string `yaml:"tls"`          // of the page: auto or on; empty is auto
	Operations  string `yaml:"operations"`   // host:port on loopback for metrics and profiles; empty: off
	PortMapping bool   `yaml:"port_mapping"` // ask the router (UPnP, NAT-PMP) to let other homes in
}

// PeersConfig names whom to call first.
type PeersConfig struct {
	Bootstrap []string `yaml:"bootstrap"` // multiaddrs with /p2p/ID
	MDNS      bool     `yaml:"mdns"`      // find homes on the local network
}

// The roles of homes: what each of them does for the ledger.
const (
	RoleValidator = "validator"
	RoleReplica   = "replica"
	RoleLight     = "light"
)

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
	raw, err := readConfig(path)
	if err != nil {
		return Config{}, err
	}
	return parseConfig(path, raw)
}

// readConfig reads a file that a person writes, and not more of it than one could write.
func readConfig(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if info.Size() > maxConfigBytes {
		return nil, &ConfigError{File: path, Text: fmt.Sprintf("has %d bytes, want at most %d", info.Size(), maxConfigBytes)}
	}
	raw, err := os.ReadFile(path) //nolint:gosec // the path is the person's own
	if err != nil {
		return nil, unreadable(path, err)
	}
	return raw, nil
}

func unreadable(path string, err error) *ConfigError {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err // its text has the path once more
	}
	return &ConfigError{File: path, Text: "cannot be read: " + err.Error()}
}

func parseConfig(path string, raw []byte) (Config, error) {
	var c Config
	file, err := parser.ParseBytes(raw, 0)
	if err != nil {
		return c, yamlError(path, err)
	}
	if len(file.Docs) > 1 {
		return c, &ConfigError{File: path, Line: line(file.Docs[1].Body), Text: "a second document begins here, want one"}
	}
	for _, doc := range file.Docs {
		if err := checkKeys(doc.Body, reflect.TypeOf(c), "", 0); err != nil {
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
	if y := yaml.Error(nil); errors.As(err, &y) {
		e.Text = y.GetMessage()
		if t := y.GetToken(); t != nil && t.Position != nil {
			e.Line = t.Position.Line
		}
	}
	return e
}

// maxDepth is how deep a configuration nests at most; a valid one has 3 levels.
const maxDepth = 8

// checkKeys finds the first key that the struct does not have, so that the answer
// can name what it might have been. Anchors and aliases have no place in so small a
// file, and one can blow up another.
func checkKeys(n ast.Node, t reflect.Type, path string, depth int) *ConfigError {
	if depth > maxDepth {
		return &ConfigError{Line: line(n), Key: path, Text: fmt.Sprintf("nested deeper than %d levels", maxDepth)}
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		for _, v := range n.Values {
			if err := checkKey(v, t, path, depth); err != nil {
				return err
			}
		}
	case *ast.MappingValueNode:
		return checkKey(n, t, path, depth)
	case *ast.SequenceNode:
		if t.Kind() != reflect.Slice {
			return nil // the decoder says what type is wanted
		}
		for i, v := range n.Values {
			if err := checkKeys(v, t.Elem(), fmt.Sprintf("%s[%d]", path, i), depth+1); err != nil {
				return err
			}
		}
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.MergeKeyNode:
		return &ConfigError{Line: line(n), Key: path, Text: "anchors, aliases and tags are not allowed, want the value itself"}
	}
	return nil
}

// renamed are keys that there were once.
var renamed = map[string]string{
	"listen.gossip": "is called listen.network now",
	"listen.engine": "is no key any more: the ledger's engine uses listen.network; remove it",
	"peers.gossip":  "is called peers.bootstrap now",
	"peers.engine":  "is no key any more: the ledger's engine reaches the homes of peers.bootstrap; remove it",
}

func checkKey(v *ast.MappingValueNode, t reflect.Type, path string, depth int) *ConfigError {
	if t.Kind() != reflect.Struct {
		return nil
	}
	key := ""
	if token := v.Key.GetToken(); token != nil {
		key = token.Value
	}
	var allowed []string
	for f := range t.Fields() {
		name := f.Tag.Get("yaml")
		if name == key {
			return checkKeys(v.Value, f.Type, join(path, key), depth+1)
		}
		allowed = append(allowed, name)
	}
	if text, ok := renamed[join(path, key)]; ok {
		return &ConfigError{Line: line(v.Key), Key: join(path, key), Text: text}
	}
	return &ConfigError{
		Line: line(v.Key), Key: join(path, key),
		Text: "unknown key, want one of " + strings.Join(allowed, ", "),
	}
}

// line is where a node begins; 0 if it does not know.
func line(n ast.Node) int {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 0
	}
	return n.GetToken().Position.Line
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// lineOf finds the line of a key given as "meters[1].role"; that of what it should be
// in if it is not there, and 0 if there is nothing at all.
func lineOf(f *ast.File, key string) int {
	for key != "" {
		if p, err := yaml.PathString("$." + key); err == nil {
			if n, err := p.FilterFile(f); err == nil && n != nil {
				return line(n)
			}
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return 0
}

// locate gives an error about the configuration in dir its file and line.
func (e *ConfigError) locate(dir string) *ConfigError {
	e.File = filepath.Join(dir, ConfigFile)
	if raw, err := os.ReadFile(e.File); err == nil {
		if f, err := parser.ParseBytes(raw, 0); err == nil {
			e.Line = lineOf(f, e.Key)
		}
	}
	return e
}
