package demo

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// record gives the homes recorded loads and roofs: hh_*.csv and pv_*.csv of the
// profiles folder, in turn.
func (p *plan) record() error {
	loads, err := filepath.Glob(filepath.Join(p.Profiles, "hh_*.csv"))
	if err != nil {
		return err
	}
	roofs, err := filepath.Glob(filepath.Join(p.Profiles, "pv_*.csv"))
	if err != nil {
		return err
	}
	if len(loads) == 0 || len(roofs) == 0 {
		return fmt.Errorf("%w: --profiles: %s has no hh_*.csv and pv_*.csv", ErrUsage, p.Profiles)
	}
	slices.Sort(loads)
	slices.Sort(roofs)
	sunny := 0
	for i := range p.Homes {
		h := &p.Homes[i]
		h.LoadCSV = loads[i*len(loads)/len(p.Homes)] // small and large homes alike
		if h.SolarKWp > 0 {
			h.SolarCSV = roofs[sunny%len(roofs)]
			sunny++
		}
	}
	return nil
}

// sunnyMorning is when a street begins unless it is told: late enough for the sun,
// early enough to see it. Of recorded roofs it is the sunniest day.
func (p *plan) sunnyMorning() (time.Time, error) {
	for _, h := range p.Homes {
		if h.SolarCSV != "" {
			return sunniest(h.SolarCSV)
		}
	}
	return time.Date(2026, time.June, 21, 8, 40, 0, 0, time.UTC), nil
}

// sunniest finds the day of a recording with the most sun and returns its late
// morning, three hours before the middle of its light.
func sunniest(path string) (time.Time, error) {
	f, err := os.Open(path) //nolint:gosec // the folder is the person's own
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close() //nolint:errcheck // only read from
	type day struct{ sum, moment float64 }
	days := map[int64]*day{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		at, value, ok := strings.Cut(lines.Text(), ",")
		seconds, err := strconv.ParseFloat(strings.TrimSpace(at), 64)
		if !ok || err != nil {
			continue // the heading
		}
		w, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("%w: --profiles: %s: %q is no power", ErrUsage, path, value)
		}
		const length = 24 * 3600
		n := int64(seconds) / length
		if days[n] == nil {
			days[n] = &day{}
		}
		days[n].sum += w
		days[n].moment += w * float64(int64(seconds)%length)
	}
	best, most := int64(0), 0.0
	for n, d := range days {
		if d.sum > most || d.sum == most && n < best {
			best, most = n, d.sum
		}
	}
	if most <= 0 {
		return time.Time{}, fmt.Errorf("%w: --profiles: %s has no sun in it", ErrUsage, path)
	}
	noon := time.Unix(best*24*3600, 0).UTC().Add(time.Duration(days[best].moment/most) * time.Second)
	return noon.Add(-2 * time.Hour).Truncate(5 * time.Minute), nil
}
