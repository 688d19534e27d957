package access

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of the accounts' file.
const (
	accountsFormat   = 1
	maxAccounts      = 32
	maxAccountsBytes = 64 << 10
)

// Account is somebody who may log in.
type Account struct {
	Name  string    `json:"name"`
	Role  Role      `json:"role"`
	Since time.Time `json:"since"`
}

// account is an Account with what is kept to itself.
type account struct {
	Account

	Password   string `json:"password"`
	Generation int64  `json:"generation"` // another one after each change; sessions of earlier ones are over
}

// book is the accounts' file.
type book struct {
	Format     int       `json:"format"`
	Generation int64     `json:"generation"` // the highest that was given away
	Accounts   []account `json:"accounts"`
}

func (b *book) find(name string) *account {
	for i := range b.Accounts {
		if b.Accounts[i].Name == name {
			return &b.Accounts[i]
		}
	}
	return nil
}

func (b *book) claimed() bool { return b.homeowners() > 0 }

func (b *book) homeowners() (n int) {
	for i := range b.Accounts {
		if b.Accounts[i].Role == Homeowner {
			n++
		}
	}
	return n
}

// put adds an account or changes one.
func (b *book) put(a Account, hash string) {
	b.Generation++
	next := account{Account: a, Password: hash, Generation: b.Generation}
	if old := b.find(a.Name); old != nil {
		*old = next
		return
	}
	b.Accounts = append(b.Accounts, next)
}

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,31}$`)

// CheckName says whether an account can be called so.
func CheckName(name string) error {
	if !nameForm.MatchString(name) {
		return &InputError{"name", "got " + quote(name) + ", want 1 to 32 small letters, digits, dots, dashes and underscores, such as home"}
	}
	return nil
}

// quote shows what a stranger typed, at most a line of it.
func quote(text string) string { return fmt.Sprintf("%.60q", text) }

// parseBook reads the accounts' file strictly.
func parseBook(raw []byte) (*book, error) {
	b := new(book)
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(b); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrDamaged, AccountsFile, err)
	}
	bad := func(format string, args ...any) (*book, error) {
		return nil, fmt.Errorf("%w: %s: %s", ErrDamaged, AccountsFile, fmt.Sprintf(format, args...))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return bad("something stands behind its end")
	}
	if b.Format != accountsFormat {
		return bad("format: got %d, want %d", b.Format, accountsFormat)
	}
	if len(b.Accounts) > maxAccounts {
		return bad("accounts: got %d, want at most %d", len(b.Accounts), maxAccounts)
	}
	seen := map[string]bool{}
	for _, a := range b.Accounts {
		_, badHash := parseHash(a.Password)
		_, badRole := ParseRole(string(a.Role))
		if err := errors.Join(CheckName(a.Name), badRole, badHash); err != nil {
			return bad("account %s: %v", quote(a.Name), err)
		}
		if seen[a.Name] || a.Generation < 1 || a.Generation > b.Generation {
			return bad("account %s: twice, or of a generation that was not given away", quote(a.Name))
		}
		seen[a.Name] = true
	}
	if len(b.Accounts) > 0 && !b.claimed() {
		return bad("accounts: none is a homeowner's")
	}
	return b, nil
}

// Folder is the accounts and the audit log of a home, for the running agent and for commands.
type Folder struct {
	dir string
	now func() time.Time
	log *auditLog

	mu    sync.Mutex
	stamp fs.FileInfo // of the file that cache was read from; nil: there was none
	cache *book
}

// OpenFolder opens a home's folder. now is the wall clock.
func OpenFolder(dir string, now func() time.Time) (*Folder, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%s is no folder", dir)
	}
	f := &Folder{dir: dir, now: now, log: &auditLog{dir: dir, now: now}}
	if _, err := f.book(); err != nil {
		return nil, err
	}
	return f, nil
}

// book is what the file says now. It is read again when it was replaced; who gets it changes nothing in it.
func (f *Folder) book() (*book, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := filepath.Join(f.dir, AccountsFile)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		f.stamp, f.cache = nil, &book{Format: accountsFormat}
		return f.cache, nil
	}
	if err != nil {
		return nil, err
	}
	if s := f.stamp; s != nil && os.SameFile(s, info) && s.ModTime().Equal(info.ModTime()) && s.Size() == info.Size() && s.Mode() == info.Mode() {
		return f.cache, nil
	}
	raw, err := readPrivate(path, maxAccountsBytes)
	if err != nil {
		return nil, err
	}
	b, err := parseBook(raw)
	if err != nil {
		return nil, err
	}
	f.stamp, f.cache = info, b
	return b, nil
}

// change changes the file, and says so in the audit log first: what cannot be noted is not done.
func (f *Folder) change(by Actor, what, detail string, edit func(*book) error) error {
	unlock, err := lock(f.dir)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := f.book()
	if err != nil {
		return err
	}
	next := *now
	next.Accounts = slices.Clone(now.Accounts)
	if err := edit(&next); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return err
	}
	if err := f.log.appendLocked(by, what, "ok", detail); err != nil {
		return err
	}
	if err := replaceFile(filepath.Join(f.dir, AccountsFile), append(raw, '\n')); err != nil {
		return errors.Join(err, f.log.appendLocked(by, what, "failed", detail))
	}
	return nil
}

// Claimed says whether the gateway has a homeowner.
func (f *Folder) Claimed() (bool, error) {
	b, err := f.book()
	return err == nil && b.claimed(), err
}

// Accounts are all, in the order in which they came.
func (f *Folder) Accounts() ([]Account, error) {
	b, err := f.book()
	if err != nil {
		return nil, err
	}
	out := []Account{}
	for i := range b.Accounts {
		out = append(out, b.Accounts[i].Account)
	}
	return out, nil
}

// Add makes an account. Without a password it makes one up and returns it.
func (f *Folder) Add(by Actor, name string, role Role, password string) (string, error) {
	if err := CheckName(name); err != nil {
		return "", err
	}
	if _, err := ParseRole(string(role)); err != nil {
		return "", err
	}
	password, err := f.passwordFor(name, password)
	if err != nil {
		return "", err
	}
	hash := hashPassword(password)
	return password, f.change(by, "account added", name+" as "+string(role), func(b *book) error {
		switch {
		case !b.claimed() && role != Homeowner:
			return fmt.Errorf("%w: the first account is its homeowner's", ErrUnclaimed)
		case b.find(name) != nil:
			return &InputError{"name", "got " + quote(name) + ", which is an account already"}
		case len(b.Accounts) >= maxAccounts:
			return &InputError{"name", fmt.Sprintf("there are %d accounts, want at most %d: remove one first", len(b.Accounts), maxAccounts)}
		}
		b.put(Account{Name: name, Role: role, Since: f.now().UTC().Truncate(time.Second)}, hash)
		return nil
	})
}

// Reset gives an account another password, and ends its sessions. Without a password it makes one
// up and returns it. An empty name is the homeowner, if there is one alone.
func (f *Folder) Reset(by Actor, name, password string) (whose, fresh string, err error) {
	b, err := f.book()
	if err != nil {
		return "", "", err
	}
	if name == "" {
		var names []string
		for i := range b.Accounts {
			if b.Accounts[i].Role == Homeowner {
				names = append(names, b.Accounts[i].Name)
			}
		}
		if len(names) > 1 {
			return "", "", &InputError{"name", "got none, want one of " + strings.Join(names, ", ")}
		}
		if len(names) == 0 {
			return "", "", ErrUnclaimed
		}
		name = names[0]
	}
	if password, err = f.passwordFor(name, password); err != nil {
		return "", "", err
	}
	hash := hashPassword(password)
	return name, password, f.change(by, "password reset", name, func(b *book) error {
		a := b.find(name)
		if a == nil {
			return unknownAccount(b, name)
		}
		b.put(a.Account, hash)
		return nil
	})
}

// Remove ends an account and its sessions. The last homeowner stays.
func (f *Folder) Remove(by Actor, name string) error {
	return f.change(by, "account removed", name, func(b *book) error {
		a := b.find(name)
		switch {
		case a == nil:
			return unknownAccount(b, name)
		case a.Role == Homeowner && b.homeowners() == 1:
			return &InputError{"name", "got " + quote(name) + ", the only homeowner: add another one first"}
		}
		b.Accounts = slices.DeleteFunc(b.Accounts, func(x account) bool { return x.Name == name })
		return nil
	})
}

func unknownAccount(b *book, name string) error {
	names := []string{}
	for i := range b.Accounts {
		names = append(names, b.Accounts[i].Name)
	}
	return &InputError{"name", "got " + quote(name) + ", want one of " + strings.Join(names, ", ")}
}

func (f *Folder) passwordFor(name, password string) (string, error) {
	if password == "" {
		return newPassword(), nil
	}
	return password, checkPassword(password, name)
}
