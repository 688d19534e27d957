package meter_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/meter"
)

// TestAddresses: what may stand in an address, and what is said of one that is wrong. Open does not wait for a device,
// so a good address opens.
func TestAddresses(t *testing.T) {
	const p1, http, mqtt = "dsmr-p1", "homewizard-p1", "dsmr-reader"
	for _, c := range []struct {
		definition, address string
		want                string // empty: it opens
	}{
		{p1, "p1+tcp://127.0.0.1:1", ""},
		{p1, "p1:///dev/ttyNone", ""},
		{p1, "p1:///dev/ttyNone?baud=9600&bits=7&parity=e&stop=1", ""},
		{p1, "p1+file:telegram.txt", ""},
		{p1, "p1+file:/var/lib/a telegram 100%?#.txt", ""},
		{p1, "p1+file:///var/lib/telegram.txt", ""},
		{p1, "http://192.0.2.1", ""},
		{p1, "http://192.0.2.1:8080/V?p=1", "nothing after ? or #"},
		{p1, "https://[2001:db8::1]/telegram", ""},
		{p1, "p1+tcp://127.0.0.1", "a host and a port from 1 to 65535, such as p1+tcp://192.168.1.40:23 (dsmr-p1)"},
		{p1, "p1+tcp://127.0.0.1:1/x", "no path"},
		{p1, "p1://dev/ttyUSB0", "a serial device with its whole path after ://"},
		{p1, "p1:/dev/ttyUSB0?baud=115200", ""},
		{p1, "p1:ttyUSB0", "a serial device with its whole path"},
		{p1, "p1:///dev/ttyUSB0?baud=115201", "baud=1200, 2400, 4800, 9600, 19200, 38400, 57600 or 115200"},
		{p1, "p1:///dev/ttyUSB0?parity=odd", "parity=N, E or O"},
		{p1, "p1:///dev/ttyUSB0?bits=9", "bits=7 or 8"},
		{p1, "p1:///dev/ttyUSB0?stop=0", "stop=1 or 2"},
		{p1, "p1:///dev/ttyUSB0?speed=9600", "only baud, bits, parity or stop after the ?, each once"},
		{p1, "p1:///dev/ttyUSB0?baud=9600&baud=9600", "each once"},
		{p1, "p1+file:", "p1+file: and the path of a file"},
		{p1, "p1+file://host/telegram", "p1+file: and the path of a file"},
		{p1, "tcp://127.0.0.1:502", "an address beginning with p1://, p1+tcp://, p1+file:, http:// or https://, such as p1:///dev/ttyUSB0?baud=115200"},
		{http, "http://192.0.2.1", ""},
		{http, "http://homewizard.local:8080/proxy/", ""},
		{http, "http://192.0.2.1?x=1", "nothing after ? or #"},
		{http, "http://", "a host and a port"},
		{http, "http:192.0.2.1", "an address with // after the colon"},
		{http, "http://192.0.2.1:http", "an address with // after the colon"},
		{http, "http://somebody:secret@192.0.2.1", "without a name or password"},
		{http, "mqtt://192.0.2.1:1883/x", "an address beginning with http:// or https://"},
		{mqtt, "mqtts://192.0.2.1:8883/dsmr", ""},
		{mqtt, "mqtts://192.0.2.1/dsmr", "a host and a port from 1 to 65535, such as mqtts://broker.example:8883/kitchen"},
		{mqtt, "http://192.0.2.1", "an address beginning with mqtt:// or mqtts://"},
		{"shelly-3em", "http://192.0.2.1", ""},
		{"shelly-3em", "mqtt://192.0.2.1:1883/shellyem3-x", ""},
		{"shelly-3em", "tcp://192.0.2.1:502", "an address beginning with mqtt://, mqtts://, http:// or https://"},
	} {
		source, err := meter.Open(t.Context(), meter.Config{Definition: c.definition, Address: c.address})
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.address, err)
				continue
			}
			if err := source.Close(); err != nil {
				t.Errorf("%s: %v", c.address, err)
			}
			continue
		}
		mistake := (*meter.ConfigError)(nil)
		if !errors.As(err, &mistake) || mistake.Field != "address" || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, expected %q", c.address, err, c.want)
		}
	}
}

// TestTLSFiles: a certificate that cannot be used is a mistake in the configuration, and is said before anything is
// dialled.
func TestTLSFiles(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	cert, key := ca.issue(t, dir, "client", certificateFor{})
	_, otherKey := ca.issue(t, dir, "other", certificateFor{})
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		tls         meter.TLS
		field, want string
	}{
		{meter.TLS{CAFile: ca.file, CertFile: cert, KeyFile: key}, "", ""},
		{meter.TLS{CAFile: filepath.Join(dir, "none.pem")}, "tls.ca_file", "a readable PEM file"},
		{meter.TLS{CAFile: dir}, "tls.ca_file", "it is no file"},
		{meter.TLS{CAFile: empty}, "tls.ca_file", "at least one certificate in PEM"},
		{meter.TLS{CertFile: cert}, "tls.key_file", "the key of tls.cert_file"},
		{meter.TLS{KeyFile: key}, "tls.cert_file", "the certificate of tls.key_file"},
		{meter.TLS{CertFile: cert, KeyFile: otherKey}, "tls.cert_file", "that fits the key in"},
		{meter.TLS{CertFile: empty, KeyFile: key}, "tls.cert_file", "a certificate in PEM"},
	} {
		for _, address := range []string{"mqtts://127.0.0.1:1/attic", "https://127.0.0.1:1"} {
			source, err := meter.Open(t.Context(), meter.Config{Definition: "shelly-3em", Address: address, TLS: c.tls})
			if c.field == "" {
				if err != nil {
					t.Fatalf("%s: %v", address, err)
				}
				if err := source.Close(); err != nil {
					t.Error(err)
				}
				continue
			}
			mistake := (*meter.ConfigError)(nil)
			if !errors.As(err, &mistake) || mistake.Field != c.field || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s with %+v: got %v, expected %s: %q", address, c.tls, err, c.field, c.want)
			}
		}
	}
}
