package consensus

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Errors of a Light.
var (
	// ErrNoProvider: nobody can be asked, or nobody answered.
	ErrNoProvider = errors.New("no provider answers")
	// ErrFork: validators have signed two headers of one block. A light home stops there:
	// it cannot know which of the two its community goes on with.
	ErrFork = errors.New("validators signed two different blocks")
	// ErrOnlyOwn: a light home has nobody's settlements but its own.
	ErrOnlyOwn = errors.New("a light home holds its own account only; ask a validator or a replica for others'")

	// errBehind: the provider has not got what is asked for yet.
	errBehind = errors.New("the provider is behind")
	// errLied: the provider has been accused.
	errLied = errors.New("the provider lied")
)

// LightConfig is what a Light needs; all fields but the last six are required.
type LightConfig struct {
	Genesis   []byte             // the genesis document: all trust begins with it
	Household market.HouseholdID // whose home this is
	File      string             // where the newest headers are kept: a few kB
	Ask       Ask
	Providers Providers

	// Named are the network keys of homes that the owner of this one named: they may connect
	// without being members by what this home holds.
	Named []ed25519.PublicKey
	// Lag is for how long a provider may not know a block that others have before it is
	// said to withhold it. Default 2 min.
	Lag time.Duration
	// Wait is how long a question for news waits. Default and at most MaxWait.
	Wait time.Duration
	// Pause is how long to wait after a failure. Default 2 s.
	Pause time.Duration
	// Now is the wall clock; it judges headers that claim to be of the future. Default time.Now.
	Now func() time.Time
	Log *slog.Logger // nil: nothing is logged
}

// Light follows the ledger without holding it. It verifies headers by the validators'
// signatures (CometBFT's light client), keeps the leaves under the newest AppHash and the
// records that concern its own household, and checks its settlements against the hash chains
// in those. All of it is asked of providers, none of whom is trusted.
//
// Invariants; tests quote them by number.
//
//	N1  What Read shows has the AppHash of a header that more than two thirds of the validators
//	    signed, and that every other provider at hand has too, or said nothing of.
//	N2  A state is shown only with all settlements of the own household that its record counts.
//	N3  A provider that says what can be shown to be wrong is named with its reason and not
//	    asked again before the next start.
//	N4  Two headers of one block, both signed by two thirds: nothing is shown after that, and
//	    the validators that signed both are named (ErrFork).
//	N5  The disk has the newest few headers and nothing else.
//
// All methods are safe for concurrent use. Run owns all goroutines.
type Light struct {
	cfg     LightConfig
	log     *slog.Logger
	anchor  *Anchor
	names   map[string]string // validators' names by address
	headers *headerStore
	events  events
	ran     atomic.Bool
	made    time.Time

	mu    sync.RWMutex // guards what follows; the state in it is replaced, never changed
	known known
	trust trust
	told  hearsay
}

// known is all that a Light has verified, as of one header.
type known struct {
	state   *ledger.State
	height  int64 // of the header whose AppHash it has; 0: the state before the first block
	signed  *SignedHeader
	way     []Change // of the validators, proven
	lines   map[market.Month]*monthLines
	results *resultLines
	hashes  map[int64][]byte // AppHash after a block, of the newest blocks
	at      time.Time        // when it was verified, by the wall clock
}

// keptHashes bounds known.hashes.
const keptHashes = 256

