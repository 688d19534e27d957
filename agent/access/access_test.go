package access

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/argon2"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a wall clock that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 6, 21, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

const good = "four quiet herons wade"

var (
	home     = netip.MustParseAddr("192.168.1.20")
	stranger = netip.MustParseAddr("192.168.1.66")
)

func open(t testing.TB, c *clock) *Keeper {
	t.Helper()
	k, err := Open(Options{Dir: t.TempDir(), Now: c.now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// claimedBy is a keeper whose homeowner is ada.
func claimedBy(t testing.TB, c *clock) (k *Keeper, cookie string) {
	t.Helper()
	k = open(t, c)
	code, err := k.Code()
	if err != nil {
		t.Fatal(err)
	}
	if cookie, err = k.Claim(t.Context(), home, code, "ada", good); err != nil {
		t.Fatal(err)
	}
	return k, cookie
}

// cheap is claimedBy with a password that costs next to nothing to check, for tests that try often.
func cheap(t testing.TB, c *clock) *Keeper {
	t.Helper()
	k, _ := claimedBy(t, c)
	salt := []byte("saltsalt")
	sum := argon2.IDKey([]byte(good), salt, 1, 8, 1, 32)
	b64 := base64.RawStdEncoding
	err := k.change(Actor{}, "test", "", func(b *book) error {
		b.put(b.find("ada").Account, "$argon2id$v=19$m=8,t=1,p=1$"+b64.EncodeToString(salt)+"$"+b64.EncodeToString(sum))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Of many who have the code at once, one becomes the homeowner.
func TestClaimOnce(t *testing.T) {
	t.Parallel()
	k := open(t, newClock())
	code, err := k.Code()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	owners := 0
	for i := range 4 {
		wg.Go(func() {
			_, err := k.Claim(context.Background(), netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), code, "ada", good)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				owners++
			} else if !errors.Is(err, ErrClaimed) && !errors.As(err, new(*Wait)) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if owners != 1 {
		t.Errorf("%d became the homeowner", owners)
	}
	if again, err := Open(Options{Dir: k.dir, Now: k.now, Log: k.slog}); err != nil {
		t.Error(err)
	} else if _, err := again.Code(); !errors.Is(err, ErrClaimed) {
		t.Errorf("after a restart: got %v, want it claimed", err)
	}
}

// The code is another one at each start, and has no characters that look alike.
func TestCode(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for range 500 {
		code := random(codeChars)
		if seen[code] || len(code) != codeChars || strings.ContainsAny(code, "01OIL") || strings.Trim(code, alphabet) != "" {
			t.Fatalf("got the code %q", code)
		}
		seen[code] = true
	}
}

// A session ends when it was idle for a week, or after a month whatever was done with it.
func TestSessionTimes(t *testing.T) {
	t.Parallel()
	c := newClock()
	k, cookie := claimedBy(t, c)
	who := func(cookie string) Role {
		p, err := k.ByCookie(cookie)
		if err != nil {
			t.Fatal(err)
		}
		return p.Role
	}
	for range 4 {
		c.pass(sessionIdle)
		if who(cookie) != Homeowner {
			t.Fatal("a session that was used within its idle time has ended")
		}
	}
	c.pass(sessionLongest - 4*sessionIdle + time.Second)
	if who(cookie) != Nobody {
		t.Error("a session goes on after its longest time")
	}
	second, _, err := k.Login(t.Context(), home, "ada", good)
	if err != nil {
		t.Fatal(err)
	}
	p, err := k.ByCookie(second)
	if err != nil || !k.Alive(p) {
		t.Fatalf("got %v, %v", p, err)
	}
	c.pass(sessionIdle + time.Second)
	if k.Alive(p) || who(second) != Nobody {
		t.Error("a session goes on after it was idle")
	}
	select {
	case <-p.Done():
	default:
		t.Error("who waits for the session's end is not told")
	}
}

// There are never more sessions than the bound, and the account's own oldest goes first.
func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	c := newClock()
	s := newSessions(c.now)
	names := map[string]*account{}
	for i := range 40 {
		a := &account{Account: Account{Name: strings.Repeat("a", i+1), Role: Auditor}, Generation: 1}
		names[a.Name] = a
		first := s.begin(a, "here")
		for range maxAccountSessions {
			c.pass(time.Second)
			s.begin(a, "here")
		}
		if p := s.find(first, func(n string) *account { return names[n] }); p.Role != Nobody {
			t.Fatal("the oldest session of an account outlived its bound")
		}
	}
	if len(s.all) > MaxSessions {
		t.Errorf("%d sessions are kept, want at most %d", len(s.all), MaxSessions)
	}
}

// Strangers who try an account's name do not keep its owner out where the owner has been before,
// and nobody out for long.
func TestStrangersDoNotLockOut(t *testing.T) {
	t.Parallel()
	c := newClock()
	k := cheap(t, c)
	for i := range 3 * accountBurst {
		from := netip.AddrFrom4([4]byte{10, 0, byte(i), 1}) // each from another address
		_, _, err := k.Login(t.Context(), from, "ada", "wrong, and wrong again")
		if waits := errors.As(err, new(*Wait)); waits != (i >= accountBurst) {
			t.Fatalf("attempt %d: got %v", i, err)
		}
	}
	if _, _, err := k.Login(t.Context(), home, "ada", good); err != nil {
		t.Errorf("the owner at home: %v", err)
	}
	if _, _, err := k.Login(t.Context(), stranger, "ada", good); !errors.As(err, new(*Wait)) {
		t.Errorf("the owner at a new place meanwhile: got %v, want to wait", err)
	}
	c.pass(accountGap)
	if _, _, err := k.Login(t.Context(), stranger, "ada", good); err != nil {
		t.Errorf("the owner at a new place a minute later: %v", err)
	}
}

// A right password does not count as an attempt.
func TestRightPasswordsDoNotCount(t *testing.T) {
	t.Parallel()
	k := cheap(t, newClock())
	for range addressBurst + 2 {
		if _, _, err := k.Login(t.Context(), home, "ada", good); err != nil {
			t.Fatal(err)
		}
	}
}

// The limiter against a second one that keeps every attempt.
func TestLimiterAgainstAList(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		burst := rapid.IntRange(1, 6).Draw(t, "burst")
		gap := time.Duration(rapid.IntRange(1, 10).Draw(t, "gap")) * time.Second
		l := newLimiter(burst, gap, 100, c.now)
		left := map[string]time.Duration{} // attempts in stock, times gap
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "wait") {
				d := time.Duration(rapid.IntRange(0, 30).Draw(t, "for")) * time.Second / 2
				c.pass(d)
				for k := range left {
					left[k] = min(left[k]+d, time.Duration(burst)*gap)
				}
				continue
			}
			key := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key")
			if _, ok := left[key]; !ok {
				left[key] = time.Duration(burst) * gap
			}
			err := l.take(key)
			if want := left[key] >= gap; want != (err == nil) {
				t.Fatalf("%s has %v of %v: got %v", key, left[key], gap, err)
			}
			if w := (*Wait)(nil); errors.As(err, &w) && w.For != gap-left[key] {
				t.Fatalf("%s has %v of %v: told to wait %v", key, left[key], gap, w.For)
			}
			if err == nil {
				left[key] -= gap
			}
		}
	})
}

// However many addresses there are, the limiter's memory is bounded, and those it knows are unaffected.
func TestLimiterIsBounded(t *testing.T) {
	t.Parallel()
	c := newClock()
	l := newLimiter(2, time.Minute, 10, c.now)
	refused := 0
	for i := range 10_000 {
		if l.take(addressKey(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))) != nil {
			refused++
		}
	}
	if len(l.buckets) > 10 || refused < 9_900 {
		t.Errorf("%d buckets, %d refused of 10000", len(l.buckets), refused)
	}
	if err := l.take("10.0.0.1"); err != nil {
		t.Errorf("one of the first: %v", err)
	}
	c.pass(2 * time.Minute)
	if err := l.take("new"); err != nil || len(l.buckets) > 10 {
		t.Errorf("after a while: %v, %d buckets", err, len(l.buckets))
	}
	if a, b := addressKey(netip.MustParseAddr("2001:db8::1")), addressKey(netip.MustParseAddr("2001:db8::ffff:1")); a != b {
		t.Errorf("addresses of one network are %s and %s", a, b)
	}
	if got := addressKey(netip.MustParseAddr("::ffff:192.0.2.1")); got != "192.0.2.1" {
		t.Errorf("got %s", got)
	}
}

// A file that others can read, or that is not what was written, is no file without accounts.
func TestAccountsFile(t *testing.T) {
	t.Parallel()
	c := newClock()
	k, cookie := claimedBy(t, c)
	path := filepath.Join(k.dir, AccountsFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	write(string(raw), 0o644)
	if _, err := k.ByCookie(cookie); !errors.As(err, new(*ExposedError)) {
		t.Errorf("others can read it: got %v", err)
	}
	for name, text := range map[string]string{
		"empty":                 "",
		"of another kind":       "[]",
		"of another format":     strings.Replace(string(raw), `"format": 1`, `"format": 2`, 1),
		"with another key":      strings.Replace(string(raw), `"format"`, `"fromat"`, 1),
		"without a homeowner":   strings.Replace(string(raw), `"homeowner"`, `"operator"`, 1),
		"with another role":     strings.Replace(string(raw), `"homeowner"`, `"king"`, 1),
		"with greedy memory":    strings.Replace(string(raw), "m=19456", "m=4194304", 1),
		"with a long name":      strings.Replace(string(raw), `"ada"`, `"`+strings.Repeat("a", 33)+`"`, 1),
		"of an unborn age":      strings.Replace(string(raw), `"generation": 1,`, `"generation": 0,`, 1),
		"and something behind":  string(raw) + "{}",
		"larger than they come": string(raw) + strings.Repeat(" ", maxAccountsBytes),
	} {
		write(text, 0o600)
		if _, err := k.ByCookie(cookie); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want ErrDamaged", name, err)
		}
		if claimed, err := k.Claimed(); err == nil || claimed {
			t.Errorf("%s: got %v, %v, want neither claimed nor not", name, claimed, err)
		}
	}
	write(string(raw), 0o600)
	if p, err := k.ByCookie(cookie); err != nil || p.Role != Homeowner {
		t.Errorf("after it was put back: got %v, %v", p, err)
	}
}

// A link in the place of a file is not followed: a command that root types would give its target away.
func TestLinksAreNotFollowed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{lockFile, AuditFile} {
		f := folder(t, newClock())
		target := filepath.Join(t.TempDir(), "target")
		if err := errors.Join(os.WriteFile(target, []byte("somebody's\n"), 0o600), os.Symlink(target, filepath.Join(f.dir, name))); err != nil {
			t.Fatal(err)
		}
		if err := f.log.append(Actor{Name: "ada"}, "test", "ok", ""); err == nil {
			t.Errorf("%s was followed", name)
		}
		if raw, err := os.ReadFile(target); err != nil || string(raw) != "somebody's\n" {
			t.Errorf("%s: the target has %q, %v", name, raw, err)
		}
	}
}

