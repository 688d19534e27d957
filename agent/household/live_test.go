package household

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
)

// every calls f again and again until the test ends.
func every(t testing.TB, d time.Duration, f func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		for pause(ctx, d) {
			f()
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
}

// running runs a home until the test ends, or stop is called.
func running(t testing.TB, h *Home) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// mqttBroker is a broker within the process, on a port that it keeps over restarts.
type mqttBroker struct {
	t       testing.TB
	mu      sync.Mutex
	server  *broker.Server // nil: it is away
	address string
}

func newMQTTBroker(t testing.TB) *mqttBroker {
	t.Helper()
	b := &mqttBroker{t: t, address: "127.0.0.1:0"}
	b.start()
	t.Cleanup(b.stop)
	return b
}

func (b *mqttBroker) start() {
	b.t.Helper()
	s := broker.New(&broker.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	if err := s.AddHook(new(auth.AllowHook), nil); err != nil {
		b.t.Fatal(err)
	}
	var l net.Listener
	eventually(b.t, 10*time.Second, "the broker listens", func() (ok bool) {
		var err error
		l, err = net.Listen("tcp", b.address)
		return err == nil
	})
	if err := s.AddListener(listeners.NewNet("net", l)); err != nil {
		b.t.Fatal(err)
	}
	if err := s.Serve(); err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.server, b.address = s, l.Addr().String()
}

func (b *mqttBroker) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.server != nil {
		_ = b.server.Close()
	}
	b.server = nil
}

func (b *mqttBroker) publish(topic string, payload []byte, retain bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.server != nil {
		_ = b.server.Publish(topic, payload, retain, 0)
	}
}

// A broker that goes away for some intervals and comes back: the page says so, and the sums
// are exact. The device signs, so that what was settled can be held against what it said.
func TestBrokerGoesAway(t *testing.T) {
	t.Parallel()
	b := newMQTTBroker(t)
	key := seed(3)
	start := time.Now()
	tw := found(t, townOptions{
		start: start, rate: 900, now: time.Now,
		rules:   func(r *ledger.Rules) { r.ReadingToleranceS = 600 },
		meterOf: func(Founder) (ed25519.PublicKey, error) { return key.Public().(ed25519.PublicKey), nil },
	})
	h := mustOpen(t, tw.options(0, config("commonwatt-signed", "mqtt://"+b.address+"/home")))
	running(t, h)
	device := newSigner(t, key)
	every(t, 20*time.Millisecond, func() { tw.block() })
	var mu sync.Mutex
	said := map[uint64]meter.Reading{}
	imported, exported := uint64(5_000_000), uint64(70_000)
	every(t, 30*time.Millisecond, func() {
		imported, exported = imported+7, exported+2
		r, err := device.chain.Append(meter.Sample{At: h.community(), ImportWh: &imported, ExportWh: &exported})
		if err != nil {
			return // its clock has milliseconds, as all have
		}
		payload, err := meter.EncodeSigned(r, key.Public().(ed25519.PublicKey))
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		said[r.Seq] = r
		mu.Unlock()
		b.publish("commonwatt/home/reading", payload, true)
	})
	state := func() api.MeterState { return h.Snapshot().Meters[0].State }
	settled := func() int { return len(tw.settlements(h.id)) }
	eventually(t, 30*time.Second, "settled with the broker there", func() bool { return settled() >= 3 })
	b.stop()
	eventually(t, 30*time.Second, "the page says that the meter is silent", func() bool { return state() == api.MeterSilent })
	if _, ok := problem(h.Snapshot(), "meter-silent"); !ok || h.Snapshot().Power.ConnectionW != nil {
		t.Errorf("problems %+v, power %+v", h.Snapshot().Problems, h.Snapshot().Power)
	}
	before := settled()
	b.start()
	eventually(t, 30*time.Second, "settled again after the broker is back", func() bool { return settled() >= before+4 && state() == api.MeterOK })

	first := tw.first(h.id)
	gotImport, gotExport, last := tw.counted(h.id, first)
	mu.Lock()
	defer mu.Unlock()
	proves := func(k market.Interval) meter.Reading {
		var best meter.Reading
		for _, r := range said {
			if late := r.At.Sub(h.calendar.Start(k)); late >= 0 && late <= h.tolerance() && (best.Seq == 0 || r.Seq < best.Seq) {
				best = r
			}
		}
		return best
	}
	from, to := proves(first), proves(last+1)
	// The first reading after a boundary may not have been heard; the sums are of readings that were said.
	if d := int64(*to.ImportWh-*from.ImportWh) - int64(gotImport); d < -70 || d > 70 || uint64(gotImport)%7 != 0 || uint64(gotExport) != uint64(gotImport)/7*2 {
		t.Errorf("settled %d and %d Wh in intervals %d to %d, the device counted %d", gotImport, gotExport, first, last, *to.ImportWh-*from.ImportWh)
	}
	if n := tw.estimated(h.id); n < 2 {
		t.Errorf("%d intervals are estimated, want those in which the broker was away", n)
	}
}

func (tw *town) estimated(h market.HouseholdID) (n int) {
	tw.t.Helper()
	for _, s := range tw.settlements(h) {
		if s.Quality == ledger.QualityEstimated {
			n++
		}
	}
	return n
}

// first is the first Interval that was settled as metered.
func (tw *town) first(h market.HouseholdID) market.Interval {
	tw.t.Helper()
	first := market.MaxInterval
	for k, s := range tw.settlements(h) {
		if metered(s.Quality) {
			first = min(first, k)
		}
	}
	return first
}

// A message that the broker had kept is no reading: with nothing but that the meter is silent,
// not suspect, and its numbers are not shown.
func TestRetainedOnly(t *testing.T) {
	t.Parallel()
	b := newMQTTBroker(t)
	b.publish("tele/home/SENSOR", []byte(`{"SML":{"Total_in":12.5,"Total_out":3.25,"Power_curr":100}}`), true)
	tw := found(t, townOptions{start: time.Now(), rate: 900, now: time.Now})
	h := mustOpen(t, tw.options(0, config("tasmota", "mqtt://"+b.address+"/home")))
	running(t, h)
	eventually(t, 30*time.Second, "the meter is silent", func() bool { return h.Snapshot().Meters[0].State == api.MeterSilent })
	m := h.Snapshot().Meters[0]
	if m.ImportWh != nil || m.PowerW != nil || m.LastAt != nil || !strings.Contains(m.Note, "kept from before") {
		t.Errorf("meter %+v", m)
	}
	every(t, 50*time.Millisecond, func() {
		b.publish("tele/home/SENSOR", []byte(`{"SML":{"Total_in":12.5,"Total_out":3.25,"Power_curr":100}}`), true)
	})
	eventually(t, 30*time.Second, "it speaks", func() bool {
		m := h.Snapshot().Meters[0]
		return m.State == api.MeterOK && m.ImportWh != nil && *m.ImportWh == 12500 && m.PowerW != nil && *m.PowerW == 100
	})
}

// A meter that sends rubbish is suspect, not silent; Subscribe tells of the new picture.
func TestRubbish(t *testing.T) {
	t.Parallel()
	b := newMQTTBroker(t)
	tw := found(t, townOptions{start: time.Now(), rate: 900, now: time.Now})
	h := mustOpen(t, tw.options(0, config("tasmota", "mqtt://"+b.address+"/home")))
	changes, cancel := h.Subscribe()
	running(t, h)
	every(t, 50*time.Millisecond, func() { b.publish("tele/home/SENSOR", []byte(`{"SML":{"Total_in":`), false) })
	deadline := time.After(30 * time.Second)
	for h.Snapshot().Meters[0].State != api.MeterSuspect {
		select {
		case <-changes:
		case <-deadline:
			t.Fatalf("never suspect: %+v", h.Snapshot().Meters)
		}
	}
	cancel()
	m := h.Snapshot().Meters[0]
	if m.ImportWh != nil || m.PowerW != nil || !strings.Contains(m.Note, "unreadable message") {
		t.Errorf("meter %+v", m)
	}
	if n := len(h.watchers.all); n != 0 {
		t.Errorf("%d still watch", n)
	}
}

// Two meters of one role behind one broker do not throw each other off.
func TestTwoMetersOneBroker(t *testing.T) {
	t.Parallel()
	b := newMQTTBroker(t)
	tw := found(t, townOptions{start: time.Now(), now: time.Now})
	c := config("tasmota", "mqtt://"+b.address+"/home")
	for _, topic := range []string{"east", "west"} {
		c.Meters = append(c.Meters, MeterConfig{Role: RoleSolar, Definition: "tasmota", Address: "mqtt://" + b.address + "/" + topic})
	}
	h := mustOpen(t, tw.options(0, c))
	running(t, h)
	every(t, 50*time.Millisecond, func() {
		for _, topic := range []string{"home", "east", "west"} {
			b.publish("tele/"+topic+"/SENSOR", []byte(`{"SML":{"Total_in":12.5,"Total_out":3.25,"Power_curr":-100}}`), false)
		}
	})
	eventually(t, 30*time.Second, "all are heard", func() bool {
		p := h.Snapshot().Power
		return p.SolarW != nil && *p.SolarW == 200 && p.HouseW != nil && *p.HouseW == 100
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := map[string]bool{}
	for id := range b.server.Clients.GetAll() {
		if strings.HasPrefix(id, "commonwatt-") {
			ids[id] = true
		}
	}
	if len(ids) != 3 {
		t.Errorf("clients %v, want 3", ids)
	}
}

// The whole home on a real ledger: a community of one, founded, with consensus and a meter on
// Modbus. It is admitted, orders, reports and is settled on what its meter counted; ended and
// started again it goes on.
func TestFoundedHome(t *testing.T) {
	t.Parallel()
	device := newDevice630(t)
	device.units[1] = &unit630{imported: 1_000_000, exported: 2_000}
	dir := t.TempDir()
	home := filepath.Join(dir, "home")
	rules := ledger.DefaultRules()
	rules.ReadingToleranceS = 400
	err := Found(Founding{
		Name: "sim-one", Dir: filepath.Join(dir, "cooperative"), Epoch: dawn, Start: time.Now(), Rate: 450, Rules: rules,
		Homes: []Founder{{Name: "one", Dir: home, Validator: true, Meter: ledger.RegisterMeter{SignedBy: ledger.SignedByAgent, Definition: "eastron-sdm630@1"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	every(t, 20*time.Millisecond, func() {
		device.set(func(units map[uint8]*unit630) {
			units[1].imported += 3
			units[1].exported++
			units[1].power = 900
		})
	})
	seen := int64(0)
	for round := range 2 {
		t.Run(fmt.Sprintf("start %d", round+1), func(t *testing.T) {
			node, h := startNode(t, home, config("eastron-sdm630", device.address()))
			var s api.Snapshot
			eventually(t, 60*time.Second, "three more intervals settled", func() bool {
				s = h.Snapshot()
				return s.Account.Settlements >= seen+3 && s.Meters[0].State == api.MeterOK
			})
			seen = s.Account.Settlements
			if *s.Account.Balance != *s.Account.Earned-*s.Account.Spent || *s.Account.Spent == 0 || s.Home.Role != api.RoleValidator {
				t.Errorf("account %+v", s.Account)
			}
			if hash, ok := h.AppHash(*s.Ledger.Height); !ok || hash != s.Ledger.AppHash {
				t.Errorf("hash %s at height %d, the page says %s", hash, *s.Ledger.Height, s.Ledger.AppHash)
			}
			bought := market.WattHours(0)
			err := node.Settlements(h.id, 0, func(s *ledger.Settlement) bool {
				bought += s.Bought
				if metered(s.Quality) && (s.Import != 3*s.Export || s.Import == 0) {
					t.Errorf("interval %d: metered %d and %d Wh, the device counts 3 to 1", s.Interval, s.Import, s.Export)
				}
				return true
			})
			if err != nil || bought == 0 {
				t.Errorf("nothing was bought, %v", err)
			}
		})
	}
}

// startNode starts a home and its ledger's node until the test ends.
func startNode(t *testing.T, dir string, c Config) (*consensus.Node, *Home) {
	t.Helper()
	keys, err := LoadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	genesis, err := os.ReadFile(filepath.Join(dir, CommunityFile))
	if err != nil {
		t.Fatal(err)
	}
	keyFile, stateFile := ValidatorKeyFiles(dir)
	node, err := consensus.New(consensus.Config{
		Home: filepath.Join(dir, EngineFolder), Genesis: genesis, NodeKey: keys.Network,
		ValidatorKeyFile: keyFile, ValidatorStateFile: stateFile,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- node.Run(ctx, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	h := mustOpen(t, Options{Config: c, Dir: dir, Keys: keys, Ledger: node, Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	running(t, h)
	return node, h
}