// NewLight reads the genesis document, and the headers that were verified before. It asks
// nobody.
func NewLight(cfg LightConfig) (*Light, error) {
	setDefault(&cfg.Lag, 2*time.Minute)
	setDefault(&cfg.Wait, MaxWait)
	setDefault(&cfg.Pause, 2*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Ask == nil || cfg.Providers == nil || cfg.File == "" || cfg.Household == (market.HouseholdID{}) {
		return nil, fmt.Errorf("%w: LightConfig: Ask, Providers, File and Household are needed", ErrConfig)
	}
	doc, g, err := parseGenesis(cfg.Genesis)
	if err != nil {
		return nil, err
	}
	l := &Light{cfg: cfg, log: cfg.Log, names: map[string]string{}, made: cfg.Now()}
	for _, v := range doc.Validators {
		l.names[v.Address.String()] = v.Name
	}
	if l.anchor, err = NewAnchor(cfg.Genesis); err != nil {
		return nil, err
	}
	if l.headers, err = openHeaderStore(cfg.File, doc.ChainID); err != nil {
		return nil, err
	}
	state, err := ledger.NewState(doc.ChainID, g)
	if err != nil {
		return nil, err
	}
	l.known = known{state: state, lines: map[market.Month]*monthLines{}, results: &resultLines{}, hashes: map[int64][]byte{}}
	return l, nil
}

// Run follows the ledger until ctx ends. It may be called once.
func (l *Light) Run(ctx context.Context) error {
	if l.ran.Swap(true) {
		return ErrClosed
	}
	defer l.events.close()
	for ctx.Err() == nil {
		l.learnMembers(ctx)
		provider, err := l.choose()
		if err == nil {
			err = l.advance(ctx, provider)
		}
		if ctx.Err() != nil {
			break
		}
		l.note(provider, err)
		switch {
		case errors.Is(err, ErrFork):
			<-ctx.Done() // N4
		case errors.Is(err, errLied): // ask the next at once
		case err != nil:
			l.pause(ctx, l.cfg.Pause)
		default:
			l.learnMembers(ctx) // there may be more of them by what was verified just now
			l.awaitNews(ctx)
		}
	}
	return l.headers.flush()
}

func (l *Light) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Close gives back what NewLight opened, if Run was never called.
func (l *Light) Close() error {
	if l.ran.Swap(true) {
		return nil
	}
	l.events.close()
	return nil
}

func (l *Light) now() known {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.known
}

// show makes what was verified visible.
func (l *Light) show(k known) {
	l.mu.Lock()
	hash := k.state.AppHash()
	k.hashes = maps.Clone(k.hashes)
	k.hashes[k.height-1] = hash[:]
	for len(k.hashes) > keptHashes {
		delete(k.hashes, slices.Min(slices.Collect(maps.Keys(k.hashes))))
	}
	k.at = l.cfg.Now()
	l.known = k
	l.mu.Unlock()
	l.events.send(Event{Height: k.height - 1, AppHash: hash[:]})
}

// Read calls f with the newest verified state, which is partial: see ledger.LoadPartial.
// Before the first it is the state that the community began with.
func (l *Light) Read(f func(*ledger.State)) { f(l.now().state) }

// AppHashAt returns the AppHash after a block, of the newest ones that were verified.
func (l *Light) AppHashAt(height int64) ([]byte, bool) {
	hash, ok := l.now().hashes[height]
	return hash, ok
}

// Subscribe returns the states verified from now on, as Node.Subscribe does for blocks. There
// are no receipts: a light home does not see the blocks.
func (l *Light) Subscribe() (<-chan Event, func()) { return l.events.subscribe() }

// Proof calls f with the newest verified state and returns the header that proves it.
func (l *Light) Proof(_ context.Context, f func(*ledger.State)) (*SignedHeader, error) {
	k := l.now()
	if k.signed == nil {
		return nil, fmt.Errorf("%w: no header has been verified yet", ErrUnproven)
	}
	f(k.state)
	return k.signed, nil
}

// submitTo is how many providers get a transaction.
const submitTo = 3

// Submit brings a transaction to several providers; one that takes it is enough. Where all
// that answer refuse, the error is the first *ledger.Refusal: of what a provider said, not of
// what was proven.
func (l *Light) Submit(ctx context.Context, raw []byte) error {
	if _, err := ledger.DecodeTx(raw); err != nil {
		return err
	}
	providers := l.providers()
	providers = providers[:min(len(providers), submitTo)]
	if len(providers) == 0 {
		return ErrNoProvider
	}
	verdicts := make(chan error, len(providers))
	for _, p := range providers {
		go func() {
			a, err := Put[SubmitAnswer](ctx, l.cfg.Ask, p.ID, AskSubmit, SubmitQuestion{Tx: raw})
			if err == nil && a.Code != ledger.CodeOK {
				err = &ledger.Refusal{Code: a.Code, Field: a.Field, Text: a.Text}
			}
			verdicts <- err
		}()
	}
	var refusal *ledger.Refusal
	var failure error
	taken := false
	for range providers { // all: no goroutine is left behind
		err := <-verdicts
		switch r, ok := errors.AsType[*ledger.Refusal](err); {
		case err == nil:
			taken = true
		case ok && refusal == nil:
			refusal = r
		default:
			failure = err
		}
	}
	switch {
	case taken:
		return nil
	case refusal != nil:
		return refusal
	default:
		return fmt.Errorf("%w: %w", ErrNoProvider, failure)
	}
}

// providers are those that can be asked and are not accused, in a stable order that begins
// with the one that is asked first.
func (l *Light) providers() []Provider {
	all := l.sureFirst(slices.Clone(l.cfg.Providers()))
	l.mu.RLock()
	defer l.mu.RUnlock()
	all = slices.DeleteFunc(all, func(p Provider) bool { return l.trust.accused[p.ID] != nil })
	if l.trust.first == "" && len(all) > 0 {
		// Light homes begin with different ones, so that not all of a street wait at the same.
		sure := max(1, len(slices.DeleteFunc(slices.Clone(all), func(p Provider) bool { return !l.sureOf(l.known.state, p.Key) })))
		at := int(l.cfg.Household[0]) % sure
		return slices.Concat(all[at:], all[:at])
	}
	if at := slices.IndexFunc(all, func(p Provider) bool { return p.ID == l.trust.first }); at > 0 {
		all = slices.Concat(all[at:], all[:at])
	}
	return all
}

// choose picks the provider to ask, and another after each failure.
func (l *Light) choose() (Provider, error) {
	all := l.providers()
	if len(all) == 0 {
		if n := len(l.cfg.Providers()); n > 0 {
			return Provider{}, fmt.Errorf("%w: all %d that are connected have been found lying", ErrNoProvider, n)
		}
		return Provider{}, fmt.Errorf("%w: none is connected", ErrNoProvider)
	}
	return all[0], nil
}

// key shortens a network key for people.
func keyText(key ed25519.PublicKey) string { return fmt.Sprintf("%x", []byte(key)) }
