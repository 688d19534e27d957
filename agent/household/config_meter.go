package household

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/commonwatt/commonwatt/meter"
)

// MeterConfig is one device to read.
type MeterConfig struct {
	Role       string `yaml:"role"`       // connection, solar or battery
	Definition string `yaml:"definition"` // see `commonwatt meter list`
	Address    string `yaml:"address"`    // see `commonwatt meter read --help`
	Unit       uint8  `yaml:"unit"`       // Modbus unit id

	// What a broker, a web server or a gateway wants to be shown. Files are named from the
	// home's folder on.
	Username     string `yaml:"username"`
	PasswordFile string `yaml:"password_file"`
	CAFile       string `yaml:"ca_file"`     // whom to trust instead of the system's authorities
	CertFile     string `yaml:"cert_file"`   // the client's certificate and its key
	KeyFile      string `yaml:"key_file"`    //
	ServerName   string `yaml:"server_name"` // of the certificate, if it is not that of the address
}

// maxPassword bounds a password file.
const maxPassword = 4 << 10

// ReadPassword reads the first line of a file that only its owner can read.
func ReadPassword(path string) (string, error) {
	f, err := os.Open(path) //nolint:gosec // the person named it
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return "", fmt.Errorf("others can read it (mode %04o): make it yours alone with `chmod 600 %s`", mode, path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxPassword+1))
	if err != nil {
		return "", err
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	line = strings.TrimSuffix(line, "\r")
	if line == "" || len(raw) > maxPassword {
		return "", fmt.Errorf("got %d bytes, want a password on the first line", len(raw))
	}
	return line, nil
}

// own is a path from the home's folder on.
func (h *Home) own(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(h.opt.Dir, path)
}

// access is what the i-th meter is opened with besides its address.
func (h *Home) access(i int) (c meter.Config, err error) {
	m := h.opt.Config.Meters[i]
	own := h.own
	c = meter.Config{
		Definition: m.Definition, DefinitionsDir: own(h.opt.Config.Definitions), Address: m.Address, Unit: m.Unit, Username: m.Username,
		TLS: meter.TLS{CAFile: own(m.CAFile), CertFile: own(m.CertFile), KeyFile: own(m.KeyFile), ServerName: m.ServerName},
	}
	if m.PasswordFile != "" {
		if c.Password, err = ReadPassword(own(m.PasswordFile)); err != nil {
			return c, bad(fmt.Sprintf("meters[%d].password_file", i), "%v", err).locate(h.opt.Dir)
		}
	}
	return c, nil
}

// meterError gives a mistake in the configuration of the i-th meter its place in the file.
func (h *Home) meterError(i int, err error) error {
	ce := (*meter.ConfigError)(nil)
	if !errors.As(err, &ce) {
		return err
	}
	key := map[string]string{"tls.ca_file": "ca_file", "tls.cert_file": "cert_file", "tls.key_file": "key_file", "tls.server_name": "server_name"}[ce.Field]
	return bad(fmt.Sprintf("meters[%d].%s", i, cmp.Or(key, ce.Field)), "got %q, want %s", ce.Got, ce.Want).locate(h.opt.Dir)
}
