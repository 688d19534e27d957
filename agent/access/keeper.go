package access

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// How often who may try. A guess at the code is one in 31^8, at a password one at a made-up one in
// 2^99; these keep either out of reach, and the gateway at its work.
const (
	maxStrangers  = 4096 // addresses with a bucket of their own
	claimBurst    = 5
	claimGap      = 30 * time.Second
	addressBurst  = 10
	addressGap    = 20 * time.Second
	accountBurst  = 20
	accountGap    = time.Minute
	requestBurst  = 300
	requestGap    = time.Second / 20
	noteBurst     = 20 // lines about refusals in the audit log
	noteGap       = 30 * time.Second
	checksWaiting = 4 // for their turn at a password's hash
	codeChars     = 8
)

// Options are what Open needs; all are required.
type Options struct {
	Dir string           // the home's folder
	Now func() time.Time // the wall clock
	Log *slog.Logger
}

// Keeper decides, for the running agent, who somebody is. One is open for a folder at a time.
type Keeper struct {
	*Folder

	sessions *sessions
	token    [sha256.Size]byte
	code     string
	slog     *slog.Logger
	nobody   kept // what is checked where there is no such account, so that it takes as long

	claims, addresses, byAccount, requests, notes *limiter

	turn chan struct{} // of capacity 1: one hash at a time
	wait chan struct{} // those who stand in line

	mu    sync.Mutex
	known map[string]bool // account and address that have logged in since the start
}

// Open prepares a home's access: it writes the token of its commands and makes the code of this start.
func Open(o Options) (*Keeper, error) {
	folder, err := OpenFolder(o.Dir, o.Now)
	if err != nil {
		return nil, err
	}
	token, err := writeToken(o.Dir)
	if err != nil {
		return nil, err
	}
	nobody, err := parseHash(hashPassword(newPassword()))
	if err != nil {
		return nil, err
	}
	code := random(codeChars)
	return &Keeper{
		Folder: folder, sessions: newSessions(o.Now), token: sha256.Sum256([]byte(token)), code: code, slog: o.Log, nobody: nobody,
		claims:    newLimiter(claimBurst, claimGap, maxStrangers, o.Now),
		addresses: newLimiter(addressBurst, addressGap, maxStrangers, o.Now),
		byAccount: newLimiter(accountBurst, accountGap, maxAccounts, o.Now),
		requests:  newLimiter(requestBurst, requestGap, maxStrangers, o.Now),
		notes:     newLimiter(noteBurst, noteGap, maxAccounts, o.Now),
		turn:      make(chan struct{}, 1), wait: make(chan struct{}, checksWaiting), known: map[string]bool{},
	}, nil
}

