package household

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/meter/httpjson"
	"github.com/commonwatt/commonwatt/meter/modbus"
)

// Ledger is what the household needs of the ledger's node.
type Ledger interface {
	Records
	Chain
	History
}

// Records is the ledger's state.
type Records interface {
	Read(f func(*ledger.State))
	AppHashAt(height int64) ([]byte, bool)
}

// Chain takes transactions and tells of blocks.
type Chain interface {
	Submit(ctx context.Context, tx []byte) error
	Subscribe() (events <-chan consensus.Event, cancel func())
	Status() consensus.Status
}

// History is what has been settled.
type History interface {
	Settlements(h market.HouseholdID, from market.Interval, f func(*ledger.Settlement) bool) error
	Results(from market.Interval, f func(*ledger.MarketResult) bool) error
	// Months are the household's closed months, oldest first; their lines may be gone.
	Months(h market.HouseholdID) ([]ledger.Month, error)
}

// Options are what New needs; all are required save Peers, Reached and the times.
type Options struct {
	Config Config
	Dir    string
	Keys   *Keys
	Ledger Ledger
	Peers  func() []api.Peer // whom we gossip with; may be nil
	// Reached says whether others reach this home from outside; nil, or its answer: not known.
	Reached func() *bool
	Now     func() time.Time // the wall clock
	Log     *slog.Logger
	// Clock says how far the wall clock can be relied on; nil is what the configuration says.
	Clock func() meter.ClockState

	// Times of reading meters; zero values are right for devices in the field. ReadTimeout
	// bounds one look at a meter that is asked, its turn on the line included; default 30 s.
	ReadTimeout time.Duration
	Modbus      modbus.Options
	HTTP        httpjson.Options
}

// Home is one household's loops. It implements api.Provider.
type Home struct {
	opt      Options
	id       market.HouseholdID
	chainID  string
	clock    market.Clock
	calendar market.Calendar
	rules    ledger.Rules
	disk     *disk
	pool     *modbus.Pool
	web      *httpjson.Pool

	gatewayClock func() meter.ClockState
	trusted      bool // nobody asks the gateway's clock

	admission []admission
	meters    []*device
	history   *history
	leaders   []*leader
	prover    *prover // the connection meter's; owned by its poll goroutine
	dirty     chan struct{}
	snapshot  atomic.Pointer[api.Snapshot]
	watchers  watchers

	mu          sync.Mutex // guards what follows and the views of the devices
	reports     map[market.Interval]*pending
	metered     map[market.Interval]energy // what this home knows itself, newest 200
	outbox      outbox
	course      course
	notAdmitted string // why the admission was refused; empty: it was not

	book *book // of New, then of follow

	aloneSince time.Time // nobody was connected while the ledger waited; zero: not so; of New, then of follow
}

// energy is what the connection meter counted in one interval.
type energy struct {
	Import, Export market.WattHours
	Quality        ledger.Quality
}

// New prepares a home: it opens its disk and its meters. It starts nothing but what a
// meter that speaks by itself needs to be heard. A mistake in the configuration of a
// meter is a *ConfigError that names it; ErrInUse and ErrDamaged are about home.db.
func New(o Options) (*Home, error) {
	o.ReadTimeout = cmp.Or(o.ReadTimeout, readTimeout)
	o.Modbus.Log, o.HTTP.Log = o.Log, o.Log
	h := &Home{
		opt: o, id: o.Keys.ID(), pool: modbus.NewPool(o.Modbus), web: httpjson.NewPool(o.HTTP),
		dirty:   make(chan struct{}, 1),
		reports: map[market.Interval]*pending{}, metered: map[market.Interval]energy{},
	}
	o.Ledger.Read(func(s *ledger.State) {
		h.chainID, h.clock, h.calendar, h.rules = s.ChainID(), s.Clock(), s.Calendar(), s.Rules()
	})
	h.trusted = o.Clock == nil && (o.Config.Clock == ClockTrusted || h.clock.Rate != 1)
	if h.gatewayClock = o.Clock; h.gatewayClock == nil {
		h.gatewayClock = clockOf(o.Config, h.clock.Rate)
	}
	var err error
	if h.admission, err = loadAdmission(o.Dir, h.id); err != nil {
		return nil, err
	}
	if h.disk, err = openDisk(filepath.Join(o.Dir, DiskFile)); err != nil {
		return nil, err
	}
	if err := h.prepare(); err != nil {
		return nil, errors.Join(err, h.closeMeters(), h.disk.close())
	}
	return h, nil
}

