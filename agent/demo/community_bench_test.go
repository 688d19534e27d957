package demo_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/p2p/bed"
)

// resultEnv names the file in which the child leaves what it has measured.
const resultEnv = "COMMONWATT_COMMUNITY_RESULT"

// BenchmarkCommunity/households=37 is a street as large as the largest whose figures have been
// published: four validators, a replica, 32 light homes, each a real agent with a network of
// its own. All of them meter, order, report and are settled. A quarter of an hour passes in 90
// seconds; what happens once in an interval and what goes on all the time are told apart, and
// put together as they are in real life: 96 intervals and 86,400 seconds a day.
//
//	net-B/household-day   what the line of a home carries, in and out, headers included, by the
//	                      kernel's count; mean over all 37
//	validator-B/day, light-B/day   the same of each role
//	disk-MB/month         by how much the folder of a home that keeps everything grows in 30
//	                      days of 96 intervals; mean over validators and replica. The engine's
//	                      write-ahead log is left out, which is at most 20 MB for ever
//	disk-write-MB/month   what such a home has the disk write
//	blocks/interval       how many blocks that takes
func BenchmarkCommunity(b *testing.B) {
	onRealDisk(b)
	file := os.Getenv(resultEnv)
	if file == "" {
		file = filepath.Join(b.TempDir(), "result.json")
	}
	if bed.Enter(b, programsEnv+"="+filepath.Dir(commonwatt(b)), resultEnv+"="+file) {
		raw, err := json.Marshal(measureCommunity(b, 37))
		if err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			b.Fatal(err)
		}
		return
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	var figures map[string]float64
	if err := json.Unmarshal(raw, &figures); err != nil {
		b.Fatal(err)
	}
	b.Run("households=37", func(b *testing.B) {
		for unit, value := range figures {
			b.ReportMetric(value, unit)
		}
		b.ReportMetric(0, "ns/op")
	})
}

// counts is what has been counted of each home at an instant.
type counts struct {
	at    time.Time
	tall  int64   // the replica's height
	net   []int64 // bytes on its line, both ways
	disk  []int64 // its folder's size, the engine's write-ahead log left out
	wrote []int64
}

func (s *community) count(b *testing.B) counts {
	b.Helper()
	c := counts{at: time.Now(), wrote: s.written(b)}
	var status api.Status
	if s.get(replicaOf, "/api/status", &status) && status.Ledger.Height != nil {
		c.tall = *status.Ledger.Height
	}
	for i, a := range s.agents {
		c.net = append(c.net, lineBytes(b, a.Process.Pid, "wan"))
		c.disk = append(c.disk, onDisk(b, s.home(i))-onDisk(b, filepath.Join(s.home(i), household.EngineFolder, "data", "cs.wal")))
	}
	return c
}

// lineBytes is what a network interface of a process's network has carried, both ways.
func lineBytes(b *testing.B, pid int, device string) int64 {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		b.Fatal(err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		f := strings.Fields(rest)
		if strings.TrimSpace(name) != device || len(f) < 9 {
			continue
		}
		in, err1 := strconv.ParseInt(f[0], 10, 64)
		out, err2 := strconv.ParseInt(f[8], 10, 64)
		if err1 != nil || err2 != nil {
			b.Fatalf("%s of process %d: %q", device, pid, lines.Text())
		}
		return in + out
	}
	b.Fatalf("process %d has no line called %s", pid, device)
	return 0
}

func measureCommunity(b *testing.B, homes int) map[string]float64 {
	b.Helper()
	s := &community{roles: homesOf(4, 1, homes-5), rate: busyRate, bed: bed.New(b)}
	settle(b, s)
	s.awaitMetered(b)
	// From the reports to the first order of the next interval nothing happens.
	first := s.count(b)
	s.awaitPhase(s.ordersFrom())
	quiet := s.count(b)
	s.awaitPhase(quietAfter)
	busy := s.count(b)
	s.awaitPhase(s.ordersFrom())
	again := s.count(b)
	s.checkOrdered(b)
	// Of each home: bytes a second while nothing happens, and bytes of an interval besides.
	spent := quiet.at.Sub(first.at) + again.at.Sub(busy.at)
	day := func(i int) float64 {
		idle := float64(quiet.net[i]-first.net[i]+again.net[i]-busy.net[i]) / spent.Seconds()
		event := float64(busy.net[i]-quiet.net[i]) - idle*busy.at.Sub(quiet.at).Seconds()
		return 86_400*idle + 96*event
	}
	net := s.mean(day)
	sum := 0.0
	for _, role := range s.roles {
		sum += net[role]
	}
	const month = 30 * 96
	grew := s.mean(func(i int) float64 { return float64(busy.disk[i] - first.disk[i]) })
	wrote := s.mean(func(i int) float64 { return float64(busy.wrote[i] - first.wrote[i]) })
	ofKeepers := func(m map[string]float64) float64 {
		return (4*m[household.RoleValidator] + m[household.RoleReplica]) / 5
	}
	return map[string]float64{
		"net-B/household-day": sum / float64(homes), "validator-B/day": net[household.RoleValidator], "light-B/day": net[household.RoleLight],
		"disk-MB/month": month * ofKeepers(grew) / 1e6, "disk-write-MB/month": month * ofKeepers(wrote) / 1e6,
		"blocks/interval": float64(busy.tall - first.tall),
	}
}
