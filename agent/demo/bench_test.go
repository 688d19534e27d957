package demo_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkStreet runs the demonstration and looks at its agents from outside:
//
//	rss-MB            resident memory of an agent, mean over the six, at the end
//	disk-B/interval   bytes that an agent has the disk write for one market interval
//
// The time that it takes means nothing: it is the demonstration's own.
func BenchmarkStreet(b *testing.B) {
	for range b.N {
		r := start(b, filepath.Join(b.TempDir(), "street"), "--fresh", "--homes", "6", "--for", "80s")
		r.until("settled a first interval", 100*time.Second, func() bool { return r.settled(1) > 0 })
		first, before := r.settled(1), r.written(b)
		r.until("settled three more", 60*time.Second, func() bool { return r.settled(1) >= first+3 })
		last, after := r.settled(1), r.written(b)
		rss := r.resident(b)
		r.report(4 * time.Minute)
		b.ReportMetric(float64(rss)/6/1e6, "rss-MB")
		b.ReportMetric(float64(after-before)/6/float64(last-first), "disk-B/interval")
		b.ReportMetric(0, "ns/op")
	}
}

// written is what all agents had the disk write so far.
func (r *run) written(b *testing.B) (total int64) {
	b.Helper()
	for n := 1; n <= 6; n++ {
		total += r.procNumber(b, n, "io", "write_bytes:")
	}
	return total
}

// resident is the memory of all agents.
func (r *run) resident(b *testing.B) (total int64) {
	b.Helper()
	for n := 1; n <= 6; n++ {
		total += 1024 * r.procNumber(b, n, "status", "VmRSS:")
	}
	return total
}

func (r *run) procNumber(b *testing.B, home int, file, key string) int64 {
	b.Helper()
	raw, err := os.ReadFile(filepath.Join(r.home(home), "agent.pid"))
	if err != nil {
		b.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		b.Fatal(err)
	}
	return procNumber(b, pid, file, key)
}

// procNumber is the number that a file of a process has behind a key.
func procNumber(b *testing.B, pid int, file, key string) int64 {
	b.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		b.Fatal(err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) > 1 && f[0] == key {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatalf("%s is not in /proc/PID/%s", key, file)
	return 0
}
