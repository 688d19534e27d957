package sim

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

const (
	chainID    = "sim-street"
	validators = 4
	// honestClock is how far an honest validator's clock may be off, ms.
	honestClock = 400
	officers    = 2
	second      = int64(1000)
	minute      = 60 * second
	hour        = 60 * minute
)

// begin is the community time at which every run begins, a midnight in UTC.
var begin = time.Date(2026, time.June, 1, 0, 0, 0, 0, time.UTC)

// Options say what to run. The zero value is a day of seed 0.
type Options struct {
	Seed      uint64
	Intervals int  // 0: a day of quarter hours
	Homes     int  // 0: 3 to 6, as the seed has it
	Calm      bool // nothing fails and nobody cheats
	// Adversaries are the names of those who take part; nil: as the seed has it.
	Adversaries []string
	// Trace takes a line about everything that happens; nil: nobody looks.
	Trace func(line string)
}

// Report is what a run came to.
type Report struct {
	Seed         uint64       `json:"seed"`
	Homes        int          `json:"homes"`
	Intervals    int          `json:"intervals"`
	Adversaries  []string     `json:"adversaries"`
	Blocks       int64        `json:"blocks"`
	Empty        int64        `json:"empty_blocks"`
	Txs          int          `json:"transactions"`
	Refused      int          `json:"refused"`
	BadProposals int          `json:"bad_proposals"`
	Orders       int          `json:"orders"`
	OrdersKept   int          `json:"orders_counted"`
	Reports      int          `json:"reports"`
	Settlements  int          `json:"settlements"`
	Corrections  int          `json:"corrections"`
	Metered      int          `json:"metered_intervals"`
	Tricks       int          `json:"tricks"` // of the adversaries
	Crashes      int          `json:"crashes"`
	Partitions   int          `json:"partitions"`
	Outages      int          `json:"outages"`
	Messages     int          `json:"messages"`
	Lost         int          `json:"messages_lost"`
	Bought       int64        `json:"bought_wh"`
	Saved        market.Money `json:"saved"`
	AppHash      string       `json:"app_hash"`
}

// world is everything there is in a run.
type world struct {
	opt    Options
	rnd    *rand.Rand
	now    int64
	queue  queue
	report Report

	genesis  ledger.Genesis
	calendar market.Calendar
	first    market.Interval // the first whose gate closes
	last     market.Interval // the last of the run

	net      *network
	engine   *engine
	replicas []*replica
	homes    []*home
	check    *checker
	heard    [][]byte // what homes have sent, the newest of it
	trouble  []span   // times that were not quiet, in the order of their beginning
	over     bool     // no more faults and cheats
}

// span is a time, both ends included.
type span struct{ from, to int64 }

// Run runs a community. The error names what does not hold, and the seed.
func Run(opt Options) (*Report, error) {
	_, r, err := run(opt)
	return r, err
}

func run(opt Options) (*world, *Report, error) {
	w := newWorld(opt)
	if err := w.run(); err != nil {
		return w, &w.report, fmt.Errorf("seed %d: %w", opt.Seed, err)
	}
	return w, &w.report, nil
}

// stream is a source of its own for each purpose, so that a change in one place does not
// change what is drawn in all others.
func (w *world) stream(purpose string) *rand.Rand {
	sum := sha256.Sum256([]byte(purpose))
	return rand.New(rand.NewPCG(w.opt.Seed, uint64(sum[0])<<56|uint64(sum[1])<<48|uint64(sum[2])<<40|uint64(sum[3]))) //nolint:gosec // no secret
}

func newWorld(opt Options) *world {
	if opt.Intervals == 0 {
		opt.Intervals = 96
	}
	w := &world{opt: opt, now: begin.UnixMilli()}
	w.rnd = w.stream("world")
	homes := 3 + w.rnd.IntN(4)
	if opt.Homes > 0 {
		homes = opt.Homes
	}
	w.found(homes)
	w.report.Seed, w.report.Homes, w.report.Intervals = opt.Seed, homes, opt.Intervals
	nodes := max(homes, validators)
	w.net = &network{w: w, rnd: w.stream("network"), slow: 200, side: make([]int, nodes)}
	w.engine = newEngine(w)
	w.check = newChecker(w)
	for i := range validators {
		w.replicas = append(w.replicas, newReplica(w, i))
	}
	for i := range homes {
		w.homes = append(w.homes, newHome(w, i))
	}
	return w
}

