package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	cmtmath "github.com/cometbft/cometbft/libs/math"
	"github.com/cometbft/cometbft/light"
	"github.com/cometbft/cometbft/light/provider"
	"github.com/cometbft/cometbft/types"
)

// How a Light follows headers; docs/adr/0012-light-homes.md says why.
const (
	// trustingPeriod is for how long a header that was verified is what the next is verified
	// from. After that the home begins with the genesis document again (see root).
	trustingPeriod = 30 * 24 * time.Hour
	// clockDrift is how far ahead of our clock a header's time may be: the engine allows a
	// proposer 60 s, and the rest is for our own.
	clockDrift = 2 * time.Minute
	// witnessWait is how long a provider may take to get a block that another has.
	witnessWait = 3 * time.Second
	// maxWitnesses bounds how many confirm each header.
	maxWitnesses = 4
)

// trustLevel is how much of the validators trusted last must have signed a header that is not
// the next: two thirds, as for a block itself. The usual third would do only as long as
// validators lose something when they lie; here nothing is staked.
var trustLevel = cmtmath.Fraction{Numerator: 2, Denominator: 3}

// headerSource is one provider as the engine's light client sees it. It remembers what it
// gave, so that whoever lied can be named.
type headerSource struct {
	l *Light
	p Provider

	mu    sync.Mutex
	given map[int64]*types.LightBlock
	ahead *types.LightBlock // claims to be of the future
}

var _ provider.Provider = (*headerSource)(nil)

// ChainID implements provider.Provider.
func (s *headerSource) ChainID() string { return s.l.anchor.chainID }

// ReportEvidence implements provider.Provider: the validators' own evidence reaches them by
// a validator that is not among the liars, which is not for us to choose.
func (s *headerSource) ReportEvidence(context.Context, types.Evidence) error { return nil }

// LightBlock implements provider.Provider. It never says that a height is too high: the
// client would sleep then. It waits for the block itself, and else has no response.
func (s *headerSource) LightBlock(ctx context.Context, height int64) (*types.LightBlock, error) {
	a, err := s.ask(ctx, height)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, ErrAnswer):
		return nil, provider.ErrBadLightBlock{Reason: s.l.accuse(s.p, "its answer about block %d cannot be read: %v", height, err)}
	default:
		return nil, provider.ErrNoResponse
	}
	s.l.saw(s.p, a.Newest)
	switch {
	case a.Block == nil && height != 0 && height < a.Base:
		return nil, provider.ErrLightBlockNotFound
	case a.Block == nil:
		return nil, provider.ErrNoResponse
	}
	b, err := decodeLightBlock(s.ChainID(), a.Block)
	if err == nil && height != 0 && b.Height != height {
		err = fmt.Errorf("%w: it gave block %d", ErrAnswer, b.Height)
	}
	if err != nil {
		return nil, provider.ErrBadLightBlock{Reason: s.l.accuse(s.p, "what it gave as block %d is none: %v", height, err)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.Time.After(s.l.cfg.Now().Add(clockDrift)) {
		s.ahead = b // a liar, or our own clock is slow
		return nil, provider.ErrNoResponse
	}
	s.given[b.Height] = b
	return b, nil
}

func (s *headerSource) ask(ctx context.Context, height int64) (*HeaderAnswer, error) {
	a, err := Put[HeaderAnswer](ctx, s.l.cfg.Ask, s.p.ID, AskHeader, HeaderQuestion{Height: height})
	if err != nil || a.Block != nil || height <= a.Newest {
		return a, err
	}
	wait := HeaderQuestion{Above: height - 1, Wait: uint32(witnessWait / time.Millisecond)}
	if a, err = Put[HeaderAnswer](ctx, s.l.cfg.Ask, s.p.ID, AskHeader, wait); err != nil || a.Newest < height {
		if err == nil {
			a.Block = nil
		}
		return a, err
	}
	return Put[HeaderAnswer](ctx, s.l.cfg.Ask, s.p.ID, AskHeader, HeaderQuestion{Height: height})
}

func newHeaderSource(l *Light, p Provider) *headerSource {
	return &headerSource{l: l, p: p, given: map[int64]*types.LightBlock{}}
}

func (s *headerSource) gave(height int64) *types.LightBlock { return s.all()[height] }

func (s *headerSource) all() map[int64]*types.LightBlock {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.given)
}

func (s *headerSource) future() *types.LightBlock {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ahead
}

