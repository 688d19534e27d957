package demo_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/store"
	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/p2p"
	"github.com/commonwatt/commonwatt/p2p/bed"
)

// community is one of real processes in dir: an agent for each role, and meters. All are on
// loopback, or, with a bed, each in a network of its own.
type community struct {
	dir   string
	roles []string
	rate  int64
	epoch time.Time // community time at the start; zero: that of the wall clock
	start time.Time
	bed   *bed.Bed // nil: all on loopback

	agents []*exec.Cmd
	pages  []string
	client []*http.Client
}

// upWithin is how long it may take until all take part.
const upWithin = 4 * time.Minute

func (s *community) home(i int) string { return filepath.Join(s.dir, s.name(i)) }
func (s *community) name(i int) string { return fmt.Sprintf("home-%d", i+1) }

// wall is how long a span of the community's time takes.
func (s *community) wall(d time.Duration) time.Duration { return d / time.Duration(s.rate) }

// settle founds a community, starts its meters and agents, and returns when all take part.
func settle(b *testing.B, s *community) {
	b.Helper()
	s.dir, s.start = b.TempDir(), time.Now().UTC().Truncate(time.Second)
	if s.epoch.IsZero() {
		s.epoch = s.start
	}
	definition, err := meter.FindDefinition("", "eastron-sdm630")
	if err != nil {
		b.Fatal(err)
	}
	rules := ledger.DefaultRules()
	if s.rate > 1 {
		// Seconds of the wall clock to read in, and a quiet time between reports and orders.
		rules.ReadingToleranceS, rules.LeadS = min(8*s.rate, 170), 60
	}
	f := household.Founding{
		Name: "demo-community", Dir: filepath.Join(s.dir, "cooperative"), Epoch: s.epoch, Start: s.start, Rate: s.rate, Rules: rules,
	}
	for i, role := range s.roles {
		f.Homes = append(f.Homes, household.Founder{
			Name: s.name(i), Dir: s.home(i), Validator: role == household.RoleValidator,
			Meter: ledger.RegisterMeter{SignedBy: ledger.SignedByAgent, Definition: definition.Source()},
		})
	}
	if err := household.Found(f); err != nil {
		b.Fatal(err)
	}
	places := s.places(b)
	s.simulate(b)
	s.configure(b, places)
	for i := range s.roles {
		argv := []string{commonwatt(b), "run", "--home", s.home(i)}
		if s.bed != nil {
			argv = s.bed.Command(b.Context(), s.name(i), argv...).Args
		}
		s.agents = append(s.agents, process(b, s.home(i)+".log", argv[0], argv[1:]...))
	}
	s.await(b, "all homes are members, with a meter and all peers", upWithin, func() bool {
		for i := range s.roles {
			if !s.takesPart(i) {
				return false
			}
		}
		return true
	})
}

// places gives each home where the others reach it, and the meters' line to it.
func (s *community) places(b *testing.B) (hosts []string) {
	b.Helper()
	if s.bed == nil {
		for range s.roles {
			hosts, s.client = append(hosts, "127.0.0.1"), append(s.client, http.DefaultClient)
		}
		return hosts
	}
	s.bed.Public("meters")
	s.bed.In("meters", "ip link add lines type bridge; ip link set lines up; ip addr add 10.99.0.254/24 dev lines")
	for i := range s.roles {
		host, _ := s.bed.Public(s.name(i))
		s.bed.In("meters", fmt.Sprintf(`ip link add line%[1]d type veth peer name meter netns /run/netns/%[2]s
			ip link set line%[1]d master lines up`, i, s.name(i)))
		s.bed.In(s.name(i), fmt.Sprintf("ip link set meter up; ip addr add 10.99.0.%d/24 dev meter", i+1))
		hosts, s.client = append(hosts, host), append(s.client, s.bed.Client(s.name(i)))
	}
	return hosts
}

// meters is where the meters are.
func (s *community) meters() string {
	if s.bed != nil {
		return "10.99.0.254:502"
	}
	return fmt.Sprintf("127.0.0.1:%d", simulatorPort)
}

// simulatorPort is below the range from which the system gives ports away.
const simulatorPort = 15_502

