package joining

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/market"
)

const (
	invitationsFolder = "invitations"
	// MaxInvitations bounds the invitations of one home.
	MaxInvitations = 64
	// MaxUses bounds the households that may come with one.
	MaxUses = 32
	// remembered is how long an invitation that is over is still told from an unknown one.
	remembered   = 30 * 24 * time.Hour
	maxFileBytes = 4 << 10
)

// Issued is an invitation as the home that gave it keeps it.
type Issued struct {
	ID      string    `json:"-"`      // of the file; the first digits of the hash of the secret
	Secret  string    `json:"secret"` // hexadecimal
	Expires time.Time `json:"expires"`
	Uses    int       `json:"uses"`
	Node    string    `json:"node"` // where its homes hang
	Made    time.Time `json:"made"`

	secret  [secretBytes]byte
	Revoked bool                 `json:"-"`
	Used    []market.HouseholdID `json:"-"` // in the order of their uses
}

// Folder is the invitations of a home.
type Folder struct{ dir string }

// OpenFolder names the invitations in a home's folder; it may not be there yet.
func OpenFolder(home string) Folder { return Folder{filepath.Join(home, invitationsFolder)} }

// Issue makes an invitation and keeps it.
func (f Folder) Issue(node string, uses int, now, expires time.Time) (*Issued, error) {
	if uses < 1 || uses > MaxUses {
		return nil, fmt.Errorf("uses: got %d, want 1 to %d", uses, MaxUses)
	}
	all, err := f.List(now)
	if err != nil {
		return nil, err
	}
	if len(all) >= MaxInvitations {
		return nil, fmt.Errorf("there are %d invitations, want at most %d: they are forgotten %d days after their end", len(all), MaxInvitations, int(remembered.Hours()/24))
	}
	i := &Issued{Expires: expires.UTC().Truncate(time.Second), Uses: uses, Node: node, Made: now.UTC().Truncate(time.Second)}
	if _, err := rand.Read(i.secret[:]); err != nil {
		return nil, err
	}
	i.Secret = hex.EncodeToString(i.secret[:])
	i.ID = idOf(i.secret)
	raw, err := json.MarshalIndent(i, "", "  ") //nolint:gosec // the file is where the secret is kept, mode 0600
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, fmt.Errorf("keeping invitation: %w", err)
	}
	return i, writeNew(filepath.Join(f.dir, i.ID+".json"), append(raw, '\n'))
}

// SecretOf is the secret of an invitation, for its text.
func (i *Issued) SecretOf() [secretBytes]byte { return i.secret }

func idOf(secret [secretBytes]byte) string {
	sum := sha256.Sum256(append([]byte("commonwatt/invitation-id/1\x00"), secret[:]...))
	return hex.EncodeToString(sum[:4])
}

// writeNew makes a file that must not be there yet, and has it on disk when it returns.
func writeNew(path string, data []byte) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // inside the home's own folder
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", filepath.Base(path), err), os.Remove(path))
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// List reads all invitations, oldest first. Those that were over long ago are removed.
func (f Folder) List(now time.Time) ([]*Issued, error) {
	entries, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading invitations: %w", err)
	}
	var all []*Issued
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok || strings.Contains(id, ".") || len(all) >= 2*MaxInvitations {
			continue
		}
		i, err := f.read(id)
		if err != nil {
			return nil, err
		}
		if now.Sub(i.Expires) > remembered {
			f.forget(i)
			continue
		}
		all = append(all, i)
	}
	slices.SortFunc(all, func(a, b *Issued) int { return a.Made.Compare(b.Made) })
	return all, nil
}

func (f Folder) read(id string) (*Issued, error) {
	path := filepath.Join(f.dir, id+".json")
	raw, err := readBounded(path, maxFileBytes)
	if err != nil {
		return nil, fmt.Errorf("reading invitation: %w", err)
	}
	i := &Issued{ID: id}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(i); err != nil {
		return nil, fmt.Errorf("reading invitation %s: %w", path, err)
	}
	secret, err := hex.DecodeString(i.Secret)
	if err != nil || len(secret) != secretBytes || idOf([secretBytes]byte(secret)) != id || i.Uses < 1 || i.Uses > MaxUses {
		return nil, fmt.Errorf("reading invitation %s: it is damaged; remove the file and make a new one", path)
	}
	i.secret = [secretBytes]byte(secret)
	if _, err := os.Lstat(f.revocation(id)); err == nil {
		i.Revoked = true
	}
	for n := range i.Uses {
		raw, err := readBounded(f.use(id, n), maxFileBytes)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading invitation: %w", err)
		}
		h, err := market.ParseHouseholdID(strings.TrimSpace(string(raw)))
		if err != nil {
			return nil, fmt.Errorf("reading invitation: %s: %w", f.use(id, n), err)
		}
		i.Used = append(i.Used, h)
	}
	return i, nil
}

func readBounded(path string, most int64) ([]byte, error) {
	file, err := os.Open(path) //nolint:gosec // inside the home's own folder
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // only read from
	raw, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return raw, nil
}

func (f Folder) revocation(id string) string { return filepath.Join(f.dir, id+".revoked") }

func (f Folder) use(id string, n int) string {
	return filepath.Join(f.dir, fmt.Sprintf("%s.use-%d", id, n+1))
}

func (f Folder) forget(i *Issued) {
	// The invitation itself last: what is left of the others would belong to nothing.
	_ = os.Remove(f.revocation(i.ID))
	for n := range i.Uses {
		_ = os.Remove(f.use(i.ID, n))
	}
	_ = os.Remove(filepath.Join(f.dir, i.ID+".json"))
}

// ErrUnknown says that there is no such invitation.
var ErrUnknown = errors.New("no such invitation")

// Revoke ends an invitation before its time. Revoking it again is no error.
func (f Folder) Revoke(id string) error {
	if strings.ContainsAny(id, "/.") {
		return fmt.Errorf("%w: %q", ErrUnknown, id)
	}
	if _, err := f.read(id); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %q", ErrUnknown, id)
	} else if err != nil {
		return err
	}
	if err := writeNew(f.revocation(id), nil); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// take notes that a household uses the invitation (J1); one that does already keeps its use.
func (f Folder) take(i *Issued, h market.HouseholdID) error {
	for n := range i.Uses {
		err := writeNew(f.use(i.ID, n), []byte(h.String()+"\n"))
		if err == nil {
			return nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("noting the use of an invitation: %w", err)
		}
		raw, err := readBounded(f.use(i.ID, n), maxFileBytes)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(raw)) == h.String() {
			return nil
		}
	}
	return errUsed
}

// State is the invitation in one word.
func (i *Issued) State(now time.Time) Code {
	switch {
	case i.Revoked:
		return CodeRevoked
	case now.After(i.Expires):
		return CodeExpired
	case len(i.Used) >= i.Uses:
		return CodeUsed
	}
	return CodeOpen
}

// guest is the public half of the key with which its guests come.
func (i *Issued) guest() ed25519.PublicKey {
	return GuestKey(i.secret).Public().(ed25519.PublicKey) //nolint:forcetypeassert // that of crypto/ed25519
}
