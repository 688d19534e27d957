package device

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
	"github.com/commonwatt/commonwatt/firmware-sim/modbus"
)

// walker imports 1.2345 Wh and exports 0.5 Wh a refresh of 15 minutes from an
// instant on.
type walker struct{ begin time.Time }

func (w walker) First() int64 { return w.begin.Unix() / 900 }

func (w walker) at(i int64) Reading {
	n := home.MilliWattHours(i - w.First())
	return Reading{Index: i, At: time.Unix(i*900, 0).UTC(), Import: 5_000_000 + n*12_345, Export: 700_000 + n*5000, Power: 49}
}

func (w walker) Walk(_ context.Context, from, to int64, each func(Reading)) error {
	for ; from <= to; from++ {
		each(w.at(from))
	}
	return nil
}

func telegram(t *testing.T, version string, w walker, r Reading) string {
	t.Helper()
	d := newDevice(t, "dsmr-p1", Spec{Serial: 12345678, Version: version, Counted: w})
	text, err := d.(Telegrapher).Telegram(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDSMRVersions(t *testing.T) {
	w := walker{time.Date(2026, 6, 21, 10, 0, 0, 0, time.UTC)}
	r := w.at(w.First())
	r.Power = -1_832_499
	for version, want := range map[string]string{
		"": "/ISK5\\2M550T-1012\r\n\r\n1-3:0.2.8(50)\r\n0-0:1.0.0(260621120000S)\r\n0-0:96.1.1(4530303030303030303132333435363738)\r\n" +
			"1-0:1.8.1(000002.000*kWh)\r\n1-0:1.8.2(000003.000*kWh)\r\n1-0:2.8.1(000000.280*kWh)\r\n1-0:2.8.2(000000.420*kWh)\r\n" +
			"0-0:96.14.0(0001)\r\n1-0:1.7.0(00.000*kW)\r\n1-0:2.7.0(01.832*kW)\r\n0-0:96.7.21(00003)\r\n0-0:96.7.9(00001)\r\n",
		"4.2": "/ISK5\\2M550T-1012\r\n\r\n1-3:0.2.8(42)\r\n0-0:1.0.0(260621120000S)\r\n0-0:96.1.1(4530303030303030303132333435363738)\r\n" +
			"1-0:1.8.1(000002.000*kWh)\r\n",
		"2.2": "/ISk5\\2MT382-1003\r\n\r\n0-0:96.1.1(4530303030303030303132333435363738)\r\n" +
			"1-0:1.8.1(00002.000*kWh)\r\n1-0:1.8.2(00003.000*kWh)\r\n1-0:2.8.1(00000.280*kWh)\r\n1-0:2.8.2(00000.420*kWh)\r\n" +
			"0-0:96.14.0(0001)\r\n1-0:1.7.0(0000.00*kW)\r\n1-0:2.7.0(0001.83*kW)\r\n0-0:96.13.0()\r\n!\r\n",
	} {
		got := telegram(t, version, w, r)
		if !strings.HasPrefix(got, want) {
			t.Errorf("%q: %s", version, cmp.Diff(want, got))
		}
		crc := regexp.MustCompile(`\r\n!([0-9A-F]{4})?\r\n$`).FindStringSubmatch(got)
		if crc == nil || (crc[1] != "") != (version != "2.2") {
			t.Errorf("%q ends with %q", version, got[len(got)-10:])
		}
	}
}

// TestStamps: the hours in which the clocks of the Netherlands change in 2026.
func TestStamps(t *testing.T) {
	for at, want := range map[string]string{
		"2026-03-29T00:59:59Z": "260329015959W",
		"2026-03-29T01:00:00Z": "260329030000S",
		"2026-10-25T00:59:59Z": "261025025959S",
		"2026-10-25T01:00:00Z": "261025020000W",
		"2026-12-31T23:30:00Z": "270101003000W",
	} {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if got := stamp(when); got != want {
			t.Errorf("%s: got %s, want %s", at, got, want)
		}
	}
}

// TestStampsAgree with the zone that the system knows, for a hundred years.
func TestStampsAgree(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Amsterdam")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(852_076_800, 4_000_000_000).Draw(t, "at"), 0) // the directive's rule holds since 1996
		if got, want := stamp(at)[:12], at.In(zone).Format("060102150405"); got != want {
			t.Fatalf("%v: got %s, want %s", at, got, want)
		}
	})
}

