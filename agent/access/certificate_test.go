package access

import (
	"crypto/ecdsa"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The certificate is made once, renewed before its end and for a new name, and its key stays.
func TestCertificate(t *testing.T) {
	t.Parallel()
	c := newClock()
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	first, err := OpenCertificate(dir, []string{"house.local"}, c.now, log)
	if err != nil {
		t.Fatal(err)
	}
	leaf, shown := first.current().Leaf, first.Fingerprint()
	for _, name := range []string{"localhost", "house.local", "127.0.0.1"} {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if len(shown) != 95 || strings.Count(shown, ":") != 31 || leaf.IsCA {
		t.Errorf("got the fingerprint %q, CA %v", shown, leaf.IsCA)
	}
	if days := leaf.NotAfter.Sub(leaf.NotBefore) / (24 * time.Hour); days > 825 {
		t.Errorf("it lasts %d days, want at most 825", days)
	}
	key := filepath.Join(dir, pageKeyFile)
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: %v, %v", info, err)
	}
	again, err := OpenCertificate(dir, []string{"house.local"}, c.now, log)
	if err != nil || again.Fingerprint() != shown {
		t.Errorf("a second start made another certificate: %v", err)
	}
	c.pass(certificateLasts - certificateRenew + time.Second)
	if renewed := again.current().Leaf; fingerprintOf(renewed) == shown || !renewed.PublicKey.(*ecdsa.PublicKey).Equal(leaf.PublicKey) {
		t.Error("it was not renewed while the gateway runs, with the same key")
	}
	if got, err := FingerprintOf(dir); err != nil || got != again.Fingerprint() {
		t.Errorf("the folder has %s, %v", got, err)
	}
	other, err := OpenCertificate(dir, []string{"house.local", "new.local"}, c.now, log)
	if err != nil || other.current().Leaf.VerifyHostname("new.local") != nil {
		t.Errorf("a new name is not in it: %v", err)
	}

	if err := os.Chmod(key, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCertificate(dir, nil, c.now, log); !errors.As(err, new(*ExposedError)) {
		t.Errorf("a key that others can read: got %v", err)
	}
	if err := errors.Join(os.Chmod(key, 0o600), os.WriteFile(key, []byte("no key\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCertificate(dir, nil, c.now, log); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged key: got %v", err)
	}
	if err := os.Remove(filepath.Join(dir, CertificateFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCertificate(dir, nil, c.now, log); !errors.Is(err, ErrDamaged) {
		t.Errorf("a damaged key without certificate: got %v", err)
	}
}
