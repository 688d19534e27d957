package meter_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/modbus"
)

// TestModbusAddresses: each kind of line has its address, and a mistake in one is answered with what would be right.
func TestModbusAddresses(t *testing.T) {
	for _, c := range []struct {
		address string
		unit    uint8
		want    string // of the mistake
	}{
		{"tcp://192.0.2.1:502", 255, ""},
		{"tcp+tls://192.0.2.1:802", 0, ""},
		{"rtu:///dev/ttyNone", 247, ""},
		{"rtu:///dev/ttyNone?baud=19200&parity=E&stop=2", 0, ""},
		{"rtu+tcp://192.0.2.1:4001", 1, ""},
		{"tcp://192.0.2.1", 1, "a host and a port from 1 to 65535, such as tcp://192.168.1.20:502"},
		{"tcp+tls://192.0.2.1:802/x", 1, "no path"},
		{"rtu+tcp://192.0.2.1:4001?baud=9600", 1, "nothing after ? or #"},
		{"rtu:///dev/ttyNone?baud=9601", 1, "baud=1200, 2400"},
		{"rtu:///dev/ttyNone?parity=M", 1, "parity=N, E or O"},
		{"rtu:///dev/ttyNone?stop=3", 1, "stop=1 or 2"},
		{"rtu:///dev/ttyNone?bits=7", 1, "only baud, parity or stop after the ?, each once"},
		{"rtu:///dev/ttyNone?speed=9600", 1, "only baud, parity or stop after the ?, each once"},
		{"rtu://ttyNone", 1, "a serial device with its whole path"},
		{"rtu:///dev/ttyNone", 255, "1 to 247 on a serial line"},
		{"rtu+tcp://192.0.2.1:4001", 248, "1 to 247 on a serial line"},
		{"tcp://192.0.2.1:502", 248, "1 to 247, or 255"},
		{"serial:///dev/ttyNone", 1, "tcp://, tcp+tls://, rtu:// or rtu+tcp://"},
	} {
		source, err := meter.Open(t.Context(), meter.Config{Definition: "eastron-sdm630", Address: c.address, Unit: c.unit})
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.address, err)
				continue
			}
			_ = source.Close()
			continue
		}
		if mistake, ok := errors.AsType[*meter.ConfigError](err); !ok || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s unit %d: got %v (%v), expected %q", c.address, c.unit, err, mistake, c.want)
		}
	}
}

// TestOneWire: meters that share a line must say the same of it.
func TestOneWire(t *testing.T) {
	pool := modbus.NewPool(modbus.Options{})
	open := func(address string, unit uint8) error {
		source, err := meter.Open(t.Context(), meter.Config{Definition: "eastron-sdm630", Address: address, Unit: unit, Pool: pool})
		if err == nil {
			t.Cleanup(func() { _ = source.Close() })
		}
		return err
	}
	for _, address := range []string{"rtu:///dev/ttyNone?baud=19200", "tcp://192.0.2.1:502"} {
		if err := errors.Join(open(address, 1), open(address, 2)); err != nil {
			t.Error(err)
		}
	}
	for _, address := range []string{"rtu:///dev/ttyNone", "rtu:///dev/../dev/ttyNone?baud=19200&parity=E", "rtu+tcp://192.0.2.1:502", "tcp+tls://192.0.2.1:502"} {
		err := open(address, 3)
		if mistake, ok := errors.AsType[*meter.ConfigError](err); !ok || mistake.Field != "address" {
			t.Errorf("%s: got %v, expected a mistake in the address", address, err)
		}
	}
}

