package modbus_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/meter/modbus"
)

// authority issues certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.cert, a.key = sign(t, template, nil, nil)
	return a
}

func sign(t *testing.T, template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// issue makes a certificate; change may spoil it.
func (a *authority) issue(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "device"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	cert, key := sign(t, template, a.cert, a.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// server demands a client certificate.
func (a *authority) server(t *testing.T) *tls.Config {
	t.Helper()
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{a.issue(t, nil)}, ClientCAs: a.pool(), ClientAuth: tls.RequireAndVerifyClientCert}
}

func (a *authority) client(t *testing.T) *tls.Config {
	t.Helper()
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{a.issue(t, nil)}, RootCAs: a.pool()}
}

// TestTLS: both sides must know each other; each way in which they do not is one clear error.
func TestTLS(t *testing.T) {
	ours, foreign := newAuthority(t), newAuthority(t)
	expired := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	}
	for _, c := range []struct {
		name   string
		server func(c *tls.Config)
		client func(c *tls.Config)
		plain  bool // the server speaks no TLS
		want   string
	}{
		{name: "both known"},
		{name: "TLS 1.2", server: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }},
		{name: "foreign authority", client: func(c *tls.Config) { c.RootCAs = foreign.pool() }, want: "not from an authority that is trusted"},
		{name: "expired", server: func(c *tls.Config) { c.Certificates = []tls.Certificate{ours.issue(t, expired)} }, want: "not valid at this time"},
		{name: "not yet valid", server: func(c *tls.Config) {
			c.Certificates = []tls.Certificate{ours.issue(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })}
		}, want: "not valid at this time"},
		{name: "another name", client: func(c *tls.Config) { c.ServerName = "meter.example" }, want: "for another name"},
		{name: "no client certificate", client: func(c *tls.Config) { c.Certificates = nil }, want: "the server refuses"},
		{name: "no client certificate, TLS 1.2", server: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, client: func(c *tls.Config) { c.Certificates = nil }, want: "the server refuses"},
		{name: "foreign client certificate", client: func(c *tls.Config) { c.Certificates = []tls.Certificate{foreign.issue(t, nil)} }, want: "the server refuses"},
		{name: "expired client certificate", client: func(c *tls.Config) { c.Certificates = []tls.Certificate{ours.issue(t, expired)} }, want: "the server refuses"},
		{name: "old TLS", server: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, want: "the server refuses"},
		{name: "no TLS", plain: true, want: "does not speak TLS"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server, client := ours.server(t), ours.client(t)
			if c.server != nil {
				c.server(server)
			}
			if c.client != nil {
				c.client(client)
			}
			asked := &atomic.Int32{}
			s := newServer(t, func(conn net.Conn, n int) {
				if c.plain {
					_, _ = conn.Write([]byte("not TLS at all\r\n"))
					return
				}
				secured := tls.Server(conn, server)
				(&peer{secured, false, n, asked}).honest()
				_ = secured.Close()
			})
			o := quick()
			o.Timeout, o.BackoffStep, o.BackoffMax = 20*time.Second, time.Hour, time.Hour
			bus := modbus.NewBus(modbus.TLS(s.address(), client, "test"), o)
			defer bus.Close()
			if c.want == "" {
				for range 3 {
					right(t, bus)
				}
				return
			}
			_, _, err := bus.Read(t.Context(), 3, modbus.ReadHolding, 10, 2)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, expected %q", err, c.want)
			}
			// It is the line's fault, not the unit's.
			if _, _, err := bus.Read(t.Context(), 4, modbus.ReadHolding, 10, 2); !errors.Is(err, modbus.ErrBackoff) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("another unit: got %v, expected %v", err, modbus.ErrBackoff)
			}
		})
	}
}
