package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Options are what a person can choose.
type Options struct {
	Dir      string        // where everything is kept
	Homes    int           // 1 to MaxHomes
	For      time.Duration // of the wall clock, then stop and report; 0: until ctx ends
	Span     time.Duration // the same in community time, since every home has joined
	Pace     time.Duration // of the wall clock for 15 minutes; 0: ten seconds, or as it was founded
	Light    int           // homes that hold no ledger and ask the others; the last of the street
	Clearing string        // how intervals are decided: forward or metered; empty: forward, or as it was founded
	Battery  string        // how batteries are led: follow or self-consumption; empty: follow, or as it was founded
	Outage   Outage        // with which the ledger stands still for a while
	From     time.Time     // community time at which it begins; zero: a sunny late morning
	Fresh    bool          // forget what Dir holds
	Profiles string        // folder with recorded homes; empty: modelled ones
	Broker   string        // mqtt://HOST:PORT; empty: firmware-sim's own

	Agent     string // path of the commonwatt program
	Simulator string // path of the firmware-sim program

	Say io.Writer // for people
}

// MaxHomes is how many processes a small machine stands.
const MaxHomes = 32

// maxValidators of the homes keep the ledger; the others follow it.
const maxValidators = 4

// Wall-clock lengths of a demonstration.
const (
	startTimeout   = 90 * time.Second
	finishTimeout  = 40 * time.Second
	restartAfter   = 30 * time.Second
	stopTimeout    = 15 * time.Second
	longestAbsence = 100 * 24 * time.Hour // of community time; the ledger takes 10,000 intervals in one report
)

// ErrUsage is wrapped by errors that another option cures.
var ErrUsage = errors.New("demo")

// street is one running demonstration.
type street struct {
	opt    Options
	plan   *plan
	ports  ports
	ready  simulatorReady
	sim    *process
	agents []*process
	watch  *watcher
	begun  time.Time
}

// Run founds or continues the street in o.Dir and runs it. The report is complete if
// the error is nil.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &street{opt: o, begun: time.Now()}
	defer func() { s.ports.release() }()
	if err := s.prepare(); err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, run := errgroup.WithContext(run)
	report, err := s.live(ctx, run, g)
	stop()
	s.stopAgents()
	err = errors.Join(err, g.Wait())
	if err == nil {
		err = s.account(report)
	}
	s.stopSimulator()
	if err != nil {
		return nil, err
	}
	return report, nil
}

func (o *Options) check() error {
	switch {
	case o.Homes < 1 || o.Homes > MaxHomes:
		return fmt.Errorf("%w: --homes: got %d, want 1 to %d", ErrUsage, o.Homes, MaxHomes)
	case o.Light < 0 || o.Light > max(0, o.Homes-maxValidators):
		return fmt.Errorf("%w: --light: got %d, want 0 to %d: the first %d homes keep the ledger", ErrUsage, o.Light, max(0, o.Homes-maxValidators), maxValidators)
	case o.For < 0:
		return fmt.Errorf("%w: --for: got %v, want 0 (until Ctrl-C) or more", ErrUsage, o.For)
	case o.Span < 0 || o.Span > longestAbsence:
		return fmt.Errorf("%w: --span: got %v, want 0 (until Ctrl-C) to %v", ErrUsage, o.Span, longestAbsence)
	case o.Span > 0 && o.For > 0:
		return fmt.Errorf("%w: --for and --span: want one of them", ErrUsage)
	case o.Pace != 0 && (o.Pace < fastestPace || o.Pace > slowestPace):
		return fmt.Errorf("%w: --pace: got %v, want %v to %v", ErrUsage, o.Pace, fastestPace, slowestPace)
	}
	if c := o.Clearing; c != "" && c != ledger.ClearingForward && c != ledger.ClearingMetered {
		return fmt.Errorf("%w: --clearing: got %q, want %s or %s", ErrUsage, c, ledger.ClearingForward, ledger.ClearingMetered)
	}
	if b := o.Battery; b != "" && b != household.LeadFollow && b != household.LeadSelfConsumption {
		return fmt.Errorf("%w: --battery: got %q, want %s or %s", ErrUsage, b, household.LeadFollow, household.LeadSelfConsumption)
	}
	if err := o.Outage.check(o.Span); err != nil {
		return err
	}
	for _, program := range []string{o.Agent, o.Simulator} {
		if info, err := os.Stat(program); err != nil || info.IsDir() {
			return fmt.Errorf("%w: %s is not there: `make build` makes both programs", ErrUsage, program)
		}
	}
	return nil
}

// prepare brings the folder to the point where processes can start.
func (s *street) prepare() error {
	dir, err := filepath.Abs(s.opt.Dir)
	if err != nil {
		return err
	}
	s.opt.Dir = dir
	if err := stopLeftovers(dir); err != nil {
		return err
	}
	if s.opt.Fresh {
		if err := forget(dir); err != nil {
			return err
		}
	}
	if s.plan, err = loadPlan(dir); err != nil {
		return err
	}
	if s.plan == nil {
		if s.plan, err = found(s.opt); err != nil {
			return err
		}
	} else if err := s.plan.fits(s.opt, time.Now()); err != nil {
		return err
	}
	if s.ports, err = choosePorts(len(s.plan.Homes)); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o700); err != nil {
		return err
	}
	return s.writeSimulator()
}

// live starts everything and watches until the time is over.
func (s *street) live(ctx, run context.Context, g *errgroup.Group) (*Report, error) {
	fmt.Fprintf(s.opt.Say, "street %s in %s: %d homes\n", s.plan.Name, s.opt.Dir, len(s.plan.Homes))
	if err := s.startSimulator(ctx, run, g); err != nil {
		return nil, err
	}
	if err := s.writeAgents(); err != nil {
		return nil, err
	}
	for i := range s.plan.Homes {
		p, err := startAgent(run, g, s, i)
		if err != nil {
			return nil, err
		}
		s.agents = append(s.agents, p)
	}
	s.watch = newWatcher(s)
	if err := s.watch.awaitStart(ctx); err != nil {
		return nil, err
	}
	s.introduce()
	joined := time.Now()
	if end, ok := s.end(joined); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end)
		defer cancel()
	}
	if s.opt.Outage.For > 0 {
		g.Go(func() error { s.suffer(run, joined); return nil })
	}
	s.watch.until(ctx, run)
	report := &Report{Community: s.plan.Name, Data: s.opt.Dir}
	s.watch.finish(report, s.opt.For > 0 || s.opt.Span > 0)
	return report, nil
}

// end is when the time is over; ok is false if a person says so.
func (s *street) end(joined time.Time) (end time.Time, ok bool) {
	if s.opt.Span > 0 {
		return joined.Add(s.plan.pace().wall(s.opt.Span)), true
	}
	return s.begun.Add(s.opt.For), s.opt.For > 0
}

// introduce tells a person where to look.
func (s *street) introduce() {
	fmt.Fprintf(s.opt.Say, "\n  %-8s  %-9s  %-38s  %s\n", "home", "role", "meter", "page")
	for i, h := range s.plan.Homes {
		fmt.Fprintf(s.opt.Say, "  %-8s  %-9s  %-38s  http://%s/\n", h.Name, h.role(), h.describe(), s.ports.api(i))
	}
	fmt.Fprintf(s.opt.Say, "\n%s. Ctrl-C ends it; the next start goes on from here.\n"+
		"A home can be killed and started again: %s run --home %s\n\n", s.plan.pace(), s.opt.Agent, s.plan.Homes[0].dir(s.opt.Dir))
}