func TestPasswords(t *testing.T) {
	t.Parallel()
	for password, ok := range map[string]bool{
		good: true, "correct horse battery": true, "Zwölf Boxkämpfer jagen": true, "0f9a-22kk-19ab": true,
		"": false, "short": false, "eleven char": false, strings.Repeat("ab", 8): false, "ada ada ada ada": false,
		"commonwatt1234": false, "password12345678": false, "tab\tin the middle": false, "\xff\xfe not text at all": false,
		strings.Repeat("many words ", 24): false,
	} {
		err := checkPassword(password, "ada")
		if (err == nil) != ok || err != nil && !errors.As(err, new(*InputError)) {
			t.Errorf("%q: got %v", password, err)
		}
	}
	hash := hashPassword(good)
	k, err := parseHash(hash)
	if err != nil || !k.fits(good) || k.fits(good+" ") {
		t.Errorf("%s: %v", hash, err)
	}
	if hashPassword(good) == hash {
		t.Error("two hashes of a password are the same: no salt")
	}
	if p := newPassword(); checkPassword(p, "ada") != nil || len(p) != 24 {
		t.Errorf("made up %q, which would be refused", p)
	}
}

// FuzzHash: whatever stands in the file, the answer is an error or parameters within bounds.
func FuzzHash(f *testing.F) {
	f.Add("$argon2id$v=19$m=19456,t=3,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo")
	f.Add("$argon2id$v=19$m=99999999,t=1,p=255$$")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := parseHash(text)
		if err == nil && (k.memory > maxArgonMemory || k.passes > maxArgonPasses || k.passes == 0 || k.threads == 0 || len(k.salt) < 8 || len(k.sum) < 16) {
			t.Errorf("%q: got %+v", text, k)
		}
	})
}

// FuzzAccounts: whatever the file is, the answer is an error or accounts of which one is a homeowner's.
func FuzzAccounts(f *testing.F) {
	f.Add([]byte(`{"format":1,"generation":1,"accounts":[{"name":"ada","role":"homeowner","since":"2026-06-21T12:00:00Z","password":"$argon2id$v=19$m=19456,t=3,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNo","generation":1}]}`))
	f.Add([]byte(`{"format":1,"generation":0,"accounts":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if b, err := parseBook(raw); err == nil && len(b.Accounts) > 0 && !b.claimed() {
			t.Errorf("%s: got accounts without a homeowner", raw)
		}
	})
}