func (h *Home) prepare() error {
	reports, err := h.disk.loadReports()
	if err != nil {
		return err
	}
	for _, r := range reports {
		h.remember(r)
	}
	if h.outbox.letters, err = h.disk.loadLetters(); err != nil {
		return err
	}
	h.book = newBook(h.id, h.opt.Ledger, h.rules)
	for i := range h.opt.Config.Meters {
		d, err := h.openDevice(i)
		if err != nil {
			return err
		}
		h.meters = append(h.meters, d)
	}
	if err := h.openLeaders(); err != nil {
		return err
	}
	if h.prover, err = h.newProver(); err != nil {
		return err
	}
	h.openHistory()
	if err := h.book.refresh(); err != nil {
		return err
	}
	h.rebuild()
	return nil
}

// Run runs the home until ctx ends or something cannot go on. It may be called once.
func (h *Home) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, d := range h.meters {
		g.Go(func() error { return h.poll(ctx, d) })
	}
	for _, l := range h.leaders {
		g.Go(func() error { return h.lead(ctx, l) })
	}
	g.Go(func() error { return h.trade(ctx) })
	g.Go(func() error { return h.follow(ctx) })
	kept := make(chan error, 1)
	ended, end := context.WithCancel(context.WithoutCancel(ctx))
	go func() { kept <- h.history.run(ended, h.flushEvery()) }()
	err := g.Wait()
	end() // the meters are silent: what they told last is written
	err = errors.Join(err, <-kept, h.history.close(), h.closeMeters(), h.disk.close())
	if err != nil {
		return fmt.Errorf("running household %s: %w", h.id, err)
	}
	return nil
}

func (h *Home) closeMeters() error {
	var errs []error
	for _, d := range h.meters {
		errs = append(errs, d.source.Close())
	}
	for _, l := range h.leaders {
		errs = append(errs, l.actuator.Close())
	}
	return errors.Join(errs...)
}

// Readings are written with the boundary of each interval; without one a quarter later, and
// after twenty minutes at the latest: a write costs pages, not bytes.
const (
	minFlush = 10 * time.Second
	maxFlush = 20 * time.Minute
	maxRate  = 1000 // of a community's clock, for what a block may span
)

func (h *Home) flushEvery() time.Duration { return min(max(h.wallInterval()*5/4, minFlush), maxFlush) }

// openHistory names the meters: by their role, and the second of a role by its number.
func (h *Home) openHistory() {
	roles, names := map[string]int{}, []string{}
	for _, d := range h.meters {
		d.name = d.cfg.Role
		if roles[d.name]++; roles[d.name] > 1 {
			d.name = fmt.Sprintf("%s-%d", d.name, roles[d.cfg.Role])
		}
		names = append(names, d.name)
	}
	days := h.opt.Config.ReadingsDays
	if days == 0 {
		days = defaultReadingsDays
	}
	h.history = newHistory(filepath.Join(h.opt.Dir, HistoryFile), names, days, h.opt.Now, h.opt.Log)
}

// community is the community's time now.
func (h *Home) community() time.Time { return h.clock.Community(h.opt.Now()) }

// until is how long the wall clock has to go to an instant of community time.
func (h *Home) until(t time.Time) time.Duration { return h.clock.Wall(t).Sub(h.opt.Now()) }

// wallInterval is how long an interval takes on the wall clock.
func (h *Home) wallInterval() time.Duration { return h.clock.WallDuration(h.calendar.Length) }

// changed asks for a new picture.
func (h *Home) changed() {
	select {
	case h.dirty <- struct{}{}:
	default:
	}
}

// pause waits; false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Close gives back what New opened, if Run was never called.
func (h *Home) Close() error {
	return errors.Join(h.history.close(), h.closeMeters(), h.disk.close())
}
