package market_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // to compare with; the package itself needs no database

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
)

// The rules that the database gives for years to come.
var zoneRules = map[string]string{
	"UTC":                 "UTC0",
	"Europe/Amsterdam":    "CET-1CEST,M3.5.0,M10.5.0/3",
	"Europe/London":       "GMT0BST,M3.5.0/1,M10.5.0",
	"Europe/Dublin":       "IST-1GMT0,M10.5.0,M3.5.0/1", // winter is its exception
	"America/New_York":    "EST5EDT,M3.2.0,M11.1.0",
	"America/St_Johns":    "NST3:30NDT,M3.2.0,M11.1.0",
	"America/Nuuk":        "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
	"America/Santiago":    "<-04>4<-03>,M9.1.6/24,M4.1.6/24", // at midnight
	"Asia/Kolkata":        "IST-5:30",
	"Asia/Jerusalem":      "IST-2IDT,M3.4.4/26,M10.5.0",
	"Asia/Beirut":         "EET-2EEST,M3.5.0/0,M10.5.0/0",
	"Australia/Sydney":    "AEST-10AEDT,M10.1.0,M4.1.0/3",
	"Australia/Lord_Howe": "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
	"Pacific/Chatham":     "<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45",
}

// Every hour of eight years is as the database has it.
func TestParseZoneAsInTheDatabase(t *testing.T) {
	for name, rule := range zoneRules {
		want, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := market.ParseZone(rule)
		if err != nil {
			t.Fatal(err)
		}
		for at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC); at.Year() < 2032; at = at.Add(time.Hour) {
			gotName, gotOffset := at.In(got).Zone()
			wantName, wantOffset := at.In(want).Zone()
			if gotName != wantName || gotOffset != wantOffset {
				t.Fatalf("%s, %v: got %s %d, want %s %d", name, at, gotName, gotOffset, wantName, wantOffset)
			}
		}
	}
}

// A rule speaks for all years, also those before anybody wrote it down.
func TestParseZoneLongAgo(t *testing.T) {
	loc, err := market.ParseZone("CET-1CEST,M3.5.0,M10.5.0/3")
	if err != nil {
		t.Fatal(err)
	}
	for _, year := range []int{1, 1900, 1970, 2026, 9999} {
		for month, want := range map[time.Month]string{time.January: "CET", time.July: "CEST"} {
			if got, _ := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC).In(loc).Zone(); got != want {
				t.Errorf("%d-%d: got %s, want %s", year, month, got, want)
			}
		}
	}
}

func TestParseZoneRefuses(t *testing.T) {
	for _, rule := range []string{
		"", "CE", "CET", "1", "CET-", "CET-1CE", "CET-25", "CET-24:00:01", "CET-1:60", "CET-1:", "CET-1:0:60", "CET-001",
		"CET-1CEST", "CET-1CEST,", "CET-1CEST,M3.5.0", "CET-1CEST,M3.5.0,", "CET-1CEST,M3.5.0,M10.5.0/", "CET-1CEST,M3.5.0,M10.5.0/168",
		"CET-1CEST,M13.5.0,M10.5.0", "CET-1CEST,M0.5.0,M10.5.0", "CET-1CEST,M3.6.0,M10.5.0", "CET-1CEST,M3.5.7,M10.5.0",
		"CET-1CEST,J0,J100", "CET-1CEST,J366,J100", "CET-1CEST,366,J100", "CET-1CEST,M3.5.0,M10.5.0,M1.1.1", "CET-1CEST,M3.5.0,M10.5.0/3 ",
		"CET-1CEST,M+3.5.0,M10.5.0", "CET--1", "Europe/Amsterdam", ":CET-1", "<CET-1", "<>1", "<a b>1", "<+01>", "CETCETCET-1", "CÉT-1",
		"CET-1\n", "CET-1\x00", "CET-1CEST,M3.5.0/3:00:00:00,M10.5.0", strings.Repeat("9", 1000), "ABC" + strings.Repeat("9", 1000), "?-1",
	} {
		if loc, err := market.ParseZone(rule); !errors.Is(err, market.ErrBadZone) {
			t.Errorf("%.40q: got %v, %v, want %v", rule, loc, err, market.ErrBadZone)
		}
	}
}

// What the grammar allows, package time understands: the two agree on standard
// and summer time.
func TestParseZoneUnderstandsItsGrammar(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.OneOf(rapid.StringMatching(`[A-Za-z]{3,6}`), rapid.StringMatching(`<[A-Za-z0-9+-]{3,6}>`))
		day := rapid.OneOf(rapid.StringMatching(`M([1-9]|1[0-2])\.[1-5]\.[0-6]`), rapid.StringMatching(`J([1-9]|[1-2][0-9]{2}|36[0-5])`),
			rapid.StringMatching(`([0-9]|[1-2][0-9]{2}|36[0-5])`))
		at := rapid.StringMatching(`(/[+-]?(1[0-5][0-9]|[0-9]{2}):[0-5][0-9])?`)
		standard := rapid.IntRange(-24, 24).Draw(t, "standard")
		summer := rapid.IntRange(-24, 24).Draw(t, "summer")
		std, dst := name.Draw(t, "std"), name.Draw(t, "dst")
		rule := fmt.Sprintf("%s%d%s%d,%s%s,%s%s", std, -standard, dst, -summer,
			day.Draw(t, "start"), at.Draw(t, "time"), day.Draw(t, "end"), at.Draw(t, "time"))
		loc, err := market.ParseZone(rule)
		if err != nil {
			t.Fatal(err)
		}
		type zone struct {
			name   string
			offset int
		}
		want := []zone{{strings.Trim(std, "<>"), standard * 3600}, {strings.Trim(dst, "<>"), summer * 3600}}
		for range 20 {
			name, offset := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "at"), 0).In(loc).Zone()
			if got := (zone{name, offset}); !slices.Contains(want, got) {
				t.Fatalf("%s: got %v, want one of %v", rule, got, want)
			}
		}
	})
}

func FuzzParseZone(f *testing.F) {
	for _, rule := range zoneRules {
		f.Add(rule)
	}
	f.Fuzz(func(t *testing.T, rule string) {
		loc, err := market.ParseZone(rule)
		if (loc == nil) != errors.Is(err, market.ErrBadZone) {
			t.Fatalf("%q: got %v, %v, want a zone or %v", rule, loc, err, market.ErrBadZone)
		}
	})
}
