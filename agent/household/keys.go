package household

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Keys are the home's private keys, one per purpose.
type Keys struct {
	Household ed25519.PrivateKey // who the member is; cold: nil if it is kept elsewhere
	Device    ed25519.PrivateKey // this gateway: signs orders, preferences and reports
	Meter     ed25519.PrivateKey // signs readings of meters that cannot sign themselves
	Network   ed25519.PrivateKey // libp2p and engine identity

	// ColdPublic is the public half of a Household that is kept elsewhere; else nil.
	ColdPublic ed25519.PublicKey
}

// ID is the household's pseudonym.
func (k *Keys) ID() market.HouseholdID { return market.HouseholdIDOf(k.HouseholdPublic()) }

// HouseholdPublic is the public half of the household's key, which stays when it goes.
func (k *Keys) HouseholdPublic() ed25519.PublicKey {
	if k.Household != nil {
		return k.Household.Public().(ed25519.PublicKey)
	}
	return k.ColdPublic
}

// Key files of a home, in its folder keys.
const (
	HouseholdKeyFile    = "household.key"
	HouseholdPublicFile = "household.pub"
	// UncheckedFile is there as long as nobody has shown that they have the recovery words.
	UncheckedFile = "household.unchecked"
)

// KeyFile is the path of a key file of a home.
func KeyFile(dir, name string) string { return filepath.Join(dir, "keys", name) }

// Public gives the ledger's form of a private key's public half.
func Public(k ed25519.PrivateKey) ledger.Key {
	return ledger.KeyOf(k.Public().(ed25519.PublicKey))
}

func (k *Keys) files() map[string]*ed25519.PrivateKey {
	return map[string]*ed25519.PrivateKey{
		HouseholdKeyFile: &k.Household, "device.key": &k.Device, "meter.key": &k.Meter, "network.key": &k.Network,
	}
}

// CreateKeys makes the home's keys in dir/keys. Keys that are there already are
// kept and loaded.
func CreateKeys(dir string) (*Keys, error) {
	folder := filepath.Join(dir, "keys")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, fmt.Errorf("creating keys: %w", err)
	}
	for name := range new(Keys).files() {
		if name == HouseholdKeyFile && isThere(filepath.Join(folder, HouseholdPublicFile)) {
			continue // the cold key is kept elsewhere
		}
		if err := CreateKey(filepath.Join(folder, name)); err != nil {
			return nil, err
		}
	}
	return LoadKeys(dir)
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// WriteKey writes a key file, readable by its owner only.
func WriteKey(path string, key ed25519.PrivateKey) error {
	return ReplaceFile(path, []byte(hex.EncodeToString(key.Seed())+"\n"))
}

// KeepPublic notes the public half of the household's key, so that the key itself may go.
func KeepPublic(dir string, pub ed25519.PublicKey) error {
	return ReplaceFile(KeyFile(dir, HouseholdPublicFile), []byte(hex.EncodeToString(pub)+"\n"))
}

// ForgetHousehold removes the household's key from the gateway. The public half stays.
func ForgetHousehold(dir string) error {
	k, err := LoadKeys(dir)
	if err != nil {
		return err
	}
	if err := KeepPublic(dir, k.HouseholdPublic()); err != nil {
		return err
	}
	if err := os.Remove(KeyFile(dir, HouseholdKeyFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forgetting the household's key: %w", err)
	}
	return nil
}

// CreateKey makes one key file, readable by its owner only, unless it exists.
func CreateKey(path string) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("creating key: %w", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err // nil: there is one
	}
	return ReplaceFile(path, []byte(hex.EncodeToString(key.Seed())+"\n"))
}

// LoadKeys reads the home's keys. A key file that others can read is refused.
func LoadKeys(dir string) (*Keys, error) {
	k := new(Keys)
	for name, key := range k.files() {
		var err error
		if name == HouseholdKeyFile && !isThere(KeyFile(dir, name)) && isThere(KeyFile(dir, HouseholdPublicFile)) {
			if k.ColdPublic, err = loadPublic(KeyFile(dir, HouseholdPublicFile)); err != nil {
				return nil, err
			}
			continue
		}
		if *key, err = LoadKey(filepath.Join(dir, "keys", name)); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func loadPublic(path string) (ed25519.PublicKey, error) {
	f, err := os.Open(path) //nolint:gosec // inside the home's own folder
	if err != nil {
		return nil, fmt.Errorf("loading key: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyBytes))
	if err != nil {
		return nil, fmt.Errorf("loading key: %w", err)
	}
	var key ledger.Key
	if err := key.UnmarshalText([]byte(strings.TrimSpace(string(raw)))); err != nil {
		return nil, fmt.Errorf("loading key %s: %w", path, err)
	}
	return key.Public(), nil
}

// maxKeyBytes bounds what is read of a key file; a right one has 65 bytes.
const maxKeyBytes = 1 << 10

// LoadKey reads one key file: 64 hexadecimal digits, an Ed25519 seed.
func LoadKey(path string) (ed25519.PrivateKey, error) {
	f, err := os.Open(path) //nolint:gosec // inside the home's own folder
	if err != nil {
		return nil, fmt.Errorf("loading key: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("loading key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("loading key %s: others can read it (mode %04o): make it yours alone with `chmod 600 %s`", path, mode, path)
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxKeyBytes))
	if err != nil {
		return nil, fmt.Errorf("loading key: %w", err)
	}
	seed, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("loading key %s: want %d hexadecimal digits", path, 2*ed25519.SeedSize)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
