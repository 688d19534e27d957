package access

import (
	"crypto/sha256"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of sessions.
const (
	MaxSessions        = 256
	maxAccountSessions = 16
	sessionIdle        = 7 * 24 * time.Hour
	sessionLongest     = 30 * 24 * time.Hour
)

// Session is one browser that has logged in.
type Session struct {
	ID      string // public: to name it on the settings page
	Account string
	From    string // the address it began at
	Began   time.Time
	Seen    time.Time
}

// session is a Session with what is kept to itself.
type session struct {
	Session

	generation int64 // of the account when it began
	done       chan struct{}
}

// sessions are all that are open. The key is the hash of what the browser holds.
type sessions struct {
	now func() time.Time
	mu  sync.Mutex
	all map[[sha256.Size]byte]*session
}

func newSessions(now func() time.Time) *sessions {
	return &sessions{now: now, all: map[[sha256.Size]byte]*session{}}
}

// begin opens a session and returns what the browser is to hold. Of too many the one that was
// not seen for longest ends, the account's own first.
func (s *sessions) begin(a *account, from string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if own := s.count(a.Name); own >= maxAccountSessions {
		s.endOldest(a.Name)
	} else if len(s.all) >= MaxSessions {
		s.endOldest("")
	}
	token, now := newToken(), s.now()
	s.all[sha256.Sum256([]byte(token))] = &session{
		Session:    Session{ID: strings.ToLower(random(8)), Account: a.Name, From: from, Began: now, Seen: now},
		generation: a.Generation, done: make(chan struct{}),
	}
	return token
}

func (s *sessions) count(account string) (n int) {
	for _, x := range s.all {
		if x.Account == account {
			n++
		}
	}
	return n
}

// endOldest ends the session of an account, or of any, that was not seen for longest.
func (s *sessions) endOldest(account string) {
	var oldest *session
	for _, x := range s.all {
		if (account == "" || x.Account == account) && (oldest == nil || x.Seen.Before(oldest.Seen)) {
			oldest = x
		}
	}
	s.endIf(func(x *session) bool { return x == oldest })
}

// endIf ends the sessions that a question answers yes to, and counts them. s.mu is held.
func (s *sessions) endIf(f func(*session) bool) (n int) {
	for key, x := range s.all {
		if f(x) {
			close(x.done)
			delete(s.all, key)
			n++
		}
	}
	return n
}

func (s *sessions) end(f func(*session) bool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.endIf(f)
}

// find returns who a browser's token is for and notes that they were seen. It ends the session
// if its time is over or its account is not what it was.
func (s *sessions) find(token string, account func(name string) *account) Principal {
	if len(token) != 2*tokenBytes {
		return Principal{}
	}
	key := sha256.Sum256([]byte(token))
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.all[key]
	if x == nil {
		return Principal{}
	}
	role := s.roleOf(x, account)
	if role == Nobody {
		s.endIf(func(y *session) bool { return x == y })
		return Principal{}
	}
	x.Seen = s.now()
	return Principal{Account: x.Account, Role: role, Session: x.ID, done: x.done}
}

// alive says whether a session still holds.
func (s *sessions) alive(id string, account func(name string) *account) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.all {
		if x.ID == id {
			return s.roleOf(x, account) != Nobody
		}
	}
	return false
}

// roleOf is the role of a session's account; nobody's if the session is over.
func (s *sessions) roleOf(x *session, account func(name string) *account) Role {
	now, a := s.now(), account(x.Account)
	if a == nil || a.Generation != x.generation || now.Sub(x.Seen) > sessionIdle || now.Sub(x.Began) > sessionLongest {
		return Nobody
	}
	return a.Role
}

// list is of one account, or of all; newest first. Those whose time is over end here.
func (s *sessions) list(name string, account func(name string) *account) []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endIf(func(x *session) bool { return s.roleOf(x, account) == Nobody })
	out := []Session{}
	for _, x := range s.all {
		if name == "" || x.Account == name {
			out = append(out, x.Session)
		}
	}
	slices.SortFunc(out, func(a, b Session) int {
		if c := b.Seen.Compare(a.Seen); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return out
}