// found draws the community's rules and makes its genesis.
func (w *world) found(homes int) {
	r := ledger.DefaultRules()
	r.ApprovalsNeeded = officers
	r.ReportDeadlineS = []int64{3600, 2 * 3600, 6 * 3600}[w.rnd.IntN(3)]
	r.CorrectionWindowS = []int64{12 * 3600, 24 * 3600}[w.rnd.IntN(2)]
	r.LeadS = []int64{60, 300, 900}[w.rnd.IntN(3)]
	r.CommunityFee = market.Price(w.rnd.IntN(3) * 3_500)
	if w.rnd.IntN(4) == 0 {
		r.Clearing = ledger.ClearingMetered
	}
	g := ledger.Genesis{Name: chainID, Epoch: begin, Start: begin, Rate: 1, Rules: r}
	if w.rnd.IntN(4) == 0 {
		g.Network = []ledger.Node{
			{ID: ledger.RootNode},
			{ID: "north", Parent: ledger.RootNode, ImportFee: 9_000, ExportFee: 1_000},
			{ID: "south", Parent: ledger.RootNode, ImportFee: 4_000, ExportLimitW: new(int64(6_000))},
		}
	}
	for i := range officers {
		g.Officers = append(g.Officers, public(key("officer", i)))
	}
	for i := range max(homes, validators) {
		g.Founders = append(g.Founders, public(key("network", i)))
	}
	for i := range validators {
		g.Validators = append(g.Validators, ledger.GenesisValidator{Network: g.Founders[i], Key: public(key("validator", i))})
	}
	w.genesis, w.calendar = g, g.Calendar()
	w.first = w.calendar.NextGate(begin)
	w.last = w.first + market.Interval(w.opt.Intervals) - 1
}

// run lets time pass until everything is settled.
func (w *world) run() error {
	w.admit()
	w.plan()
	w.invite()
	end := w.start(w.last + 1)
	w.at(end-1, w.calmDown)
	// Time enough for deadlines, and for what was late to come in.
	limit := end + max(w.genesis.Rules.ReportDeadlineS*second, 4*hour)
	for len(w.queue.events) > 0 && len(w.check.wrong) == 0 {
		e := w.queue.pop()
		if e.at > limit {
			break
		}
		w.now = e.at
		e.do()
		if w.over && w.check.whole() {
			break
		}
	}
	w.check.finish()
	return errors.Join(w.check.wrong...)
}

// calmDown ends all faults: from here on everything is to come in order.
func (w *world) calmDown() {
	w.trace("the day is over: all faults end")
	w.over = true
	w.net.loss, w.net.twice, w.net.cut = 0, 0, 0
	w.net.heal()
	for _, r := range w.replicas {
		r.adversary, r.offset, r.crashIn = nil, 0, crashNowhere
		r.start()
	}
	for _, h := range w.homes {
		h.off = 0
	}
}

func (w *world) at(at int64, do func()) { w.queue.push(max(at, w.now), do) }

func (w *world) after(ms int64, do func()) { w.queue.push(w.now+ms, do) }

func (w *world) trace(format string, args ...any) {
	if w.opt.Trace == nil {
		return
	}
	w.opt.Trace(time.UnixMilli(w.now).UTC().Format("02 15:04:05.000 ") + fmt.Sprintf(format, args...))
}

// gate and start are instants of an Interval.
func (w *world) gate(k market.Interval) int64  { return w.calendar.GateClosure(k).UnixMilli() }
func (w *world) start(k market.Interval) int64 { return w.calendar.Start(k).UnixMilli() }

// disturbed notes a time in which something failed.
func (w *world) disturbed(from, to int64) { w.trouble = append(w.trouble, span{from, to}) }

// quiet says whether nothing failed in a time.
func (w *world) quiet(from, to int64) bool {
	for _, s := range w.trouble {
		if s.from <= to && from <= s.to {
			return false
		}
	}
	return true
}

// keys are shared by all runs: they follow from what they are for.
var keys sync.Map

func key(purpose string, i int) ed25519.PrivateKey {
	name := fmt.Sprintf("%s/%d", purpose, i)
	if k, ok := keys.Load(name); ok {
		return k.(ed25519.PrivateKey) //nolint:forcetypeassert // the only type in it
	}
	seed := sha256.Sum256([]byte("commonwatt simulation " + name))
	k := ed25519.NewKeyFromSeed(seed[:])
	keys.Store(name, k)
	return k
}

func public(k ed25519.PrivateKey) ledger.Key {
	return ledger.KeyOf(k.Public().(ed25519.PublicKey)) //nolint:forcetypeassert // that of crypto/ed25519
}

func sign(k ed25519.PrivateKey, msg []byte) []byte { return ed25519.Sign(k, msg) }
