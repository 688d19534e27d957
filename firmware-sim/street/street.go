package street

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/commonwatt/commonwatt/firmware-sim/config"
	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/home"
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

// House is one home with its meters.
type House struct {
	ID     string
	Meters []*Meter

	history  *home.History
	home     *home.Home
	refresh  int64
	inverter *inverter // nil: nothing here obeys
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

// build makes a house. Its time begins one refresh before the epoch's, so that
// its meters have a power to show from the first moment on.
func (s *Street) build(cfg *config.Config, c config.Home) (*House, error) {
	seed := home.Seed(cfg.Seed, c.ID)
	h := &home.Home{}
	if c.Load.CSV != "" {
		profile, err := readProfile(c.Load.CSV, 1000)
		if err != nil {
			return nil, err
		}
		h.Load = profile
	} else {
		h.Load = home.NewHousehold(c.Load.YearlyKWh, cfg.Location.Longitude, seed)
	}
	if c.Solar != nil {
		if c.Solar.CSV != "" {
			profile, err := readProfile(c.Solar.CSV, c.Solar.KWP*1e6)
			if err != nil {
				return nil, err
			}
			h.Solar = profile
		} else {
			sky := home.Sky{
				Location:   home.Location{Latitude: cfg.Location.Latitude, Longitude: cfg.Location.Longitude},
				Seed:       cfg.Seed,
				Cloudiness: cfg.Weather.Cloudiness,
			}
			h.Solar = home.NewRoof(home.Panels{KilowattPeak: c.Solar.KWP, Azimuth: c.Solar.Azimuth, Tilt: c.Solar.Tilt}, sky, seed)
		}
	}
	if c.Battery != nil {
		h.Battery = &home.Battery{
			Capacity:   home.MilliWattHours(c.Battery.KWh * 1e6),
			Power:      home.MilliWatts(c.Battery.KW * 1e6),
			Efficiency: int64(c.Battery.Efficiency*1e6 + 0.5),
			Floor:      home.MilliWattHours(c.Battery.KWh * c.Battery.MinSoC * 1e4),
			Standing:   home.MilliWatts(c.Battery.StandingW * 1000),
		}
		h.Stored = h.Battery.InitialCharge(seed)
	}
	for _, d := range c.Devices {
		if d.Role == config.RoleInverter {
			h.Hybrid = true
			h.Rated = max(h.Battery.Power, home.MilliWatts(c.Solar.KWP*1e6))
		}
	}
	house := &House{ID: c.ID, home: h, refresh: s.refresh, history: home.NewHistory(h, s.refresh, s.first-1)}
	for _, d := range c.Devices {
		m, err := newMeter(s, house, d, seed)
		if err != nil {
			return nil, fmt.Errorf("%s meter: %w", d.Role, err)
		}
		m.Transports = transports(cfg, m.Kind, d)
		house.Meters = append(house.Meters, m)
		if obeys, ok := m.Device.(device.Inverter); ok {
			house.inverter = newInverter(house, m, obeys)
		}
	}
	return house, nil
}

func readProfile(file string, scale float64) (*home.Profile, error) {
	f, err := os.Open(file) //nolint:gosec // G304: the configuration named the file
	if err != nil {
		return nil, fmt.Errorf("opening a profile: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	p, err := home.ReadProfile(f, scale)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", file, err)
	}
	return p, nil
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

// Flows are the mean powers of a house over the last refresh period, in mW,
// and what its battery holds. Grid is positive when the house imports, Battery
// when it charges. A part that the house does not have is nil.
type Flows struct {
	Load, Grid     home.MilliWatts
	Solar, Battery *home.MilliWatts
	Stored         *home.MilliWattHours
}

// Flows are those at a refresh.
func (h *House) Flows(ctx context.Context, index int64) (Flows, error) {
	s, before, err := h.history.At(ctx, index)
	if err != nil {
		return Flows{}, err
	}
	power := func(e home.MilliWattHours) home.MilliWatts { return home.MeanPower(e, h.refresh) }
	f := Flows{
		Load: power(s.Load - before.Load),
		Grid: power(s.Import - before.Import - s.Export + before.Export),
	}
	if h.home.Solar != nil {
		solar := power(s.Solar - before.Solar)
		f.Solar = &solar
	}
	if h.home.Battery != nil {
		battery, stored := power(s.Charge-before.Charge-s.Discharge+before.Discharge), s.Stored
		f.Battery, f.Stored = &battery, &stored
	}
	return f, nil
}