// TestTariffs: over a week each register moves in its tariff only, never falls,
// and both together show what one counter would.
func TestTariffs(t *testing.T) {
	w := walker{time.Date(2026, 10, 22, 0, 0, 0, 0, time.UTC)} // a Thursday; the clocks change on Sunday
	code := regexp.MustCompile(`1-0:[12]\.8\.([12])\(([0-9.]+)\*kWh\)`)
	var before []int64
	moved := map[int]int{}
	for i := w.First(); i < w.First()+7*96; i++ {
		r := w.at(i)
		var now []int64
		for _, m := range code.FindAllStringSubmatch(telegram(t, "", w, r), -1) {
			n, err := strconv.ParseInt(strings.ReplaceAll(m[2], ".", ""), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			now = append(now, n)
		}
		if len(now) != 4 || now[0]+now[1] != int64(r.ImportWh()) || now[2]+now[3] != int64(r.ExportWh()) {
			t.Fatalf("%v: %v of %d and %d Wh", r.At, now, r.ImportWh(), r.ExportWh())
		}
		holds := tariff(r.At.Add(-time.Second))
		for register := range before {
			if now[register] < before[register] {
				t.Fatalf("%v: register %d fell", r.At, register)
			}
			if now[register] > before[register] && register%2+1 != holds {
				t.Fatalf("%v: register %d moved in tariff %d", r.At, register, holds)
			}
		}
		moved[holds]++
		before = now
	}
	if moved[2] != 5*16*4 { // five working days from 7 to 23 o'clock
		t.Errorf("%d quarters of an hour are in tariff 2", moved[2])
	}
}

// TestRegistersOfKinds: what the makers' documents say a counter looks like, for
// an import of 1234.567 kWh and an export of 987.654.
func TestRegistersOfKinds(t *testing.T) {
	for _, c := range []struct {
		kind           string
		table          modbus.Table
		address, count uint16
		want, unknown  string
	}{
		{"abb-b23", modbus.Holding, 0x5000, 8, "000000000001e240 00000000000181cd", "ffffffffffffffff ffffffffffffffff"},
		{"abb-b23", modbus.Holding, 0x5B14, 2, "fffd342e", "7fffffff"},
		{"abb-b23", modbus.Holding, 0x8900, 2, "01330ede", ""},
		{"carlo-gavazzi-em24-e1", modbus.Input, 0x0034, 2, "30390000", "ffff7fff"},
		{"carlo-gavazzi-em24-e1", modbus.Holding, 0x004E, 2, "26940000", "ffff7fff"},
		{"carlo-gavazzi-em24-e1", modbus.Holding, 0x000B, 1, "0670", ""},
		{"schneider-iem3155", modbus.Holding, 3203, 8, "000000000012d687 00000000000f1206", "8000000000000000 8000000000000000"},
		{"schneider-iem3155", modbus.Holding, 49, 4, "69454d3331353500", ""},
		{"eastron-sdm120", modbus.Input, 0x0048, 4, "449a5225 4476e9db", "7fc00000 7fc00000"},
	} {
		d := newDevice(t, c.kind, Spec{Serial: 20_123_358, Unit: 1})
		hex := func(r Reading) string {
			var b strings.Builder
			for _, word := range readRegisters(t, d, r, c.table, c.address, c.count) {
				fmt.Fprintf(&b, "%04x", word)
			}
			return b.String()
		}
		if got := hex(sample); got != strings.ReplaceAll(c.want, " ", "") {
			t.Errorf("%s %#x: got %s, want %s", c.kind, c.address, got, c.want)
		}
		silent := sample
		silent.NoCounters, silent.NoPower = true, true
		if got := hex(silent); c.unknown != "" && got != strings.ReplaceAll(c.unknown, " ", "") {
			t.Errorf("%s %#x: unknown is %s, want %s", c.kind, c.address, got, c.unknown)
		}
	}
}
