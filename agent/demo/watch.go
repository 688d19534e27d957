package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/commonwatt/commonwatt/agent/api"
)

// watcher asks the homes' pages, as a person would. One goroutine has it.
type watcher struct {
	street *street
	client http.Client
	shown  int64 // newest interval that was told of
}

func newWatcher(s *street) *watcher {
	return &watcher{street: s, client: http.Client{Timeout: 3 * time.Second}}
}

// get fetches one document of a home.
func (w *watcher) get(ctx context.Context, i int, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.street.ports.api(i)+path, nil)
	if err != nil {
		return err
	}
	res, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // only read from
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, res.Status)
	}
	return json.NewDecoder(io.LimitReader(res.Body, 4<<20)).Decode(v)
}

// awaitStart waits until every home's page answers, its meters speak and it is a
// member of the ledger.
func (w *watcher) awaitStart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	homes := w.street.plan.Homes
	bar := progressbar.NewOptions(len(homes),
		progressbar.OptionSetWriter(w.street.opt.Say), progressbar.OptionSetDescription("homes joining"),
		progressbar.OptionSetWidth(24), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(),
		progressbar.OptionSetVisibility(terminal(w.street.opt.Say)))
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	joined := map[int]bool{}
	waiting := ""
	for {
		for i := range homes {
			if joined[i] {
				continue
			}
			if why := w.joined(ctx, i); why != "" {
				waiting = homes[i].Name + ": " + why
				continue
			}
			joined[i] = true
			_ = bar.Add(1)
		}
		if len(joined) == len(homes) {
			_ = bar.Finish()
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %v: %s: see %s/logs", startTimeout, waiting, w.street.opt.Dir)
		case <-tick.C:
		}
	}
}

// joined says why a home does not take part yet; empty if it does.
func (w *watcher) joined(ctx context.Context, i int) string {
	var s api.Snapshot
	if err := w.get(ctx, i, "/api/status", &s); err != nil {
		return "its page does not answer"
	}
	for _, p := range s.Problems {
		if p.Code == "not-a-member" || p.Code == "catching-up" {
			return p.Text
		}
	}
	return ""
}

// until tells of every settled interval until ctx or run ends.
func (w *watcher) until(ctx, run context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-run.Done():
			return
		case <-tick.C:
			w.tell(ctx)
		}
	}
}

// tell writes a line for each interval that every reachable home has settled.
func (w *watcher) tell(ctx context.Context) {
	type sums struct {
		at                         time.Time
		low, high                  *int64 // of the homes' prices
		homes, substitutes         int
		traded, imported, exported int64
	}
	all := map[int64]*sums{}
	reachable := 0
	for i := range w.street.plan.Homes {
		list, err := w.intervals(ctx, i)
		if err != nil {
			continue
		}
		reachable++
		for _, k := range list {
			if k.Interval <= w.shown || k.State != api.StateSettled && k.State != api.StateSubstitute {
				continue
			}
			if all[k.Interval] == nil {
				all[k.Interval] = &sums{at: k.Start}
			}
			s := all[k.Interval]
			s.homes++
			if k.Price != nil && (s.low == nil || *k.Price < *s.low) {
				s.low = k.Price
			}
			if k.Price != nil && (s.high == nil || *k.Price > *s.high) {
				s.high = k.Price
			}
			if k.State == api.StateSubstitute {
				s.substitutes++
				continue
			}
			s.traded += known(k.BoughtWh)
			s.imported += known(k.ImportWh)
			s.exported += known(k.ExportWh)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		s := all[k]
		if s.homes < reachable {
			return
		}
		w.shown = k
		fmt.Fprintf(w.street.opt.Say, "%s settled: %-14s EUR/kWh, imported %5d Wh, exported %5d Wh, traded between neighbours %5d Wh%s\n",
			s.at.Format("2006-01-02 15:04"), prices(s.low, s.high), s.imported, s.exported, s.traded, substituted(s.substitutes))
	}
}

func (w *watcher) intervals(ctx context.Context, i int) ([]api.Interval, error) {
	var answer struct {
		Intervals []api.Interval `json:"intervals"`
	}
	err := w.get(ctx, i, "/api/intervals?limit=96", &answer)
	return answer.Intervals, err
}

// substituted says how many homes have not reported; what they metered is corrected
// when they do.
func substituted(homes int) string {
	if homes == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d without a report yet)", homes)
}

func known(v *int64) int64 {
	if v == nil {
		return 0
	}
	return *v
}

// prices writes one price, or the lowest and the highest.
func prices(low, high *int64) string {
	if known(low) == known(high) {
		return euros(known(low))
	}
	return euros(known(low)) + " to " + euros(known(high))
}

// euros writes micro-units with three places, cut.
func euros(micro int64) string {
	sign := ""
	if micro < 0 {
		sign, micro = "-", -micro
	}
	return fmt.Sprintf("%s%d.%03d", sign, micro/1_000_000, micro%1_000_000/1000)
}

// finish collects what only running agents know. With wait it first gives the
// street time to settle every interval that has ended.
func (w *watcher) finish(r *Report, wait bool) {
	ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
	defer cancel()
	r.Rejected, r.Errors, r.Events = map[string]int64{}, []string{}, []string{}
	if wait && !w.settleAll(ctx) {
		r.Errors = append(r.Errors, fmt.Sprintf("not every interval was settled %v after the end", finishTimeout))
	}
	for i, h := range w.street.plan.Homes {
		var s api.Snapshot
		if err := w.get(ctx, i, "/api/status", &s); err != nil {
			r.Errors = append(r.Errors, h.Name+": its page does not answer: "+err.Error())
			continue
		}
		for code, n := range s.Ledger.Rejected {
			r.Rejected[code] += n
		}
		for _, p := range s.Problems {
			r.Events = append(r.Events, h.Name+": "+strings.TrimSpace(p.Text+" "+p.Hint))
		}
	}
	for _, p := range w.street.agents {
		p.mu.Lock()
		r.Events = append(r.Events, p.ended...)
		p.mu.Unlock()
	}
}

// settleAll waits until every home shows every interval that has ended by now as
// settled on real readings.
func (w *watcher) settleAll(ctx context.Context) bool {
	var s api.Snapshot
	if err := w.get(ctx, 0, "/api/status", &s); err != nil {
		return false
	}
	ended := s.At.Add(-intervalLength)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		done := 0
		for i := range w.street.plan.Homes {
			list, err := w.intervals(ctx, i)
			if err == nil && !slices.ContainsFunc(list, func(k api.Interval) bool {
				return !k.Start.After(ended) && k.State != api.StateSettled
			}) {
				done++
			}
		}
		if done == len(w.street.plan.Homes) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}