// simulate starts firmware-sim with a meter for each home. A counter stays as it is for three
// minutes, so that a reading in the seconds after a boundary proves it at a faster clock too.
func (s *community) simulate(b *testing.B) {
	b.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "clock: {epoch: %s, start: %s, rate: %d}\ninterval: 15m\nrefresh: 3m\nseed: 42\n", s.epoch.Format(time.RFC3339), s.start.Format(time.RFC3339), s.rate)
	fmt.Fprintf(&text, "modbus: {listen: %q}\nhomes:\n", s.meters())
	for i := range s.roles {
		fmt.Fprintf(&text, "  - id: home-%d\n    load: {model: household, yearly_kwh: 3500}\n", i+1)
		if i%3 == 0 {
			fmt.Fprintf(&text, "    solar: {kwp: 4}\n")
		}
		fmt.Fprintf(&text, "    devices:\n")
		fmt.Fprintf(&text, "      - {role: grid, definition: eastron-sdm630, unit: %d}\n", i+1)
	}
	file := filepath.Join(s.dir, "firmware-sim.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	argv := []string{filepath.Join(filepath.Dir(commonwatt(b)), "firmware-sim"), "run", "--config", file}
	if s.bed != nil {
		argv = s.bed.Command(b.Context(), "meters", argv...).Args
	}
	process(b, filepath.Join(s.dir, "firmware-sim.log"), argv[0], argv[1:]...)
}

// configure writes each home's agent.yaml.
func (s *community) configure(b *testing.B, hosts []string) {
	b.Helper()
	network := make([][]string, len(s.roles))
	reached := make([]string, len(s.roles))
	for i, host := range hosts {
		keys, err := household.LoadKeys(s.home(i))
		if err != nil {
			b.Fatal(err)
		}
		id, err := p2p.IDOf(keys.Network.Public().(ed25519.PublicKey))
		if err != nil {
			b.Fatal(err)
		}
		port := 8602
		if s.bed == nil {
			port = freePort(b)
		}
		network[i] = []string{fmt.Sprintf("/ip4/%s/tcp/%d", host, port), fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", host, port)}
		reached[i] = network[i][1] + "/p2p/" + string(id)
	}
	for i, role := range s.roles {
		page := "127.0.0.1:8601"
		if s.bed == nil {
			page = fmt.Sprintf("127.0.0.1:%d", freePort(b))
		}
		s.pages = append(s.pages, "http://"+page)
		c := household.Config{
			Name: s.name(i), Role: role, Clock: household.ClockTrusted, Access: household.AccessOpen,
			Listen: household.ListenConfig{API: page, Network: network[i]},
			Meters: []household.MeterConfig{{Role: household.RoleConnection, Definition: "eastron-sdm630", Address: "tcp://" + s.meters(), Unit: uint8(i + 1)}},
		}
		for n, address := range reached {
			if n != i && s.roles[n] != household.RoleLight {
				c.Peers.Bootstrap = append(c.Peers.Bootstrap, address)
			}
		}
		if err := household.WriteConfig(s.home(i), c); err != nil {
			b.Fatal(err)
		}
	}
}

// get asks a home's page; false if it does not answer.
func (s *community) get(i int, path string, v any) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.pages[i]+path, nil)
	if err != nil {
		return false
	}
	res, err := s.client[i].Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return json.NewDecoder(res.Body).Decode(v) == nil
}

// takesPart says whether a home is a member, reads its meter, and has blocks and peers.
func (s *community) takesPart(i int) bool {
	var status api.Status
	if !s.get(i, "/api/status", &status) {
		return false
	}
	for _, p := range status.Problems {
		if p.Code == "not-a-member" || p.Code == "catching-up" {
			return false
		}
	}
	peers := -1 // others that hold the ledger: those do not call a light home
	for _, role := range s.roles {
		if role != household.RoleLight {
			peers++
		}
	}
	return status.Ledger.Height != nil && *status.Ledger.Height >= 2 && len(status.Ledger.Peers) >= peers &&
		len(status.Meters) == 1 && status.Meters[0].State == api.MeterOK
}

func (s *community) await(b *testing.B, what string, limit time.Duration, ok func() bool) {
	b.Helper()
	deadline := time.Now().Add(limit)
	for tick := time.Tick(500 * time.Millisecond); !ok(); <-tick {
		if time.Now().After(deadline) {
			b.Fatalf("after %v: not so that %s: see %s", limit, what, s.dir)
		}
	}
}

