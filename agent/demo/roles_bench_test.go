package demo_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/household"
)

// What a gateway in somebody's cellar does nearly all of the time: the clock is that of real
// life, a meter is read at its usual pace, blocks come when there is something to decide.
const (
	idleWindow  = 2 * time.Minute  // of processor time and of writing
	idleSettled = 10 * time.Second // in which memory has to stay within a fiftieth, before the window begins
	idleReady   = 3 * time.Minute  // until it does

	busyHomes = 40
	busyRate  = 10 // so that 15 minutes pass in 90 seconds
)

// BenchmarkAgent looks from outside at the agents of each role, in communities of real
// processes whose folders are on a disk. At the pace of real life, in two minutes without a
// gate:
//
//	rss-MB            resident memory at the end, pages of files included
//	idle-cpu-%        of one core
//	disk-MB           what the home's folder takes
//	disk-B/idle-hour  what the agent has the disk write (/proc/PID/io, write_bytes: pages made
//	                  dirty) while nothing is to be decided, times 30
//
// And in a community of 40 homes that all order and report, whose quarter of an hour passes
// in 90 seconds:
//
//	disk-B/interval   the same, from one interval to the next
//
// Each is a mean over the homes of the role.
func BenchmarkAgent(b *testing.B) {
	onRealDisk(b)
	busy := wroteInInterval(b)
	// The gates of this community are at 10:10, 10:25 and so on.
	idle := &community{roles: homesOf(4, 1, 1), rate: 1, epoch: time.Date(2026, 6, 1, 10, 11, 0, 0, time.UTC)}
	settle(b, idle)
	idle.calm(b)
	before, wrote := idle.processorTime(b), idle.written(b)
	began := time.Now()
	<-time.After(idleWindow)
	after, window := idle.processorTime(b), time.Since(began)
	written := idle.written(b)
	for _, role := range []string{household.RoleValidator, household.RoleReplica, household.RoleLight} {
		var homes, rss, disk, used, bytes float64
		for i, a := range idle.agents {
			if idle.roles[i] == role {
				homes++
				rss += float64(residentMemory(b, a.Process.Pid))
				disk += float64(onDisk(b, idle.home(i)))
				used += float64(after[i] - before[i])
				bytes += float64(written[i] - wrote[i])
			}
		}
		b.Run("role="+role, func(b *testing.B) {
			// It was measured above, of all roles in the same minutes.
			b.ReportMetric(rss/homes/1e6, "rss-MB")
			b.ReportMetric(100*used/homes/float64(window), "idle-cpu-%")
			b.ReportMetric(disk/homes/1e6, "disk-MB")
			b.ReportMetric(bytes/homes*float64(time.Hour)/float64(window), "disk-B/idle-hour")
			b.ReportMetric(busy[role], "disk-B/interval")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// wroteInInterval is what the agents of each role have the disk write in an interval in which
// busyHomes homes order and report.
func wroteInInterval(b *testing.B) map[string]float64 {
	b.Helper()
	s := &community{roles: homesOf(4, 1, busyHomes-5), rate: busyRate}
	settle(b, s)
	s.awaitMetered(b)
	before := s.written(b)
	s.awaitPhase(quietAfter)
	after := s.written(b)
	s.checkOrdered(b)
	return s.mean(func(i int) float64 { return float64(after[i] - before[i]) })
}

// onRealDisk fails where folders would be in memory, which nobody writes to.
func onRealDisk(b *testing.B) {
	b.Helper()
	const tmpfs = 0x01021994
	var system syscall.Statfs_t
	if err := syscall.Statfs(b.TempDir(), &system); err != nil {
		b.Fatal(err)
	}
	if system.Type == tmpfs {
		b.Fatalf("%s is in memory: set TMPDIR to a folder on a disk", b.TempDir())
	}
}

// calm waits until memory stays what it is.
func (s *community) calm(b *testing.B) {
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

// written is what each agent had the disk write so far.
func (s *community) written(b *testing.B) []int64 {
	b.Helper()
	bytes := make([]int64, len(s.agents))
	for i, a := range s.agents {
		bytes[i] = procNumber(b, a.Process.Pid, "io", "write_bytes:")
	}
	return bytes
}

// processorTime is what each agent has used of it.
func (s *community) processorTime(b *testing.B) []time.Duration {
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

// onDisk is what the files of a folder take; nothing if there is none.
func onDisk(b *testing.B, dir string) (total int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a light home has no such folder, and a database's files come and go
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
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
