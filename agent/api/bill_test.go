package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/bill"
	"github.com/commonwatt/commonwatt/market"
)

// bills knows one household and one month.
type bills struct{}

var billed = market.HouseholdID{0xab, 0xcd}

func (bills) Bill(household, month string) (*bill.Statement, error) {
	switch {
	case household != "" && household != billed.String():
		return nil, fmt.Errorf("household %s: %w", household, bill.ErrUnknown)
	case month == "2026-13":
		return nil, fmt.Errorf("month: %w: got %q", bill.ErrInput, month)
	case month == "2026-07":
		return nil, fmt.Errorf("month %s: %w", month, bill.ErrNothing)
	case month == "1999-12":
		return nil, errors.New("the disk is gone")
	}
	m, err := market.ParseMonth("2026-06")
	if err != nil {
		return nil, err
	}
	from := time.Date(2026, 6, 1, 0, 0, 0, 0, time.FixedZone("", 2*3600))
	line := bill.Line{
		Number: 1, Interval: 1_978_000, Start: from, Version: 1, Rule: "uniform", Quality: "good", Bought: 600, Price: 100_000, Import: 650,
		Retail: 300_000, FeedIn: 80_000, Amounts: bill.Amounts{Buy: -60_000, Import: -15_000}, Net: -75_000, Alone: 195_000, Saved: 120_000,
		Bid: 7, ReadingStart: 12, ReadingEnd: 13, Block: 99,
	}
	return &bill.Statement{
		Community: "demo-street", Household: billed, Month: m, Zone: "+02:00", From: from, To: from.AddDate(0, 1, 0), IntervalS: 900,
		Currency: bill.Currency, AsOf: from.Add(time.Hour),
		Totals: bill.Totals{
			Lines: 1, Bought: 600, Import: 650, Amounts: line.Amounts, Net: -75_000, Closing: -75_000, Alone: 195_000, Actual: 75_000, Saved: 120_000,
		},
		Days: []bill.Day{{Date: "2026-06-01", Intervals: 96, Bought: 600, Import: 650, Net: -75_000, Saved: 120_000, Lines: []bill.Line{line}}},
	}, nil
}

func (b bills) Proof(_ context.Context, household, month string) ([]byte, error) {
	if month == "2026-05" {
		return nil, fmt.Errorf("%w: waiting for block 12", bill.ErrNotYet)
	}
	if _, err := b.Bill(household, month); err != nil {
		return nil, err
	}
	return []byte(`{"format":"commonwatt-proof/2"}`), nil
}

func TestBill(t *testing.T) {
	s := serve(t, api.Config{Provider: newHome(sunny()), Bills: bills{}})
	resp, body := get(t, s.url+"/api/bill?month=2026-06&household="+billed.String())
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("got %s %s", resp.Status, body)
	}
	golden(t, "bill.json", indent(t, body))
	var st bill.Statement
	if err := json.Unmarshal([]byte(body), &st); err != nil || st.Household != billed || st.Month.String() != "2026-06" || st.Days[0].Lines[0].Net != -75_000 {
		t.Errorf("read back: %v, %+v", err, st)
	}
	resp, body = get(t, s.url+"/api/bill/proof")
	if resp.StatusCode != http.StatusOK || body != `{"format":"commonwatt-proof/2"}` || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("proof: got %s %q %s", resp.Status, body, resp.Header.Get("Content-Type"))
	}
	for path, want := range map[string]int{
		"/api/bill":                            200,
		"/api/bill?month=2026-13":              422,
		"/api/bill?month=2026-07":              404,
		"/api/bill?month=1999-12":              500,
		"/api/bill?household=00":               404,
		"/api/bill?mnth=2026-06":               422,
		"/api/bill/proof?month=2026-05":        503,
		"/api/bill/proof?month=2026-07":        404,
		"/api/bill/proof?month=2026-13":        422,
		"/api/bill?month=2026-06-01T00:00:00Z": 422,
	} {
		if resp, body := get(t, s.url+path); resp.StatusCode != want {
			t.Errorf("%s: got %s %s, expected %d", path, resp.Status, body, want)
		}
	}
	alone := serve(t, api.Config{Provider: newHome(sunny())})
	for _, path := range []string{"/api/bill", "/api/bill/proof"} {
		if resp, body := get(t, alone.url+path); resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s without bills: got %s %s, expected 503", path, resp.Status, body)
		}
	}
}

// The bills of others are for this machine: a pipe is not its loopback.
func TestBillFromElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *home, l *pipes, _ func()) {
		for path, want := range map[string]int{
			"/api/bill": 503, "/api/bill/proof": 503, // this one makes none
			"/api/bill?household=" + billed.String(): 403, "/api/bill/proof?household=": 403,
		} {
			conn := l.dial(t, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != want {
				t.Errorf("%s: got %s, expected %d", path, resp.Status, want)
			}
			conn.Close()
		}
	})
}