// homesOf lists roles.
func homesOf(validators, replicas, light int) []string {
	return slices.Concat(slices.Repeat([]string{household.RoleValidator}, validators),
		slices.Repeat([]string{household.RoleReplica}, replicas), slices.Repeat([]string{household.RoleLight}, light))
}

// stop ends all agents, those of a benchmark that is not over yet.
func (s *community) stop() {
	for _, a := range s.agents {
		_ = a.Process.Signal(syscall.SIGTERM)
	}
	for _, a := range s.agents {
		_ = a.Wait()
	}
}

// mean is a number of each role's homes.
func (s *community) mean(of func(i int) float64) map[string]float64 {
	sum, homes := map[string]float64{}, map[string]float64{}
	for i, role := range s.roles {
		sum[role] += of(i)
		homes[role]++
	}
	for role := range sum {
		sum[role] /= homes[role]
	}
	return sum
}

// quietAfter is how long after an interval has begun, on the wall clock, its reports have
// been sent and everybody has the block of its gate.
const quietAfter = 20 * time.Second

// sinceBoundary is how long ago, on the wall clock, an interval has begun.
func (s *community) sinceBoundary() time.Duration {
	at := s.epoch.Add(time.Since(s.start) * time.Duration(s.rate))
	return s.wall(at.Sub(at.Truncate(15 * time.Minute)))
}

// awaitPhase waits until an interval has begun so long ago.
func (s *community) awaitPhase(phase time.Duration) {
	wait := phase - s.sinceBoundary()
	if wait <= 0 {
		wait += s.wall(15 * time.Minute)
	}
	<-time.After(wait)
}

// ordersFrom is how long after the beginning of an interval, on the wall clock, the first home
// orders for the next: two fifths of an interval before the gate, which is a minute of the
// community's time before the end (household.quoteBefore); less a second to be sure.
func (s *community) ordersFrom() time.Duration {
	return s.wall(15*time.Minute*3/5-time.Minute) - time.Second
}

// awaitMetered waits until each home knows what an interval came to, from which on it orders,
// and until nothing is left to do in the interval after that.
func (s *community) awaitMetered(b *testing.B) {
	b.Helper()
	s.await(b, "every home has metered an interval", upWithin, func() bool {
		for i := range s.roles {
			var list api.Intervals
			if !s.get(i, "/api/intervals", &list) || !slices.ContainsFunc(list.Intervals, func(k api.Interval) bool { return k.ImportWh != nil }) {
				return false
			}
		}
		return true
	})
	s.awaitPhase(quietAfter)
}

// replicaOf is the number of the home that homesOf made a replica.
const replicaOf = 4

// checkOrdered stops the agents and holds that all but a few homes ordered for the newest
// interval whose gate has closed: what costs little because nothing happens proves nothing.
// A home whose energy comes to nothing orders nothing.
func (s *community) checkOrdered(b *testing.B) {
	b.Helper()
	s.stop()
	doc, err := os.ReadFile(filepath.Join(s.home(replicaOf), household.CommunityFile))
	if err != nil {
		b.Fatal(err)
	}
	chain, genesis, err := consensus.ParseGenesis(doc)
	if err != nil {
		b.Fatal(err)
	}
	db, err := store.Open(consensus.LedgerFile(filepath.Join(s.home(replicaOf), household.EngineFolder)), chain, genesis)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	state, ordered := db.State(), 0
	record, ok := state.Interval(state.Next() - 1)
	if !ok {
		b.Fatalf("interval %d is not on the ledger", state.Next()-1)
	}
	for _, home := range state.Households() {
		if e, ok := record.Entry(home); ok && e.BidSeq+e.OfferSeq > 0 {
			ordered++
		}
	}
	if want := len(s.roles) * 9 / 10; ordered < want {
		b.Errorf("%d homes of %d ordered for interval %d, want %d or more", ordered, len(s.roles), state.Next()-1, want)
	}
}

// process starts a program that ends with the test.
func process(b testing.TB, log, program string, args ...string) *exec.Cmd {
	b.Helper()
	f, err := os.Create(log)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = f, f
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	return cmd
}

// freePort is one that nobody has now.
func freePort(b testing.TB) int {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
