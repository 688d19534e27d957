package listen

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// ErrNoCertificate is returned for a file without a PEM certificate.
var ErrNoCertificate = errors.New("no PEM certificate in it")

// maxPEM bounds a file of certificates.
const maxPEM = 1 << 20

// TLS listens like TCP, with a certificate; clients need one of clientCA, unless
// that is "".
func TLS(ctx context.Context, key, address, certFile, keyFile, clientCA string) (net.Listener, error) {
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("%s: loading certificate %s and key %s: %w", key, certFile, keyFile, err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
	if clientCA != "" {
		if c.ClientCAs, err = readCAs(clientCA); err != nil {
			return nil, fmt.Errorf("%s.client_ca: %w", key, err)
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	listener, err := TCP(ctx, key+".listen", address)
	if err != nil {
		return nil, err
	}
	return tls.NewListener(listener, c), nil
}

func readCAs(file string) (*x509.CertPool, error) {
	f, err := os.Open(file) //nolint:gosec // G304: the configuration named the file
	if err != nil {
		return nil, fmt.Errorf("opening certificates: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	pem, err := io.ReadAll(io.LimitReader(f, maxPEM))
	if err != nil {
		return nil, fmt.Errorf("reading certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: %w", file, ErrNoCertificate)
	}
	return pool, nil
}
