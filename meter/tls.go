package meter

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLS says how to know a server, and how to be known by it, where the address asks for an encrypted connection. The
// zero value trusts the authorities of the system and shows no certificate.
type TLS struct {
	// CAFile holds the certificates, in PEM, of those who may sign the server's; nothing else is trusted then.
	CAFile string
	// CertFile and KeyFile are our own certificate and its key, in PEM; both or neither.
	CertFile, KeyFile string
	// ServerName is the name in the server's certificate, where it is not that in the address.
	ServerName string
}

// maxPEM bounds a certificate file.
const maxPEM = 1 << 20

// clientConfig reads the files. A mistake is a *ConfigError.
func (t TLS) clientConfig() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	if t.CAFile != "" {
		pem, err := readPEM("tls.ca_file", t.CAFile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &ConfigError{Field: "tls.ca_file", Got: t.CAFile, Want: "a file with at least one certificate in PEM"}
		}
	}
	switch {
	case t.CertFile == "" && t.KeyFile == "":
		return c, nil
	case t.KeyFile == "":
		return nil, &ConfigError{Field: "tls.key_file", Got: "", Want: "the key of tls.cert_file"}
	case t.CertFile == "":
		return nil, &ConfigError{Field: "tls.cert_file", Got: "", Want: "the certificate of tls.key_file"}
	}
	cert, err := readPEM("tls.cert_file", t.CertFile)
	if err != nil {
		return nil, err
	}
	key, err := readPEM("tls.key_file", t.KeyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, &ConfigError{Field: "tls.cert_file", Got: t.CertFile, Want: fmt.Sprintf("a certificate in PEM that fits the key in %s (%v)", t.KeyFile, err)}
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

func readPEM(field, path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxPEM) {
		err = errors.New("it is no file of at most 1 MB")
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path) //nolint:gosec // the path is the person's own
	}
	if err != nil {
		return nil, &ConfigError{Field: field, Got: path, Want: fmt.Sprintf("a readable PEM file (%v)", err)}
	}
	return data, nil
}
