package consensus

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// membersEvery is how often a light home asks who the members are, if it does not notice
// before that there are more of them. Nearly always the answer is that nothing has changed.
const (
	membersEvery = time.Minute
	// membersAgain is after which time it asks once more if there was no answer, for which it
	// waits membersWait.
	membersAgain = 5 * time.Second
	membersWait  = 5 * time.Second

	// seekAllAfter is how long after its start a light home calls all members, if few of those
	// that it knows to hold the ledger answer.
	seekAllAfter = 30 * time.Second
)

// hearsay is whom a light home may connect to by what it was told. The leaves prove how many
// households there are, but not which network keys theirs are: those are in records that it
// does not hold. So it has them from a home that it knows without being told, and from no
// other, so that nobody who was only named by another names more.
//
// Nothing that is verified rests on it. Whom it lets in can ask a light home nothing, and
// what such a home answers is believed as little as what any other does. Whoever lies here can
// leave members out, as it can keep silent itself, and name strangers: they see of this home
// what the liar sees anyway, take the place of providers, and confirm headers that two thirds
// of the validators signed. Those known without being told are therefore asked first.
type hearsay struct {
	keys       map[ledger.Key]bool
	hash       [32]byte // of the list, for the next question
	households int      // how many the leaves proved when it was asked
	at         time.Time
}

// Connects says whether this home may connect to the owner of a network key: a member as far
// as it has a record of that, somebody that LightConfig names, or one of whom it was told.
func (l *Light) Connects(network ed25519.PublicKey) bool {
	if l.sure(network) {
		return true
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(network) == ed25519.PublicKeySize && l.told.keys[ledger.KeyOf(network)]
}

// Seeks says whether this home should call a member that has not called it: somebody that
// LightConfig names, or a validator. Others hardly ever hold the ledger, and each connection
// costs all day long; they are called if those who can be asked are still few after a while.
func (l *Light) Seeks(network ed25519.PublicKey) bool {
	if slices.ContainsFunc(l.cfg.Named, func(k ed25519.PublicKey) bool { return k.Equal(network) }) {
		return true
	}
	if slices.ContainsFunc(l.now().state.Validators(), func(v ledger.Validator) bool { return bytes.Equal(v.Network[:], network) }) {
		return true
	}
	return l.cfg.Now().Sub(l.made) >= seekAllAfter && len(l.providers()) < submitTo
}

// sure says whether a network key is known without having been told of.
func (l *Light) sure(network ed25519.PublicKey) bool { return l.sureOf(l.now().state, network) }

func (l *Light) sureOf(s *ledger.State, network ed25519.PublicKey) bool {
	return s.IsMember(network) || slices.ContainsFunc(l.cfg.Named, func(k ed25519.PublicKey) bool { return k.Equal(network) })
}

// sureFirst brings those providers to the front that were not only told of.
func (l *Light) sureFirst(all []Provider) []Provider {
	rank := func(p Provider) int {
		if l.sure(p.Key) {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(all, func(a, b Provider) int { return rank(a) - rank(b) })
	return all
}

// learnMembers asks who the members are, if it is time to. What comes of it is no condition
// of anything: without an answer it stays with what was known.
func (l *Light) learnMembers(ctx context.Context) {
	l.mu.RLock()
	was, households := l.told, householdsIn(l.known.state)
	l.mu.RUnlock()
	now := l.cfg.Now()
	if households == was.households && !was.at.IsZero() && now.Sub(was.at) < membersEvery {
		return
	}
	all := l.providers()
	at := slices.IndexFunc(all, func(p Provider) bool { return l.sure(p.Key) })
	if at < 0 {
		return
	}
	p := all[at]
	next := was
	next.households, next.at = households, now
	ctx, cancel := context.WithTimeout(ctx, membersWait) // so that silence does not keep it from the ledger
	defer cancel()
	a, err := Put[MembersAnswer](ctx, l.cfg.Ask, p.ID, AskMembers, MembersQuestion{Have: was.hash})
	if err == nil && (!a.Same || was.keys == nil) {
		next.hash = sha256.Sum256(a.Keys)
		next.keys, err = a.members()
	}
	switch {
	case errors.Is(err, ErrAnswer):
		_ = l.accuse(p, "its list of the members cannot be read: %v", err) // noted there; the next is asked next time
		return
	case err != nil:
		next.at = now.Add(membersAgain - membersEvery)
		l.log.DebugContext(ctx, "asking who the members are", "provider", p.ID, "err", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = next
}

// householdsIn counts the households that the leaves prove.
func householdsIn(s *ledger.State) (n int) {
	for key := range s.Leaves() {
		if ledger.IsHouseholdKey(key) {
			n++
		}
	}
	return n
}
