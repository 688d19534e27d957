package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/def"
)

func newMeter(s streams) *cobra.Command {
	c := &cobra.Command{
		Use: "meter", Short: "Find, read and replace meters, and check their definitions",
		Long: `Sets up the meters of a home: which kinds there are (list), what is at an address
(detect), what a meter says and where (read), and whether a definition of one's own is
right (check). None of these needs a running agent or a home's folder. What the meters
of a home told is in its history.`,
	}
	c.AddCommand(newMeterList(s), newMeterDetect(s), newMeterRead(s), newMeterCheck(s), newMeterReplace(s), newMeterApprove(s), newMeterHistory(s))
	return c
}

// meterAccess are the settings by which a device is reached; read and detect share them.
type meterAccess struct {
	address, dir, username, password, passwordFile string
	ca, cert, key, serverName                      string
	timeout                                        time.Duration
}

func (a *meterAccess) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.address, "address", "", "where the device is, in one of the forms above")
	f.StringVar(&a.dir, "definitions", "", "folder with device definitions of your own")
	f.StringVar(&a.username, "username", "", "for a broker or a web server")
	f.StringVar(&a.password, "password", "", "for a broker or a web server; others can see it in the list of processes")
	f.StringVar(&a.passwordFile, "password-file", "", "file with the password")
	f.StringVar(&a.ca, "ca", "", "PEM file with the certificates that may sign the server's")
	f.StringVar(&a.cert, "cert", "", "PEM file with our own certificate, where the server asks for one")
	f.StringVar(&a.key, "key", "", "PEM file with the key of --cert")
	f.StringVar(&a.serverName, "server-name", "", "name in the server's certificate, where it is not that in the address")
}

// misplaced names a setting that the address has no use for: whoever gives a certificate believes that the line is
// encrypted, and must not find out later that it is not.
func (a *meterAccess) misplaced() error {
	scheme, _, _ := strings.Cut(a.address, "://")
	secured := slices.Contains([]string{"tcp+tls", "mqtts", "https"}, scheme)
	login := slices.Contains([]string{"mqtt", "mqtts", "http", "https"}, scheme)
	for _, f := range []struct {
		name, got, wanted string
		fits              bool
	}{
		{"--ca", a.ca, "an address with TLS (tcp+tls, mqtts or https)", secured},
		{"--cert", a.cert, "an address with TLS (tcp+tls, mqtts or https)", secured},
		{"--key", a.key, "an address with TLS (tcp+tls, mqtts or https)", secured},
		{"--server-name", a.serverName, "an address with TLS (tcp+tls, mqtts or https)", secured},
		{"--username", a.username, "the address of a broker or a web server", login},
	} {
		if f.got != "" && !f.fits {
			return usagef("%s: got %q for %s, want %s", f.name, f.got, a.address, f.wanted)
		}
	}
	return nil
}

// requestTimeout bounds one request on a line whose telegrams have no number: there the first request waits as long as
// two others may take, since somebody may have asked just before us, and all of them have to fit into the whole time.
// 0 is the usual bound.
func requestTimeout(address string, whole time.Duration) time.Duration {
	const requests, usual, usualSocket = 4, time.Second, 3 * time.Second
	switch {
	case strings.HasPrefix(address, "rtu://") && whole < (requests+1)*usual,
		strings.HasPrefix(address, "rtu+tcp://") && whole < (requests+1)*usualSocket:
		return whole / requests
	}
	return 0
}

// addressForms are the addresses that a device may have, for the help of a command.
func addressForms() string {
	return "An address is one of\n  " + strings.Join(meter.Examples(), "\n  ")
}

// config checks what belongs together and reads the password.
func (a *meterAccess) config() (meter.Config, error) {
	c := meter.Config{
		Address: a.address, DefinitionsDir: a.dir, Username: a.username, Password: a.password,
		TLS: meter.TLS{CAFile: a.ca, CertFile: a.cert, KeyFile: a.key, ServerName: a.serverName},
	}
	if err := a.misplaced(); err != nil {
		return meter.Config{}, err
	}
	if a.passwordFile != "" {
		if a.password != "" {
			return meter.Config{}, usagef("--password and --password-file: got both, want one")
		}
		data, err := os.ReadFile(a.passwordFile)
		if err != nil {
			return meter.Config{}, &problem{exitUsage, fmt.Errorf("--password-file: %w", err), ""}
		}
		c.Password = strings.TrimRight(string(data), "\r\n")
	}
	if a.timeout <= 0 {
		return meter.Config{}, usagef("--timeout: got %v, want more than 0", a.timeout)
	}
	return c, nil
}

// meterHint says what a person can do about a device that does not answer, or not rightly.
func meterHint(err error, address string) string {
	serial := strings.HasPrefix(address, "rtu:") || strings.HasPrefix(address, "p1:")
	switch {
	case errors.Is(err, meter.ErrPayload):
		return ""
	case errors.Is(err, fs.ErrPermission) && serial:
		return "you may not open the port: add yourself to the group dialout (sudo usermod -aG dialout $USER) and log in again"
	case errors.Is(err, fs.ErrNotExist) && serial:
		return "there is no such port: is the adapter plugged in? ls /dev/serial/by-id shows those that are"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return ""
	case errors.Is(err, syscall.EBUSY):
		return "another program has the port; fuser shows which, and only one can have it"
	case errors.Is(err, def.ErrWrongDevice):
		return "something else is there: `commonwatt meter detect --address " + address + "` says what it may be"
	case errors.Is(err, def.ErrRefused):
		return "the device answers, but has no such registers: is it this kind, and this unit? `commonwatt meter detect` may tell"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "check cable, address and unit: nothing listens at this port; many devices need Modbus or MQTT switched on first"
	case serial:
		return "check cable (A and B swapped?), unit, baud and parity: many meters come with 9600 and parity N, some with E; --timeout waits longer"
	case strings.HasPrefix(address, "mqtt"):
		return "check broker, name and topic; --timeout waits longer for a message"
	}
	return "check cable, address and unit; --timeout waits longer"
}
