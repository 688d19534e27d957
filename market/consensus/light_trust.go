package consensus

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// Accusation names a provider that said something that can be shown to be wrong.
type Accusation struct {
	Provider string            // as the network names it
	Key      ed25519.PublicKey // its network key
	Name     string            // of its household or validator, where that is known
	Why      string
	At       time.Time
}

// ProviderStatus is a home that a light home asks.
type ProviderStatus struct {
	ID     string
	Name   string
	Height int64 // of the newest header that it has shown; 0: none yet
	// Withholds: others had a block long before this one admits to it.
	Withholds bool
	Accused   *Accusation
}

// Fork is what a light home has seen when validators signed two headers of one block.
type Fork struct {
	Height     int64
	Hashes     [2]string
	Providers  [2]string // who gave them
	Validators []string  // who signed both
	At         time.Time
}

// String says it to people.
func (f *Fork) String() string {
	return fmt.Sprintf("block %d: provider %s has %.16s, provider %s has %.16s, and validators %v signed both", f.Height,
		f.Providers[0], f.Hashes[0], f.Providers[1], f.Hashes[1], f.Validators)
}

// maxAccused bounds the table of those accused: only members can be asked.
const maxAccused = 256

// trust is what a Light thinks of its providers. The lock is Light.mu.
type trust struct {
	first   string // is asked first
	accused map[string]*Accusation
	seen    map[string]*sighting
	fork    *Fork
	waiting string // why nothing new is shown, in words; empty: all is well
	alone   bool   // the newest header was confirmed by nobody else
	last    time.Time
}

// sighting is the newest header that a provider has admitted to.
type sighting struct {
	height    int64
	withholds bool
}

// accuse names a liar (N3).
func (l *Light) accuse(p Provider, format string, args ...any) error {
	a := &Accusation{Provider: p.ID, Key: p.Key, Name: l.nameOf(l.now().state, p), Why: fmt.Sprintf(format, args...), At: l.cfg.Now().UTC()}
	l.mu.Lock()
	if l.trust.accused == nil {
		l.trust.accused = map[string]*Accusation{}
	}
	fresh := l.trust.accused[p.ID] == nil
	if fresh && len(l.trust.accused) < maxAccused {
		l.trust.accused[p.ID] = a
	}
	l.mu.Unlock()
	if !fresh {
		return fmt.Errorf("%w: %s: %s", errLied, p.ID, a.Why)
	}
	l.log.Error("a provider lied and is not asked again", "provider", p.ID, "key", keyText(p.Key), "name", a.Name, "why", a.Why)
	return fmt.Errorf("%w: %s: %s", errLied, p.ID, a.Why)
}

// saw notes how far a provider admits to be.
func (l *Light) saw(p Provider, height int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trust.seen == nil || len(l.trust.seen) > maxAccused {
		l.trust.seen = map[string]*sighting{}
	}
	s := l.trust.seen[p.ID]
	if s == nil {
		s = &sighting{}
		l.trust.seen[p.ID] = s
	}
	s.height = max(s.height, height)
	behind := height < l.known.height && l.cfg.Now().Sub(l.known.at) > l.cfg.Lag
	if behind && !s.withholds {
		l.log.Warn("a provider withholds blocks, or is far behind", "provider", p.ID, "key", keyText(p.Key), "height", height, "others", l.known.height)
	}
	s.withholds = behind
}

// note remembers how asking a provider went, and turns to another after a failure.
func (l *Light) note(p Provider, err error) {
	all := l.providers()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.trust.first, l.trust.waiting, l.trust.last = p.ID, "", l.cfg.Now()
		return
	}
	if at := slices.IndexFunc(all, func(o Provider) bool { return o.ID != p.ID }); at >= 0 {
		l.trust.first = all[at].ID
	}
	switch {
	case l.trust.fork != nil:
		l.trust.waiting = "stopped: " + l.trust.fork.String() + "; ask your cooperative which of the two is right, take the other provider out of peers.bootstrap in agent.yaml and start again"
	case errors.Is(err, errLied), errors.Is(err, errBehind) && l.trust.waiting == "":
	default:
		l.trust.waiting = err.Error()
	}
	l.log.Info("ledger not followed", "provider", p.ID, "err", err)
}

// awaitNews returns when a provider says that there is a newer header, or after a while. All
// that are asked are asked at once, so that one who keeps news back delays nobody. Somebody
// who has connected since and could give the second opinion that is missing is news, too.
func (l *Light) awaitNews(ctx context.Context) {
	all := l.providers()
	providers := all[:min(len(all), submitTo)]
	above, wait := l.now().height, uint32(min(max(l.cfg.Wait, 0), MaxWait)/time.Millisecond)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	news := make(chan string, len(providers))
	for _, p := range providers {
		go func() {
			a, err := Put[HeaderAnswer](ctx, l.cfg.Ask, p.ID, AskHeader, HeaderQuestion{Above: above, Wait: wait})
			if err == nil {
				l.saw(p, a.Newest)
			}
			if err != nil || a.Newest <= above {
				p.ID = ""
			}
			news <- p.ID
		}()
	}
	first := ""
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for left := len(providers); left > 0; { // all: no goroutine is left behind
		select {
		case id := <-news:
			left--
			if id != "" && first == "" {
				first = id
				cancel() // the others are told by the next question
			}
		case <-look.C:
			if l.hasSecond(all) {
				cancel()
			}
		}
	}
	if first == "" {
		l.pause(ctx, min(l.cfg.Pause, time.Second)) // where a provider is too busy to wait
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trust.first = first
}

// hasSecond says whether nobody confirmed the newest header, and there is a provider now that
// was not among those before.
func (l *Light) hasSecond(before []Provider) bool {
	l.mu.RLock()
	alone := l.trust.alone
	l.mu.RUnlock()
	return alone && slices.ContainsFunc(l.providers(), func(p Provider) bool {
		return !slices.ContainsFunc(before, func(b Provider) bool { return b.ID == p.ID })
	})
}

// nameOf names a provider for people: the validator whose home it is, or its household. It is
// empty where this home's records do not say whose network key that is.
func (l *Light) nameOf(s *ledger.State, p Provider) string {
	for _, v := range s.Validators() {
		if bytes.Equal(v.Network[:], p.Key) {
			address := ledger.AddressOf(v.Key)
			return l.validatorName(fmt.Sprintf("%X", address[:]))
		}
	}
	if id, ok := s.HouseholdByNetwork(p.Key); ok {
		return "household " + id.String()
	}
	return ""
}
