package street

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/commonwatt/commonwatt/firmware-sim/config"
)

// Errors of questions about an instant.
var (
	// ErrBeforeEpoch is returned for an instant before community time began.
	ErrBeforeEpoch = errors.New("before the epoch")
	// ErrFuture is returned for an instant that has not come.
	ErrFuture = errors.New("in the future")
)

// maxRefreshes bounds a history, and with it the time that a start takes and
// the memory it needs: 57 years of three minutes.
const maxRefreshes = 10_000_000

// Street is all homes and their common time. Faults is set before anything is
// asked; nil: everything is honest.
type Street struct {
	Faults Faults
	// OnRefresh is called at each refresh before anything is pushed; nil: nothing is.
	OnRefresh func(ctx context.Context)

	clock   Clock
	refresh int64 // milliseconds
	first   int64 // the refresh at or before the epoch
	now     func() time.Time
	manual  *hand        // nil: time goes by itself
	latest  atomic.Int64 // the newest refresh that was asked for
	houses  []*House
	pushers []Pusher
	journal *journal // nil: commands are not kept
	last    int64    // the newest command in it when it was opened
}

// New builds the street of a configuration and reads the files that it names.
// now is the wall clock. Histories are not integrated yet, see Prepare.
func New(cfg *config.Config, now func() time.Time) (*Street, error) {
	refresh := cfg.Refresh.Milliseconds()
	s := &Street{
		clock:   Clock{Epoch: cfg.Clock.Epoch, Start: cfg.Clock.Start, Rate: cfg.Clock.Rate},
		refresh: refresh,
		first:   cfg.Clock.Epoch.UnixMilli() / refresh,
		now:     now,
	}
	s.latest.Store(s.first)
	if cfg.Clock.Manual {
		s.manual = &hand{at: cfg.Clock.Epoch}
	}
	if n := s.Latest() - s.first; n > maxRefreshes {
		return nil, fmt.Errorf("community time is %v: %d refreshes since the epoch %v, want at most %d: choose a later clock.epoch or clock.start, or a longer refresh",
			s.Now().Format(time.RFC3339), n, cfg.Clock.Epoch.Format(time.RFC3339), maxRefreshes)
	}
	for _, h := range cfg.Homes {
		house, err := s.build(cfg, h)
		if err != nil {
			return nil, fmt.Errorf("home %s: %w", h.ID, err)
		}
		s.houses = append(s.houses, house)
	}
	if cfg.Journal != "" {
		if err := s.openJournal(cfg); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Close closes the journal. No command is taken afterwards.
func (s *Street) Close() error {
	if s.journal == nil {
		return nil
	}
	return s.journal.close()
}

// Prepare integrates all histories up to now, on as many processors as there
// are. Without it the first question of each home pays for that.
func (s *Street) Prepare(ctx context.Context) error {
	latest := s.Latest()
	group, ctx := errgroup.WithContext(ctx)
	for _, h := range s.houses {
		group.Go(func() error { return h.history.Advance(ctx, latest) })
	}
	return group.Wait()
}

// Houses are all homes in the order of the configuration.
func (s *Street) Houses() []*House { return s.houses }

// House finds a home.
func (s *Street) House(id string) (*House, bool) {
	for _, h := range s.houses {
		if h.ID == id {
			return h, true
		}
	}
	return nil, false
}

// Now is the community time.
func (s *Street) Now() time.Time {
	if s.manual != nil {
		return s.manual.now()
	}
	return s.clock.Community(s.now())
}

// Latest is the newest refresh at or before now. It never falls, and is never
// before the epoch's.
func (s *Street) Latest() int64 {
	index := s.index(s.Now())
	for {
		latest := s.latest.Load()
		if index <= latest {
			return latest
		}
		if s.latest.CompareAndSwap(latest, index) {
			return index
		}
	}
}

// index is the newest refresh at or before an instant after 1970.
func (s *Street) index(at time.Time) int64 { return at.UnixMilli() / s.refresh }

// IndexOf is the newest refresh at or before any instant.
func (s *Street) IndexOf(at time.Time) int64 { return s.index(at) }

// At is the community time of a refresh.
func (s *Street) At(index int64) time.Time { return timeOf(index, s.refresh) }

func timeOf(index, refresh int64) time.Time { return time.UnixMilli(index * refresh).UTC() }

// Until is how long a refresh is still away on the wall clock; zero or less if
// it is there.
func (s *Street) Until(index int64) time.Duration {
	return s.clock.Wall(s.At(index)).Sub(s.now())
}

// IndexAt is the newest refresh at or before an instant between the epoch and
// now.
func (s *Street) IndexAt(at time.Time) (int64, error) {
	if at.Before(s.clock.Epoch) {
		return 0, fmt.Errorf("%s is %w, %s", at.Format(time.RFC3339), ErrBeforeEpoch, s.clock.Epoch.Format(time.RFC3339))
	}
	if now := s.Now(); at.After(now) && s.index(at) > s.Latest() {
		return 0, fmt.Errorf("%s is %w, it is %s now", at.Format(time.RFC3339), ErrFuture, now.Format(time.RFC3339))
	}
	return s.index(at), nil
}
