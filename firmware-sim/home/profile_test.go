package home

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

func readFixture(t *testing.T, name string, scale float64) *Profile {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := ReadProfile(f, scale)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProfileWrapsByWholeDays(t *testing.T) {
	p := readFixture(t, "two_days.csv", 1000)
	if p.days != 2 || p.period != 6*hourMS {
		t.Fatalf("got %d days in rows of %d ms", p.days, p.period)
	}
	for at, want := range map[string]int64{
		"2021-02-14T23:00:00Z": 100, "2021-02-15T04:59:59Z": 100, "2021-02-15T05:00:00Z": 200,
		"2021-02-16T22:59:59Z": 800,
		"2021-02-16T23:00:00Z": 100, // two days after the first row
		"2021-02-14T22:59:59Z": 800, // before the file
		"2026-02-15T12:00:00Z": 300, "1970-01-01T00:00:00Z": 500,
	} {
		power, until := p.Power(ms(t, at))
		if int64(power) != want*1000 {
			t.Errorf("at %s: %d mW, want %d W", at, power, want)
		}
		if left := until - ms(t, at); left <= 0 || left > p.period {
			t.Errorf("at %s: holds for %d ms", at, left)
		}
	}
}

func TestProfileScale(t *testing.T) {
	p := readFixture(t, "pv_day.csv", 6*1_000_000) // 6 kWp, W per W
	power, _ := p.Power(ms(t, "2026-06-01T12:00:00Z"))
	if power != 3_750_000 {
		t.Errorf("0.625 W/W of 6 kWp is %d mW", power)
	}
}

func TestProfileErrors(t *testing.T) {
	day := func(rows ...string) string { return "timestamp,electricity\n" + strings.Join(rows, "\n") }
	for name, c := range map[string]struct{ text, want string }{
		"empty":           {"", "not a profile: got 0 rows, want at least one whole day of them"},
		"header":          {"time,power\n", `line 1: got "time,power", want the header "timestamp,electricity"`},
		"columns":         {day("0,1,2"), `line 2: got "0,1,2", want two columns, timestamp,electricity`},
		"negative":        {day("0,-1"), `line 2: electricity "-1": want a power between 0 and 1000000 W`},
		"not a number":    {day("0,NaN"), `line 2: electricity "NaN": want a power`},
		"infinite":        {day("0,Inf"), `line 2: electricity "Inf": want a power`},
		"fraction":        {day("0.5,1"), `line 2: timestamp "0.5": want whole Unix seconds`},
		"text":            {day("noon,1"), `line 2: timestamp "noon": want whole Unix seconds`},
		"gap":             {day("0,1", "3600,1", "10800,1"), "line 4: timestamp 10800, want 7200: rows must follow each other every 3600 s without a gap"},
		"backwards":       {day("3600,1", "0,1"), "line 3: rows are -3600 s apart"},
		"odd":             {day("0,1", "7000,1"), "line 3: rows are 7000 s apart, want a distance that divides a day"},
		"less than a day": {day("0,1", "3600,1"), "got 2 rows, want at least one whole day of them"},
		"long line":       {day(strings.Repeat("1", 300)), "line 2: bufio.Scanner: token too long"},
	} {
		_, err := ReadProfile(strings.NewReader(c.text), 1000)
		if !errors.Is(err, ErrProfile) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func FuzzReadProfile(f *testing.F) {
	for _, name := range []string{"two_days.csv", "pv_day.csv"} {
		data, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data), int64(1_613_343_600_000))
	}
	f.Add("timestamp,electricity\n0,1e300\n43200,0x1p3\n", int64(-1))
	f.Fuzz(func(t *testing.T, text string, at int64) {
		p, err := ReadProfile(strings.NewReader(text), 1000)
		if err != nil {
			if !errors.Is(err, ErrProfile) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		at %= 1 << 43
		power, until := p.Power(at)
		if power < 0 || power > maxPower || until <= at || until > at+p.period {
			t.Fatalf("at %d: %d mW until %d", at, power, until)
		}
		next, _ := p.Power(at + p.days*dayMS)
		if next != power {
			t.Fatalf("a span later: %d, was %d", next, power)
		}
	})
}
