package demo_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/p2p"
)

// What a gateway in somebody's cellar does nearly all of the time: the clock is that of real
// life, a meter is read at its usual pace, blocks come when there is something to decide.
const (
	idleWindow  = time.Minute      // of processor time
	idleSettled = 10 * time.Second // in which memory has to stay within a fiftieth, before the window begins
	idleReady   = 3 * time.Minute  // until all take part
)

// roles are those of the homes of a small community, in their order.
var roles = []string{
	household.RoleValidator, household.RoleValidator, household.RoleValidator, household.RoleValidator,
	household.RoleReplica, household.RoleLight,
}

// BenchmarkAgent looks from outside at idle homes of each role, in a community of real
// processes at the pace of real life:
//
//	rss-MB      resident memory at the end, pages of files included
//	idle-cpu-%  of one core, over a minute
//	disk-MB     what the home's folder takes
//
// Validators are a mean over all four.
func BenchmarkAgent(b *testing.B) {
	street := startIdle(b)
	before := street.processorTime(b)
	began := time.Now()
	<-time.After(idleWindow)
	after, window := street.processorTime(b), time.Since(began)
	for _, role := range []string{household.RoleValidator, household.RoleReplica, household.RoleLight} {
		var homes, rss, disk, busy float64
		for i, a := range street.agents {
			if roles[i] == role {
				homes++
				rss += float64(residentMemory(b, a.Process.Pid))
				disk += float64(onDisk(b, street.home(i)))
				busy += float64(after[i] - before[i])
			}
		}
		b.Run("role="+role, func(b *testing.B) {
			// It was measured above, of all roles in the same minute.
			b.ReportMetric(rss/homes/1e6, "rss-MB")
			b.ReportMetric(100*busy/homes/float64(window), "idle-cpu-%")
			b.ReportMetric(disk/homes/1e6, "disk-MB")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// idle is a community at the pace of real life, in dir.
type idle struct {
	dir    string
	agents []*exec.Cmd
	pages  []string
}

func (s *idle) home(i int) string { return filepath.Join(s.dir, fmt.Sprintf("home-%d", i+1)) }

// startIdle founds it, starts its meters and agents, and returns when all take part and their
// memory does not grow any more.
func startIdle(b *testing.B) *idle {
	b.Helper()
	s := &idle{dir: b.TempDir()}
	now := time.Now().UTC().Truncate(time.Second)
	definition, err := meter.FindDefinition("", "eastron-sdm630")
	if err != nil {
		b.Fatal(err)
	}
	f := household.Founding{
		Name: "demo-idle", Dir: filepath.Join(s.dir, "cooperative"), Epoch: now, Start: now, Rate: 1, Rules: ledger.DefaultRules(),
	}
	for i, role := range roles {
		f.Homes = append(f.Homes, household.Founder{
			Name: fmt.Sprintf("home-%d", i+1), Dir: s.home(i), Validator: role == household.RoleValidator,
			Meter: ledger.RegisterMeter{SignedBy: ledger.SignedByAgent, Definition: definition.Source()},
		})
	}
	if err := household.Found(f); err != nil {
		b.Fatal(err)
	}
	s.configure(b, s.simulate(b, now))
	for i := range roles {
		s.agents = append(s.agents, process(b, filepath.Join(s.dir, fmt.Sprintf("home-%d.log", i+1)), commonwatt(b), "run", "--home", s.home(i)))
	}
	s.await(b, "all homes are members, with a meter and all peers", idleReady, func() bool {
		for i := range roles {
			if !s.takesPart(i) {
				return false
			}
		}
		return true
	})
	s.calm(b)
	return s
}

// simulate starts firmware-sim with a meter for each home, and returns where they are.
func (s *idle) simulate(b *testing.B, start time.Time) string {
	b.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "clock: {epoch: %[1]s, start: %[1]s, rate: 1}\ninterval: 15m\nseed: 42\n", start.Format(time.RFC3339))
	port := freePort(b)
	fmt.Fprintf(&text, "modbus: {listen: 127.0.0.1:%d}\nhomes:\n", port)
	for i := range roles {
		fmt.Fprintf(&text, "  - id: home-%d\n    load: {model: household, yearly_kwh: 3500}\n    devices:\n", i+1)
		fmt.Fprintf(&text, "      - {role: grid, definition: eastron-sdm630, unit: %d}\n", i+1)
	}
	file := filepath.Join(s.dir, "firmware-sim.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	process(b, filepath.Join(s.dir, "firmware-sim.log"), filepath.Join(filepath.Dir(commonwatt(b)), "firmware-sim"), "run", "--config", file)
	return fmt.Sprintf("tcp://127.0.0.1:%d", port)
}

// configure writes each home's agent.yaml.
func (s *idle) configure(b *testing.B, meters string) {
	b.Helper()
	network := make([][]string, len(roles))
	reached := make([]string, len(roles))
	for i := range roles {
		keys, err := household.LoadKeys(s.home(i))
		if err != nil {
			b.Fatal(err)
		}
		id, err := p2p.IDOf(keys.Network.Public().(ed25519.PublicKey))
		if err != nil {
			b.Fatal(err)
		}
		port := freePort(b)
		network[i] = []string{fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port), fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", port)}
		reached[i] = network[i][1] + "/p2p/" + string(id)
	}
	for i, role := range roles {
		page := fmt.Sprintf("127.0.0.1:%d", freePort(b))
		s.pages = append(s.pages, "http://"+page)
		c := household.Config{
			Name: fmt.Sprintf("home-%d", i+1), Role: role, Clock: household.ClockTrusted, Access: household.AccessOpen,
			Listen: household.ListenConfig{API: page, Network: network[i]},
			Meters: []household.MeterConfig{{Role: household.RoleConnection, Definition: "eastron-sdm630", Address: meters, Unit: uint8(i + 1)}},
		}
		for n, address := range reached {
			if n != i {
				c.Peers.Bootstrap = append(c.Peers.Bootstrap, address)
			}
		}
		if err := household.WriteConfig(s.home(i), c); err != nil {
			b.Fatal(err)
		}
	}
}

// takesPart says whether a home is a member, reads its meter, and has blocks and peers.
func (s *idle) takesPart(i int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.pages[i]+"/api/status", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	var status api.Status
	if json.NewDecoder(res.Body).Decode(&status) != nil {
		return false
	}
	for _, p := range status.Problems {
		if p.Code == "not-a-member" || p.Code == "catching-up" {
			return false
		}
	}
	peers := len(roles) - 2 // a replica and validators do not call a light home
	return status.Ledger.Height != nil && *status.Ledger.Height >= 2 && len(status.Ledger.Peers) >= peers &&
		len(status.Meters) == 1 && status.Meters[0].State == api.MeterOK
}

// calm waits until memory stays what it is.
func (s *idle) calm(b *testing.B) {
	b.Helper()
	total := func() (sum int64) {
		for _, a := range s.agents {
			sum += residentMemory(b, a.Process.Pid)
		}
		return sum
	}
	last, since := total(), time.Now()
	s.await(b, "memory settles", idleReady, func() bool {
		if now := total(); now > last+last/50 || now < last-last/50 {
			last, since = now, time.Now()
		}
		return time.Since(since) >= idleSettled
	})
}

func (s *idle) await(b *testing.B, what string, limit time.Duration, ok func() bool) {
	b.Helper()
	deadline := time.Now().Add(limit)
	for tick := time.Tick(500 * time.Millisecond); !ok(); <-tick {
		if time.Now().After(deadline) {
			b.Fatalf("after %v: not so that %s: see %s", limit, what, s.dir)
		}
	}
}

// processorTime is what each agent has used of it.
func (s *idle) processorTime(b *testing.B) []time.Duration {
	b.Helper()
	used := make([]time.Duration, len(s.agents))
	for i, a := range s.agents {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.Process.Pid))
		if err != nil {
			b.Fatal(err)
		}
		// Behind the program's name in brackets: fields 14 and 15, in hundredths of a second.
		fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
		for _, at := range []int{11, 12} {
			n, err := strconv.ParseInt(fields[at], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			used[i] += time.Duration(n) * time.Second / 100
		}
	}
	return used
}

// residentMemory of a process, in bytes.
func residentMemory(b *testing.B, pid int) int64 {
	b.Helper()
	return 1024 * procNumber(b, pid, "status", "VmRSS:")
}

// onDisk is what the files of a folder take.
func onDisk(b *testing.B, dir string) (total int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			total += 512 * st.Blocks
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return total
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