// verify verifies the header of a height with a provider as primary and others as witnesses
// (N1). The header returned is of that height, or a later one if this home had none before.
// The error wraps errLied if somebody did, or ErrFork.
func (l *Light) verify(ctx context.Context, p Provider, height int64) (*types.LightBlock, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of questions to witnesses whose answer nobody needs any more
	v := &verification{l: l, height: height, sources: []*headerSource{newHeaderSource(l, p)}}
	for _, o := range l.providers() {
		if o.ID != p.ID && len(v.sources) <= maxWitnesses && !l.withholding(o) {
			v.sources = append(v.sources, newHeaderSource(l, o))
		}
	}
	err := v.run(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if lied := v.judge(errors.Is(err, light.ErrLightClientAttack)); lied != nil && (err != nil || errors.Is(lied, ErrFork)) {
		return nil, lied
	}
	if err != nil {
		return nil, v.explain(err)
	}
	confirmed := 0
	for _, s := range v.sources {
		if b := s.gave(v.block.Height); b != nil && bytes.Equal(b.Hash(), v.block.Hash()) {
			confirmed++
		}
	}
	l.mu.Lock()
	l.trust.alone = confirmed < 2
	l.mu.Unlock()
	return v.block, l.headers.saved(l.cfg.Now())
}

// verification is one run of the engine's light client.
type verification struct {
	l       *Light
	height  int64
	sources []*headerSource // the first is the primary

	block    *types.LightBlock // what was verified; nil: nothing
	sets     [][]byte          // hashes of the validators that are trusted by now
	replaced provider.Provider // the primary at the end: the client may have taken another
}

func (v *verification) run(ctx context.Context) error {
	l, now := v.l, v.l.cfg.Now()
	last, err := l.headers.newest()
	if err != nil {
		return err
	}
	witnesses := make([]provider.Provider, 0, len(v.sources))
	for _, s := range v.sources[1:] {
		witnesses = append(witnesses, s)
	}
	if len(witnesses) == 0 {
		witnesses = append(witnesses, v.sources[0]) // nobody else is there to be asked; status says so
	}
	options := []light.Option{
		light.SkippingVerification(trustLevel), light.MaxClockDrift(clockDrift), light.MaxBlockLag(time.Second), light.PruningSize(keptHeaders),
	}
	var c *light.Client
	if last == nil || light.HeaderExpired(last.SignedHeader, trustingPeriod, now) {
		root, err := v.root(ctx)
		if err != nil {
			return err
		}
		if err := l.headers.clear(); err != nil {
			return err
		}
		v.height, last = max(v.height, root.Height), root
		v.sets = [][]byte{root.ValidatorsHash, root.NextValidatorsHash}
		trusted := light.TrustOptions{Period: trustingPeriod, Height: root.Height, Hash: root.Hash()}
		c, err = light.NewClient(ctx, l.anchor.chainID, trusted, v.sources[0], witnesses, l.headers, options...)
		if err != nil {
			return err
		}
	} else {
		v.sets = [][]byte{last.ValidatorsHash, last.NextValidatorsHash}
		if v.height < last.Height {
			return fmt.Errorf("%w: at block %d, and block %d has been verified", errBehind, v.height, last.Height)
		}
		if c, err = light.NewClientFromTrustedStore(l.anchor.chainID, trustingPeriod, v.sources[0], witnesses, l.headers, options...); err != nil {
			return err
		}
	}
	b, err := c.VerifyLightBlockAtHeight(ctx, v.height, now)
	v.replaced = c.Primary()
	if err != nil {
		return err
	}
	if v.height == last.Height {
		// The client does not ask anybody about what it has verified, not the primary either.
		for _, s := range v.sources {
			_, _ = s.LightBlock(ctx, v.height)
		}
	}
	v.block, v.sets = b, append(v.sets, b.ValidatorsHash)
	return nil
}

// root gets the first header: the newest, checked from the genesis document on.
func (v *verification) root(ctx context.Context) (*types.LightBlock, error) {
	s := v.sources[0]
	b, err := s.LightBlock(ctx, 0)
	if err != nil {
		return nil, err
	}
	signed, err := NewSignedHeader(*b.Header, b.Commit, b.ValidatorSet)
	if err == nil {
		var way []Change
		if way, err = v.l.wayTo(ctx, s.p, known{}, signed); err != nil {
			return nil, err
		}
		signed.Changes = upTo(way, b.Height)
		err = v.l.anchor.Check(signed)
	}
	if err != nil {
		return nil, v.l.accuse(s.p, "its header of block %d does not follow from the genesis document: %v", b.Height, err)
	}
	return b, nil
}

// judge looks at all headers that providers gave. What is not signed by those whom it names
// is a forgery, and so is what differs from the one that was verified; two of one block that
// the community's validators signed are a fork.
func (v *verification) judge(attack bool) error {
	var lied error
	sound := map[int64][]*headerSource{}
	for _, s := range v.sources {
		for height, b := range s.all() {
			if err := b.ValidatorSet.VerifyCommitLight(v.l.anchor.chainID, b.Commit.BlockID, b.Height, b.Commit); err != nil {
				lied = v.l.accuse(s.p, "forged the header of block %d: %v", height, err)
				continue
			}
			for _, o := range sound[height] {
				if err := v.compare(attack, o, s, height); err != nil {
					return err
				}
			}
			sound[height] = append(sound[height], s)
		}
	}
	if v.block == nil {
		return lied
	}
	for _, s := range sound[v.block.Height] {
		if !bytes.Equal(s.gave(v.block.Height).Hash(), v.block.Hash()) {
			lied = v.l.accuse(s.p, "gave a header of block %d that is not signed by the community's validators", v.block.Height)
		}
	}
	return lied
}

// compare looks for a fork: two headers of one block by validators that are trusted. A set
// of validators that somebody made up is none, or a single liar could stop every light home.
func (v *verification) compare(attack bool, x, y *headerSource, height int64) error {
	a, b := x.gave(height), y.gave(height)
	if bytes.Equal(a.Hash(), b.Hash()) {
		return nil
	}
	known := func(set []byte) bool { return bytes.Equal(set, a.ValidatorsHash) }
	trusted := bytes.Equal(a.ValidatorsHash, b.ValidatorsHash) && slices.ContainsFunc(v.sets, known)
	if !attack && !trusted {
		return nil
	}
	both := v.l.signedBoth(a, b)
	f := &Fork{
		Height: height, Hashes: [2]string{a.Hash().String(), b.Hash().String()},
		Providers: [2]string{x.p.ID, y.p.ID}, Validators: both, At: v.l.cfg.Now().UTC(),
	}
	v.l.mu.Lock()
	if v.l.trust.fork == nil {
		v.l.trust.fork = f
	}
	v.l.mu.Unlock()
	v.l.log.Error("validators signed two blocks: the ledger is not followed any more", "height", height, "validators", both,
		"provider_a", f.Providers[0], "hash_a", f.Hashes[0], "provider_b", f.Providers[1], "hash_b", f.Hashes[1])
	return fmt.Errorf("%w: %s", ErrFork, f)
}

// signedBoth names the validators whose signatures are under both headers.
func (l *Light) signedBoth(a, b *types.LightBlock) []string {
	signed := func(x *types.LightBlock) map[string]bool {
		all := map[string]bool{}
		for i, sig := range x.Commit.Signatures {
			if _, v := x.ValidatorSet.GetByIndex(int32(i)); v != nil && sig.BlockIDFlag == types.BlockIDFlagCommit {
				if v.PubKey.VerifySignature(x.Commit.VoteSignBytes(l.anchor.chainID, int32(i)), sig.Signature) {
					all[v.Address.String()] = true
				}
			}
		}
		return all
	}
	first, second := signed(a), signed(b)
	var both []string
	for address := range first {
		if second[address] {
			both = append(both, l.validatorName(address))
		}
	}
	slices.Sort(both)
	return both
}

// explain turns the client's error into ours.
func (v *verification) explain(err error) error {
	for _, s := range v.sources {
		if b := s.future(); b != nil {
			return fmt.Errorf("the header of block %d by %s is of %s, and this gateway's clock says %s: set the clock, or ask another provider",
				b.Height, s.p.ID, b.Time.UTC().Format(time.RFC3339), v.l.cfg.Now().UTC().Format(time.RFC3339))
		}
	}
	invalid, failed, untrusted := light.ErrInvalidHeader{}, light.ErrVerificationFailed{}, light.ErrNewValSetCantBeTrusted{}
	if s, ok := v.replaced.(*headerSource); ok && errors.As(err, &failed) && failed.To == v.height &&
		(errors.As(err, &invalid) || errors.As(err, &untrusted)) {
		return v.l.accuse(s.p, "forged the header of block %d: %v", v.height, failed.Reason)
	}
	return fmt.Errorf("verifying block %d: %w", v.height, err)
}

func (l *Light) withholding(p Provider) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	s := l.trust.seen[p.ID]
	return s != nil && s.withholds
}

func (l *Light) validatorName(address string) string {
	if name := l.names[address]; name != "" {
		return name
	}
	return address
}