// TestModbusTLS reads a meter through TLS with files on both sides; who is not known is told so.
func TestModbusTLS(t *testing.T) {
	d, err := meter.FindDefinition("", "eastron-sdm630")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ca, foreign := newAuthority(t, dir, "ca"), newAuthority(t, dir, "foreign")
	cert, key := ca.issue(t, dir, "client", certificateFor{})
	strange, strangeKey := foreign.issue(t, dir, "strange", certificateFor{})
	serve := func(what certificateFor) string {
		t.Helper()
		pair, err := tls.LoadX509KeyPair(ca.issue(t, dir, "server", what))
		if err != nil {
			t.Fatal(err)
		}
		clients := x509.NewCertPool()
		clients.AddCert(ca.cert)
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert,
		})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			serveDevice(l, registersOf(t, d))
		}()
		t.Cleanup(func() {
			_ = l.Close()
			<-ended
		})
		return l.Addr().String()
	}
	good, old := serve(certificateFor{server: true}), serve(certificateFor{server: true, expired: true})
	for _, c := range []struct {
		name, host string
		tls        meter.TLS
		want       string
	}{
		{"known", good, meter.TLS{CAFile: ca.file, CertFile: cert, KeyFile: key}, ""},
		{"foreign authority", good, meter.TLS{CAFile: foreign.file, CertFile: cert, KeyFile: key}, "not from an authority that is trusted"},
		{"expired", old, meter.TLS{CAFile: ca.file, CertFile: cert, KeyFile: key}, "not valid at this time"},
		{"another name", good, meter.TLS{CAFile: ca.file, CertFile: cert, KeyFile: key, ServerName: "meter.example"}, "for another name"},
		{"no certificate of ours", good, meter.TLS{CAFile: ca.file}, "the server refuses"},
		{"a certificate of somebody else", good, meter.TLS{CAFile: ca.file, CertFile: strange, KeyFile: strangeKey}, "the server refuses"},
	} {
		t.Run(c.name, func(t *testing.T) {
			source, err := meter.Open(t.Context(), meter.Config{Definition: d.ID, Address: "tcp+tls://" + c.host, TLS: c.tls})
			if err != nil {
				t.Fatal(err)
			}
			defer source.Close()
			sample, err := source.Read(t.Context())
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, expected %q", err, c.want)
				}
			} else if err != nil || sample.ImportWh == nil || *sample.ImportWh != benchWh {
				t.Errorf("got %+v, %v", sample, err)
			}
		})
	}
}

// shiftingGateway gives each request the reply that came too late for the one before, under the fresh transaction id, as
// a gateway does that gave up on a serial device too soon. Its counter counts the requests for it.
type shiftingGateway struct {
	answers func([]byte) []byte
	counter uint32
	asked   int
	late    []byte // on the serial side
}

func (g *shiftingGateway) reply(pdu []byte) []byte {
	g.asked++
	body := slices.Clone(g.answers(pdu))
	if len(body) > 40 { // the block with the counters: import is at offset 40 in it
		g.counter++
		binary.BigEndian.PutUint32(body[2+40:], math.Float32bits(float32(g.counter)))
	}
	switch {
	case g.asked%20 < 8: // a healthy stretch
		g.late = nil
		return body
	case g.late == nil:
		g.late = body
		return []byte{pdu[0] | 0x80, 11} // the device does not answer
	}
	body, g.late = g.late, body
	return body
}

// TestRule9GatewayThatShiftsReplies: that a gateway puts late replies under fresh ids cannot be seen on the line. But
// after a failure the first question is who is there, and a reply to another question does not fit it. So no stale value
// comes of it.
func TestRule9GatewayThatShiftsReplies(t *testing.T) {
	d, err := meter.FindDefinition("", "eastron-sdm630")
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &shiftingGateway{answers: registersOf(t, d)}
	counters := make(chan uint32, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		serveDevice(l, func(pdu []byte) []byte {
			body := g.reply(pdu)
			select {
			case <-counters:
			default:
			}
			counters <- g.counter
			return body
		})
	}()
	pool := modbus.NewPool(modbus.Options{DialEvery: 1, BackoffStep: 1, BackoffMax: 1})
	source, err := meter.Open(t.Context(), meter.Config{Definition: d.ID, Address: "tcp://" + l.Addr().String(), Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	right, refused := 0, 0
	for range 300 {
		sample, err := source.Read(t.Context())
		if err != nil {
			if errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			refused++
			continue
		}
		if now := uint64(<-counters) * 1000; sample.ImportWh == nil || *sample.ImportWh != now {
			t.Fatalf("got a stale value: %s, expected %d Wh", sampleText(t, sample), now)
		}
		right++
	}
	t.Logf("%d right, %d refused, none stale", right, refused)
	if right == 0 || refused == 0 {
		t.Error("expected some of both")
	}
	_ = source.Close()
	_ = l.Close()
	<-ended
}
