package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// The checker's own idea of what a home answers. Nothing here comes from the code that answers.

const (
	askTimeout = 10 * time.Second
	maxAnswer  = 32 << 20
	pageOf     = "http://127.0.0.1:8080" // of every home, in its own namespace
)

// homeStatus is what matters of GET /api/status.
type homeStatus struct {
	At     time.Time `json:"at"`
	Ledger struct {
		Height     *int64 `json:"height"`
		AppHash    string `json:"app_hash"`
		CatchingUp bool   `json:"catching_up"`
		PoolSize   int64  `json:"pool_size"`
		Waiting    string `json:"waiting_for"`
		Peers      []struct {
			ID string `json:"id"`
		} `json:"peers"`
	} `json:"ledger"`
	Problems []struct {
		Code     string `json:"code"`
		Severity string `json:"severity"`
		Text     string `json:"text"`
	} `json:"problems"`
}

// height is 0 where it is not known.
func (s *homeStatus) height() int64 {
	if s.Ledger.Height == nil {
		return 0
	}
	return *s.Ledger.Height
}

// shownInterval is what a home shows of one interval.
type shownInterval struct {
	Interval int64  `json:"interval"`
	State    string `json:"state"`
	Import   *int64 `json:"import_wh"`
	Export   *int64 `json:"export_wh"`
	Quality  string `json:"quality"`
}

// billLine is one settlement as GET /api/bill has it.
type billLine struct {
	Number   uint64 `json:"number"`
	Interval int64  `json:"interval"`
	Version  uint32 `json:"version"`
	Metered  bool   `json:"metered"`
	Quality  string `json:"quality"`
	Bought   int64  `json:"bought_wh"`
	Sold     int64  `json:"sold_wh"`
	Price    int64  `json:"price"`
	Import   int64  `json:"import_wh"`
	Export   int64  `json:"export_wh"`
	Retail   int64  `json:"retail"`
	FeedIn   int64  `json:"feed_in"`
	Fee      int64  `json:"fee"`
	Net      int64  `json:"net"`
	Alone    int64  `json:"alone"`
	Bid      uint64 `json:"bid"`
	Offer    uint64 `json:"offer"`
	First    uint64 `json:"reading_start"`
	Last     uint64 `json:"reading_end"`
}

// get asks a home's page.
func (h *home) get(ctx context.Context, path string, v any) error {
	return ask(ctx, h.space.client, http.MethodGet, pageOf+path, nil, v)
}

func (h *home) status(ctx context.Context) (s homeStatus, err error) {
	return s, h.get(ctx, "/api/status", &s)
}

func (h *home) intervals(ctx context.Context) ([]shownInterval, error) {
	var a struct {
		Intervals []shownInterval `json:"intervals"`
	}
	return a.Intervals, h.get(ctx, "/api/intervals?limit=200", &a)
}

// bill is the household's account as this home has it: its lines in the ledger's order, and
// what they come to.
func (h *home) bill(ctx context.Context, household, month string) (lines []billLine, closing int64, err error) {
	var a struct {
		Totals struct {
			Closing int64 `json:"closing"`
		} `json:"totals"`
		Days []struct {
			Lines []billLine `json:"lines"`
		} `json:"days"`
	}
	query := url.Values{"month": {month}}
	if household != h.id {
		query.Set("household", household)
	}
	if err := h.get(ctx, "/api/bill?"+query.Encode(), &a); err != nil {
		return nil, 0, err
	}
	for _, d := range a.Days {
		lines = append(lines, d.Lines...)
	}
	// A statement has them by their intervals, and what was reported late is settled late.
	slices.SortStableFunc(lines, func(a, b billLine) int { return cmp.Compare(a.Number, b.Number) })
	return lines, a.Totals.Closing, nil
}

// hashAt is the AppHash after a block.
func (h *home) hashAt(ctx context.Context, height int64) (string, error) {
	var a struct {
		AppHash string `json:"app_hash"`
	}
	return a.AppHash, h.get(ctx, fmt.Sprintf("/api/ledger/hash/%d", height), &a)
}

// answer is a refusal with its words.
type answer struct {
	status int
	text   string
}

func (a *answer) Error() string { return fmt.Sprintf("%d: %s", a.status, a.text) }

// submit hands a transaction to the home; nil: it is acknowledged.
func (h *home) submit(ctx context.Context, tx string) error {
	body, err := json.Marshal(map[string]string{"transaction": tx})
	if err != nil {
		return err
	}
	return ask(ctx, h.space.client, http.MethodPost, pageOf+"/api/transactions", body, nil)
}

// ask does one request. What is not 2xx is an *answer.
func ask(ctx context.Context, c *http.Client, method, address string, body []byte, v any) (err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return err
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return &answer{res.StatusCode, string(raw[:min(len(raw), 300)])}
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(raw, v)
}