// Close takes the token of the commands away: nobody listens to it any more.
func (k *Keeper) Close() error {
	if err := os.Remove(filepath.Join(k.dir, TokenFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Code is what claims the gateway, as it is shown; ErrClaimed if it is claimed.
func (k *Keeper) Code() (string, error) {
	claimed, err := k.Claimed()
	if err != nil {
		return "", err
	}
	if claimed {
		return "", ErrClaimed
	}
	return k.code[:codeChars/2] + "-" + k.code[codeChars/2:], nil
}

// Claim makes the homeowner's account for who has the code, and logs them in.
func (k *Keeper) Claim(ctx context.Context, from netip.Addr, code, name, password string) (cookie string, err error) {
	if _, err := k.Code(); err != nil {
		return "", err
	}
	if err := k.claims.take(addressKey(from)); err != nil {
		return "", err
	}
	by := Actor{Name: "-", From: from.String()}
	typed := strings.Map(func(r rune) rune {
		if strings.ContainsRune(" -", r) {
			return -1
		}
		return r
	}, strings.ToUpper(code))
	if subtle.ConstantTimeCompare([]byte(typed), []byte(k.code)) != 1 {
		k.Note(by, "claim", "refused", "not the code")
		return "", ErrCode
	}
	k.claims.giveBack(addressKey(from))
	if err := cmp.Or(CheckName(name), checkPassword(password, name)); err != nil {
		return "", err
	}
	if err := k.inTurn(ctx, func() { password = hashPassword(password) }); err != nil {
		return "", err
	}
	err = k.change(by, "claim", name, func(b *book) error {
		if b.claimed() {
			return ErrClaimed
		}
		b.put(Account{Name: name, Role: Homeowner, Since: k.now().UTC().Truncate(time.Second)}, password)
		return nil
	})
	if err != nil {
		return "", err
	}
	return k.begin(name, from)
}

func (k *Keeper) begin(name string, from netip.Addr) (string, error) {
	b, err := k.book()
	if err != nil {
		return "", err
	}
	a := b.find(name)
	if a == nil {
		return "", ErrCredentials // removed a moment ago
	}
	k.remember(name + " " + from.String())
	return k.sessions.begin(a, from.Unmap().String()), nil
}

// Login opens a session for a name and its password.
func (k *Keeper) Login(ctx context.Context, from netip.Addr, name, password string) (cookie string, role Role, err error) {
	if err := k.check(ctx, from, name, password); err != nil {
		return "", Nobody, err
	}
	b, err := k.book()
	if err != nil {
		return "", Nobody, err
	}
	if a := b.find(name); a != nil {
		role = a.Role
	}
	cookie, err = k.begin(name, from)
	if err == nil {
		k.Note(Actor{Name: name, Role: role, From: from.String()}, "login", "ok", "")
	}
	return cookie, role, err
}

// check compares a password. It counts as an attempt unless it is right. Where an account has
// logged in from an address, strangers who try its name from elsewhere are no reason to wait.
func (k *Keeper) check(ctx context.Context, from netip.Addr, name, password string) error {
	b, err := k.book()
	if err != nil {
		return err
	}
	if !b.claimed() {
		return ErrUnclaimed
	}
	key := addressKey(from)
	if err := k.addresses.take(key); err != nil {
		return err
	}
	by := Actor{Name: "-", From: from.String()}
	a := b.find(name)
	limited := a != nil && !k.knows(name+" "+from.String())
	if limited {
		if err := k.byAccount.take(name); err != nil {
			return err
		}
	}
	hash := k.nobody
	if a != nil {
		if hash, err = parseHash(a.Password); err != nil {
			return err
		}
	}
	right := false
	if len(password) <= maxPasswordBytes {
		if err := k.inTurn(ctx, func() { right = hash.fits(password) }); err != nil {
			return err
		}
	}
	if a == nil || !right {
		detail := "no such account"
		if a != nil {
			by.Name, by.Role, detail = name, a.Role, "wrong password"
		}
		k.Note(by, "login", "refused", detail)
		return ErrCredentials
	}
	k.addresses.giveBack(key)
	if limited {
		k.byAccount.giveBack(name)
	}
	return nil
}

// inTurn does what takes an argon2's memory, one at a time; few wait, and not for long.
func (k *Keeper) inTurn(ctx context.Context, f func()) error {
	select {
	case k.wait <- struct{}{}:
	default:
		return &Wait{For: time.Second}
	}
	defer func() { <-k.wait }()
	select {
	case k.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-k.turn }()
	f()
	return nil
}

func (k *Keeper) knows(pair string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known[pair]
}

func (k *Keeper) remember(pair string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.known) < MaxSessions {
		k.known[pair] = true
	}
}

// ByCookie is who holds a session; nobody if it is none.
func (k *Keeper) ByCookie(cookie string) (Principal, error) {
	b, err := k.book()
	if err != nil {
		return Principal{}, err
	}
	return k.sessions.find(cookie, b.find), nil
}

// Alive says whether a principal's session still holds, without prolonging it.
func (k *Keeper) Alive(p Principal) bool {
	b, err := k.book()
	return err == nil && (p.done == nil || k.sessions.alive(p.Session, b.find))
}

// ByToken says whether a secret is that of this machine's commands.
func (k *Keeper) ByToken(secret string) bool {
	sum := sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(sum[:], k.token[:]) == 1
}

// Request counts a request of somebody, and says how long to wait if there were too many.
func (k *Keeper) Request(p Principal, from netip.Addr) error {
	if p.Account != "" {
		return k.requests.take("@" + p.Account)
	}
	return k.requests.take(addressKey(from))
}

// Logout ends the session of who asks.
func (k *Keeper) Logout(p Principal, from netip.Addr) {
	if k.sessions.end(func(x *session) bool { return p.Session != "" && x.ID == p.Session }) > 0 {
		k.Note(p.actor(from), "logout", "ok", "")
	}
}

// ChangePassword gives the account of who asks another password. All its sessions end, and one begins.
func (k *Keeper) ChangePassword(ctx context.Context, p Principal, from netip.Addr, old, password string) (cookie string, err error) {
	if err := checkPassword(password, p.Account); err != nil {
		return "", err
	}
	if err := k.check(ctx, from, p.Account, old); err != nil {
		return "", err
	}
	if err := k.inTurn(ctx, func() { password = hashPassword(password) }); err != nil {
		return "", err
	}
	err = k.change(p.actor(from), "password changed", p.Account, func(b *book) error {
		a := b.find(p.Account)
		if a == nil {
			return ErrCredentials
		}
		b.put(a.Account, password)
		return nil
	})
	if err != nil {
		return "", err
	}
	k.sessions.end(func(x *session) bool { return x.Account == p.Account })
	return k.begin(p.Account, from)
}

// AddAccount is Add, in turn with those who log in.
func (k *Keeper) AddAccount(ctx context.Context, p Principal, from netip.Addr, name string, role Role, password string) (fresh string, err error) {
	turn := k.inTurn(ctx, func() { fresh, err = k.Add(p.actor(from), name, role, password) })
	return fresh, errors.Join(turn, err)
}

// Sessions are those of the account that asks; a homeowner sees all.
func (k *Keeper) Sessions(p Principal) ([]Session, error) {
	b, err := k.book()
	if err != nil {
		return nil, err
	}
	account := p.Account
	if p.Role == Homeowner {
		account = ""
	}
	return k.sessions.list(account, b.find), nil
}

// EndSession ends a session of the account that asks; a homeowner ends any.
func (k *Keeper) EndSession(p Principal, from netip.Addr, id string) error {
	n := k.sessions.end(func(x *session) bool { return x.ID == id && (x.Account == p.Account || p.Role == Homeowner) })
	if n == 0 {
		return &InputError{"session", "got " + quote(id) + ", which is none, or ended already"}
	}
	k.Note(p.actor(from), "session ended", "ok", id)
	return nil
}

// Note writes to the audit log. What cannot be written is in the agent's log.
func (k *Keeper) Note(by Actor, what, result, detail string) {
	if result == "refused" {
		if err := k.notes.take(by.Name); err != nil {
			return // there are enough lines of this kind
		}
	}
	if err := k.log.append(by, what, result, detail); err != nil {
		k.slog.Error("audit log not written", "what", what, "who", by.Name, "err", err)
	}
}

func (p Principal) actor(from netip.Addr) Actor {
	return Actor{Name: p.Name(), Role: p.Role, From: from.Unmap().String()}
}

// Actor is a principal with an address, for the audit log.
func (p Principal) Actor(from netip.Addr) Actor { return p.actor(from) }

// String is for logs.
func (p Principal) String() string { return fmt.Sprintf("%s (%s)", p.Name(), p.Role) }
