package meter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/meter/def"
	"github.com/commonwatt/commonwatt/meter/httpjson"
	"github.com/commonwatt/commonwatt/meter/modbus"
)

// Definition describes one kind of meter; package def has the details.
type Definition = def.Definition

// Definitions returns the built-in definitions and those of a directory, which override them by id. The directory may
// be empty.
func Definitions(dir string) ([]Definition, error) { return def.Load(dir) }

// FindDefinition returns one definition by id. An unknown id is a *ConfigError that names those most like it.
func FindDefinition(dir, id string) (Definition, error) {
	d, ids, err := def.Find(dir, id)
	if errors.Is(err, def.ErrNotFound) {
		return Definition{}, &ConfigError{Field: "definition", Got: id, Want: fmt.Sprintf("one of the %d that `commonwatt meter list` shows, such as %s", len(ids), strings.Join(nearest(id, ids, 3), ", "))}
	}
	return d, err
}

// Config says which meter to open.
type Config struct {
	// Definition is the id of a device definition, DefinitionsDir a directory of one's own; may be empty.
	Definition     string
	DefinitionsDir string
	// Address is tcp://HOST:PORT for Modbus; mqtt://HOST:PORT/TOPIC or mqtts://… for MQTT, where TOPIC is the device
	// ("kitchen") or one of its topics in full ("tele/kitchen/SENSOR"); http://HOST or https://HOST for devices that
	// are asked; p1:///dev/ttyUSB0?baud=115200, p1+tcp://HOST:PORT or p1+file:PATH for P1 ports.
	Address string
	// Unit is the Modbus unit; 0 means the one that the definition says, mostly 1.
	Unit uint8
	// Timeout bounds one request, or the wait for a message; 0 means 3 s for Modbus, 5 s for HTTP, and as long as the
	// context for what speaks by itself.
	Timeout time.Duration
	// Now is the clock of the samples; nil means time.Now.
	Now func() time.Time
	// Log receives what happens to connections; nil means nobody.
	Log *slog.Logger
	// Username and Password are for a broker or a web server, ClientID for a broker; a made-up one is used if it is
	// empty.
	ClientID, Username, Password string
	// TLS is for addresses that ask for it.
	TLS TLS
	// Pool shares one connection among all meters behind one host:port; nil means one for this meter alone.
	Pool *modbus.Pool
	// HTTPPool does the same for web servers.
	HTTPPool *httpjson.Pool
}

// Open opens a meter. It does not wait for the device or the broker: the first Read does. A mistake in the Config is a
// *ConfigError.
func Open(_ context.Context, c Config) (Source, error) {
	d, err := FindDefinition(c.DefinitionsDir, c.Definition)
	if err != nil {
		return nil, err
	}
	c = c.withDefaults()
	if c.Timeout < 0 {
		return nil, &ConfigError{Field: "timeout", Got: c.Timeout.String(), Want: "0 or more"}
	}
	s, a, err := parseAddress(c.Address, d)
	if err != nil {
		return nil, err
	}
	return s.open(c, d, a) //nolint:contextcheck // a source lives until Close, not as long as the call that opened it
}

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}
