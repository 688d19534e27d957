package access

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Files of the page's certificate in a home's folder.
const (
	CertificateFile = "page.crt"
	pageKeyFile     = "keys/page.key"
)

// A certificate is good for 800 days: Apple's systems take none of more than 825. It is renewed 60
// days before its end.
const (
	certificateLasts = 800 * 24 * time.Hour
	certificateRenew = 60 * 24 * time.Hour
	certificateSkew  = 24 * time.Hour // for browsers whose clock is behind
	maxPEMBytes      = 16 << 10
)

// Certificate is what the page shows to browsers. The gateway signs it itself: there is no name on
// a home's network that an authority could vouch for. Whoever compares its fingerprint once knows
// that nobody stands in between.
type Certificate struct {
	dir   string
	names []string
	now   func() time.Time
	log   *slog.Logger

	mu   sync.Mutex
	cert tls.Certificate
}

// OpenCertificate reads the certificate of a home, or makes one: at the first start, before its
// end, and when the machine has a name or an IPv4 address that is not in it. The key stays.
func OpenCertificate(dir string, hosts []string, now func() time.Time, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{dir: dir, names: machineNames(hosts), now: now, log: log}
	cert, err := c.load()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil || c.outdated(cert.Leaf) || !c.covers(cert.Leaf) {
		if cert, err = c.renew(); err != nil {
			return nil, err
		}
	}
	c.cert = cert
	return c, nil
}

// machineNames are the names and addresses under which this machine may be called.
func machineNames(hosts []string) []string {
	names := []string{"localhost"}
	add := func(name string) {
		if name = strings.ToLower(name); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, h := range hosts {
		add(h)
	}
	if name, err := os.Hostname(); err == nil {
		add(name)
		if !strings.Contains(name, ".") {
			add(name + ".local")
		}
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return names
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
			add(n.IP.String())
		}
	}
	return names
}

// load reads certificate and key.
func (c *Certificate) load() (tls.Certificate, error) {
	certPEM, err := os.ReadFile(filepath.Join(c.dir, CertificateFile))
	if err != nil {
		return tls.Certificate{}, err
	}
	keyPEM, err := readPrivate(filepath.Join(c.dir, pageKeyFile), maxPEMBytes)
	if err != nil {
		return tls.Certificate{}, err
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return cert, fmt.Errorf("%w: %s: %w; remove it, and the next start makes another one", ErrDamaged, filepath.Join(c.dir, CertificateFile), err)
	}
	return cert, nil
}

func (c *Certificate) outdated(leaf *x509.Certificate) bool {
	return c.now().After(leaf.NotAfter.Add(-certificateRenew)) || c.now().Before(leaf.NotBefore)
}

// covers says whether the names and the IPv4 addresses are in it. IPv6 addresses come and go by
// themselves, and each new certificate would have to be compared again.
func (c *Certificate) covers(leaf *x509.Certificate) bool {
	for _, name := range c.names {
		if a, err := netip.ParseAddr(name); err == nil && a.Is6() {
			continue
		}
		if leaf.VerifyHostname(name) != nil {
			return false
		}
	}
	return true
}

// renew makes another certificate with the same key; both are on the disk when it returns.
func (c *Certificate) renew() (tls.Certificate, error) {
	key, err := c.key()
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "gateway"
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Commonwatt gateway " + host},
		NotBefore: c.now().Add(-certificateSkew), NotAfter: c.now().Add(certificateLasts),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, // it signs nothing but itself
	}
	for _, name := range c.names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if validName(name) {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making the page's certificate: %w", err)
	}
	raw := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := replaceFile(filepath.Join(c.dir, CertificateFile), raw); err != nil {
		return tls.Certificate{}, err
	}
	return c.load()
}

// validName keeps names that no certificate can carry out of it.
func validName(name string) bool {
	return len(name) <= 253 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

// key reads the page's key, or makes it.
func (c *Certificate) key() (*ecdsa.PrivateKey, error) {
	path := filepath.Join(c.dir, pageKeyFile)
	raw, err := readPrivate(path, maxPEMBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return makeKey(path)
	}
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(raw); block != nil {
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, ok := key.(*ecdsa.PrivateKey); ok {
				return key, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: %s is no key as it was written; remove it, and the next start makes another one", ErrDamaged, path)
}

func makeKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return key, replaceFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// current is the certificate to show now. A gateway that runs for years renews it by itself.
func (c *Certificate) current() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.outdated(c.cert.Leaf) {
		if cert, err := c.renew(); err != nil {
			c.log.Error("page's certificate not renewed", "err", err) // the old one is better than none
		} else {
			c.cert = cert
			c.log.Warn("page's certificate renewed: browsers ask once more", "certificate", fingerprintOf(cert.Leaf))
		}
	}
	cert := c.cert
	return &cert
}

// Config is for the page's listener. It offers HTTP/1.1 alone: the page's streams, deadlines and
// bounds are made for it, and a home's page gains nothing by HTTP/2.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current(), nil },
	}
}

// Fingerprint is the SHA-256 of the certificate, as browsers show it.
func (c *Certificate) Fingerprint() string { return fingerprintOf(c.current().Leaf) }

func fingerprintOf(leaf *x509.Certificate) string {
	sum := sha256.Sum256(leaf.Raw)
	return strings.ReplaceAll(fmt.Sprintf("% X", sum), " ", ":")
}

// readCertificate is a home's own, as its folder has it.
func readCertificate(dir string) (*x509.Certificate, error) {
	path := filepath.Join(dir, CertificateFile)
	raw, err := os.ReadFile(path) //nolint:gosec // in the home's own folder
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fmt.Errorf("%w: %s is no certificate", ErrDamaged, path)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, path, err)
	}
	return leaf, nil
}

// FingerprintOf is that of the certificate in a home's folder.
func FingerprintOf(dir string) (string, error) {
	leaf, err := readCertificate(dir)
	if err != nil {
		return "", err
	}
	return fingerprintOf(leaf), nil
}

// Pinned is for commands that ask the agent of a home: they take the certificate in its folder and
// no other, whatever names are in it.
func Pinned(dir string) (*tls.Config, error) {
	want, err := readCertificate(dir)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, //nolint:gosec // VerifyConnection is stricter
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || !bytes.Equal(s.PeerCertificates[0].Raw, want.Raw) {
				return errors.New("another program answers in the agent's place: its certificate is not the one in the home's folder")
			}
			return nil
		},
	}, nil
}
