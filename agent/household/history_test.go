package household

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/meter"
)

func testHistory(t testing.TB, days int) (*history, *clock) {
	t.Helper()
	c := &clock{now: dawn}
	h := newHistory(filepath.Join(t.TempDir(), HistoryFile), []string{RoleConnection, RoleSolar}, days, c.Now, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	})
	return h, c
}

func told(at time.Time, in, out uint64, w int64) meter.Sample {
	return meter.Sample{At: at, ImportWh: &in, ExportWh: &out, PowerW: &w, Clock: meter.Trusted(), Raw: []byte(fmt.Sprint("raw of ", in))}
}

func mustRead(t testing.TB, h *history, q api.ReadingsQuery) []api.ReadingRow {
	t.Helper()
	rows, err := h.read(q)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// A day of two meters: all of it is there, before and after it is on disk, in both
// directions, from any time on, page by page, and from the file alone.
func TestHistory(t *testing.T) {
	t.Parallel()
	h, c := testHistory(t, 400)
	var want []string
	for i := range 2000 {
		at := dawn.Add(time.Duration(i) * 10 * time.Second)
		c.set(at)
		h.accept(RoleConnection, told(at, uint64(1000+i), uint64(i/3), int64(i%700)-300))
		want = append(want, fmt.Sprint(at.UnixMilli(), RoleConnection))
		if i%2 == 0 {
			s := told(at.Add(time.Second), uint64(i), uint64(i/5), -5)
			s.ImportWh, s.Quality = nil, meter.ClockUnsure
			h.accept(RoleSolar, s)
			want = append(want, fmt.Sprint(s.At.UnixMilli(), RoleSolar))
		}
		if i%30 == 29 && i < 1900 {
			h.flush()
		}
	}
	ids := func(rows []api.ReadingRow) (list []string) {
		for _, r := range rows {
			list = append(list, fmt.Sprint(r.At.UnixMilli(), r.Meter))
		}
		return list
	}
	check := func(name string, read func(api.ReadingsQuery) ([]api.ReadingRow, error)) {
		t.Helper()
		var got []string
		q := api.ReadingsQuery{Limit: 170}
		for {
			rows, err := read(q)
			if err != nil {
				t.Fatal(name, err)
			}
			if got = append(got, ids(rows)...); len(rows) < q.Limit {
				break
			}
			q.From = rows[len(rows)-1].At.Add(time.Millisecond)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(name, diff)
		}
		for n := 1; n <= len(want); n += 211 {
			rows, err := read(api.ReadingsQuery{Limit: n, Newest: true})
			if err != nil || !cmp.Equal(ids(rows), want[len(want)-n:]) {
				t.Fatalf("%s: the newest %d: %v", name, n, err)
			}
		}
		rows, err := read(api.ReadingsQuery{Limit: 5, Newest: true, Meter: RoleConnection, From: dawn, To: dawn.Add(time.Hour)})
		if err != nil || len(rows) != 5 || !rows[4].At.Equal(dawn.Add(time.Hour-10*time.Second)) || *rows[4].ImportWh != 1359 || *rows[4].PowerW != 59 || rows[4].Clock != "synchronised" {
			t.Fatalf("%s: before seven: %+v, %v", name, rows, err)
		}
		rows, err = read(api.ReadingsQuery{Limit: 1, Meter: RoleSolar, From: dawn.Add(30 * time.Minute)})
		if err != nil || len(rows) != 1 || rows[0].ImportWh != nil || *rows[0].ExportWh != 36 || rows[0].Quality != "clock-unsure" {
			t.Fatalf("%s: solar at half past six: %+v, %v", name, rows, err)
		}
	}
	check("with some in memory", h.read)
	h.flush()
	check("on disk", h.read)
	dir := filepath.Dir(h.path)
	if _, err := ReadHistory(dir, api.ReadingsQuery{Limit: 1}); !errors.Is(err, ErrInUse) {
		t.Errorf("while it is open: %v", err)
	}
	if err := h.close(); err != nil {
		t.Fatal(err)
	}
	check("the file", func(q api.ReadingsQuery) ([]api.ReadingRow, error) { return ReadHistory(dir, q) })
	if _, err := ReadHistory(t.TempDir(), api.ReadingsQuery{Limit: 1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	if _, err := h.read(api.ReadingsQuery{Meter: "sundial", Limit: 1}); err == nil {
		t.Error("an unknown meter")
	}
}

// What does not count is kept as evidence: one a minute of a kind, a thousand of a meter.
func TestHistoryAsides(t *testing.T) {
	t.Parallel()
	h, c := testHistory(t, 400)
	for i := range 1300 {
		at := dawn.Add(time.Duration(i) * 30 * time.Second)
		c.set(at)
		s := told(at, 5, 6, 7)
		s.Raw = bytes.Repeat([]byte{1}, 100)
		h.setAside(RoleConnection, meter.Decision{Verdict: meter.Held, Sample: s, Reason: "counter fell"}, "counter")
		if i%2 == 0 {
			h.setAside(RoleConnection, meter.Decision{Verdict: meter.Refused, Sample: s, Reason: strings.Repeat("x", 900)}, "stale")
		}
		if i%20 == 0 {
			h.flush()
		}
	}
	h.flush()
	rows := mustRead(t, h, api.ReadingsQuery{Limit: 5000, Raw: true})
	if len(rows) != maxAsides {
		t.Fatalf("%d rows, want %d", len(rows), maxAsides)
	}
	last := rows[len(rows)-2]
	if last.Verdict != "held" || last.More != 1 || last.Reason != "counter fell" || len(last.Raw) != 100 || len(rows[len(rows)-1].Reason) > maxText+3 {
		t.Errorf("%+v", last)
	}
}

// Days pass: what is old goes, a clock that is not set yet forgets nothing, and the file
// stops growing.
func TestHistoryRetention(t *testing.T) {
	t.Parallel()
	h, c := testHistory(t, 2)
	key := seed(1)
	chain, err := meter.NewChain(key, meter.ChainState{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 * 24 {
		at := dawn.Add(time.Duration(i) * time.Hour)
		c.set(at)
		s := told(at, uint64(i), 0, 0)
		h.accept(RoleConnection, s)
		r, err := chain.Append(s)
		if err != nil {
			t.Fatal(err)
		}
		h.prove(RoleConnection, r, s.Raw)
		h.flush()
	}
	rows := mustRead(t, h, api.ReadingsQuery{Limit: 5000, Raw: true})
	if len(rows) != 49 || rows[0].Proof == nil || rows[0].Proof.SignedBy != "agent" || string(rows[0].Raw) != "raw of 71" {
		t.Fatalf("%d rows, want 49; the first %+v", len(rows), rows[0])
	}
	s := told(dawn.Add(50*365*24*time.Hour), 1, 1, 1)
	s.Quality = meter.ClockUnsure
	h.accept(RoleConnection, s)
	h.flush()
	if got := len(mustRead(t, h, api.ReadingsQuery{Limit: 5000})); got != 50 {
		t.Errorf("%d rows after a clock that is not set", got)
	}
}

// A disk that cannot be written, or is damaged, costs the past only: it is said, the newest
// wait in memory, and are written when there is one again.
func TestHistoryWithoutDisk(t *testing.T) {
	t.Parallel()
	h, _ := testHistory(t, 400)
	if err := os.WriteFile(h.path, []byte(strings.Repeat("this is no database\n", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range maxBlock + 500 {
		h.accept(RoleConnection, told(dawn.Add(time.Duration(i)*time.Second), uint64(i), 0, 0))
		if i%1000 == 0 {
			h.flush()
		}
	}
	if why := h.failing(); !strings.Contains(why, HistoryFile) {
		t.Errorf("failing: %q", why)
	}
	if rows := mustRead(t, h, api.ReadingsQuery{Limit: 10_000}); len(rows) != maxBlock || *rows[0].ImportWh != 500 {
		t.Errorf("%d rows in memory", len(rows))
	}
	if _, err := ReadHistory(filepath.Dir(h.path), api.ReadingsQuery{Limit: 1}); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file of text: %v", err)
	}
	if err := os.Remove(h.path); err != nil {
		t.Fatal(err)
	}
	h.flush()
	if why := h.failing(); why != "" {
		t.Errorf("failing: %q", why)
	}
	if rows := mustRead(t, h, api.ReadingsQuery{Limit: 10_000}); len(rows) != maxBlock {
		t.Errorf("%d rows on disk", len(rows))
	}
}

// A flipped bit on the disk costs what it hit, and that is said.
func TestHistoryDamaged(t *testing.T) {
	t.Parallel()
	h, _ := testHistory(t, 400)
	for i := range 30 {
		h.accept(RoleConnection, told(dawn.Add(time.Duration(i)*time.Minute), uint64(i), 0, 0))
		if i%10 == 9 {
			h.flush()
		}
	}
	err := h.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(RoleConnection)).Bucket(bucketBlocks)
		k, v := b.Cursor().Seek(timeKey(dawn.Add(10 * time.Minute).UnixMilli()))
		bad := bytes.Clone(v)
		bad[len(bad)/2] ^= 4
		return b.Put(bytes.Clone(k), bad)
	})
	if err != nil {
		t.Fatal(err)
	}
	rows := mustRead(t, h, api.ReadingsQuery{Limit: 100})
	if len(rows) != 21 || rows[10].Verdict != "damaged" || !rows[10].At.Equal(dawn.Add(10*time.Minute)) || *rows[11].ImportWh != 20 {
		t.Errorf("%d rows: %+v", len(rows), rows)
	}
}

// What a home lived through is in its history: the proofs with their signatures, what a
// falling counter said, and what is pending when the home ends.
func TestHistoryOfHome(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	r.mend = func(now time.Time, s *meter.Sample) {
		s.Raw = []byte("register")
		if now.Equal(on(6, 40)) {
			*s.ImportWh = 0
		}
	}
	r.until(on(7, 0))
	rows, err := r.home.Readings(api.ReadingsQuery{Limit: 1000, Raw: true})
	if err != nil || len(rows) != 60 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	proofs := 0
	for _, row := range rows {
		switch {
		case row.At.Equal(on(6, 40)):
			if row.Verdict != "held" || *row.ImportWh != 0 || string(row.Raw) != "register" || row.Quality != "suspect" {
				t.Errorf("%+v", row)
			}
		case row.Proof != nil:
			proofs++
			if first := row.At.Equal(on(6, 1)); row.At.Minute()%15 != 0 && !first || row.Proof.Seq != uint64(proofs) || len(row.Proof.Signature) != 128 || string(row.Raw) != "register" {
				t.Errorf("%+v", row)
			}
		case row.Verdict != "accepted":
			t.Errorf("%+v", row)
		}
	}
	if proofs != 5 {
		t.Errorf("%d proofs, want 5", proofs)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.home.history.run(ctx, time.Hour); err != nil {
		t.Error(err)
	}
	if err := r.home.history.close(); err != nil {
		t.Fatal(err)
	}
	if again, err := ReadHistory(r.dirs[0], api.ReadingsQuery{Limit: 1000, Raw: true}); err != nil || !cmp.Equal(again, rows) {
		t.Errorf("on disk: %v %s", err, cmp.Diff(rows, again))
	}
}

// What a year of a meter takes, at a look each ten seconds and a boundary each quarter hour.
func TestHistorySize(t *testing.T) {
	t.Parallel()
	h, c := testHistory(t, 400)
	const days = 4
	chain, err := meter.NewChain(seed(1), meter.ChainState{})
	if err != nil {
		t.Fatal(err)
	}
	in := uint64(13_423_000)
	for i := range days * 8640 {
		at := dawn.Add(time.Duration(i) * 10 * time.Second)
		c.set(at)
		in += uint64(i*i) % 9
		s := told(at.Add(time.Duration(i%40)*time.Millisecond), in, 7_000_000, int64(i*i)%6000)
		s.Raw = bytes.Repeat([]byte{'x'}, 200)
		h.accept(RoleConnection, s)
		if i%90 == 0 {
			r, err := chain.Append(s)
			if err != nil {
				t.Fatal(err)
			}
			h.prove(RoleConnection, r, s.Raw)
		}
		if i%30 == 0 {
			h.flush()
		}
	}
	h.flush()
	used := 0
	err = h.db.View(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{bucketBlocks, bucketProofs, bucketAsides} {
			stats := tx.Bucket([]byte(RoleConnection)).Bucket(name).Stats()
			used += stats.LeafAlloc + stats.BranchAlloc
			t.Logf("%s: %d records, %d kB in use of %d kB", name, stats.KeyN, stats.LeafInuse>>10, stats.LeafAlloc>>10)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	year := used * 365 / days >> 20
	t.Logf("%d kB for %d days, %d MB for a year", used>>10, days, year)
	if year > 70 {
		t.Errorf("%d MB for a year of a meter", year)
	}
}

// Blocks come back as they were, whatever a device says.
func TestBlocks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var list []kept
		for range rapid.IntRange(0, 50).Draw(t, "readings") {
			list = append(list, kept{
				atMs: rapid.Int64().Draw(t, "at"), importWh: rapid.Ptr(rapid.Uint64(), true).Draw(t, "import"), exportWh: rapid.Ptr(rapid.Uint64(), true).Draw(t, "export"),
				powerW: rapid.Ptr(rapid.Int64(), true).Draw(t, "power"), quality: meter.Quality(rapid.Uint16().Draw(t, "quality")), trust: meter.ClockTrust(rapid.Uint8Range(0, 2).Draw(t, "trust")),
			})
		}
		got, err := decodeBlock(encodeBlock(list))
		if err != nil || fmt.Sprint(len(got)) != fmt.Sprint(len(list)) {
			t.Fatal(err)
		}
		for i := range list {
			if diff := cmp.Diff(list[i], got[i], cmp.AllowUnexported(kept{})); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

// FuzzBlock: no bytes of a disk make the decoder panic, or take more memory than they are.
func FuzzBlock(f *testing.F) {
	f.Add(encodeBlock([]kept{{atMs: 1, powerW: new(int64(5))}, {atMs: 2, importWh: new(uint64(7)), quality: 3}})[4:])
	f.Add([]byte{1, 0xff, 0x1f, 0})
	f.Fuzz(func(t *testing.T, body []byte) {
		list, err := decodeBlock(sealBlock(body))
		if err == nil && len(list) > len(body) {
			t.Fatalf("%d readings of %d bytes", len(list), len(body))
		}
		if _, err := decodeBlock(body); err == nil && len(body) > 0 {
			t.Fatal("a block without a checksum is taken")
		}
	})
}
