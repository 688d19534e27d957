package device

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/commonwatt/commonwatt/firmware-sim/home"
)

// dsmr is a Dutch household's meter with a P1 port. Facts from "P1 Companion
// Standard" 5.0.2, 4.2.2 and 2.2 of Netbeheer Nederland, and from EN 62056-61
// (OBIS): lines that end with CRLF; energies in kWh to three decimals, by tariff
// (1 low, 2 normal); powers of the two directions in kW to three decimals (two in
// 2.2); from 4 on a time stamp with S or W and a CRC-16 from the / to the ! as
// four hexadecimal digits; 2.2 has neither.
//
// Tariff 1 is that of nights (23 to 7 o'clock) and weekends, by the clock of the
// house. What the device has counted is divided by the tariff that held at each
// refresh since its time began; what it only shows (a jump, a reset) is laid on
// tariff 2, and on tariff 1 where nothing is left of that.
type dsmr struct {
	spec Spec

	mu   sync.Mutex
	last division // the newest one that was made
}

// division is what was counted, by tariff.
type division struct {
	made             bool
	counted          Reading
	import1, export1 home.MilliWattHours // of tariff 1; the rest is of tariff 2
}

func newDSMR(s Spec) Telegrapher { return &dsmr{spec: s} }

// Versions of the standard; the first is the default.
const (
	dsmr5 = "5.0"
	dsmr4 = "4.2"
	dsmr2 = "2.2"
)

func (*dsmr) Shown(wh uint64) uint64 { return wh }

// winter and summer are the zones of the Netherlands: the rule is written here
// since a gateway may have no database of zones.
var (
	winter = time.FixedZone("CET", 3600)
	summer = time.FixedZone("CEST", 2*3600)
)

// localTime is the time on the wall of the house. Summer begins and ends at 01:00
// UTC on the last Sundays of March and October (directive 2000/84/EC).
func localTime(at time.Time) (local time.Time, isSummer bool) {
	begin, end := lastSunday(at.UTC().Year(), time.March), lastSunday(at.UTC().Year(), time.October)
	if !at.Before(begin) && at.Before(end) {
		return at.In(summer), true
	}
	return at.In(winter), false
}

func lastSunday(year int, month time.Month) time.Time {
	last := time.Date(year, month+1, 0, 1, 0, 0, 0, time.UTC)
	return last.AddDate(0, 0, -int(last.Weekday()))
}

// stamp is YYMMDDhhmmss and S or W.
func stamp(at time.Time) string {
	local, isSummer := localTime(at)
	if isSummer {
		return local.Format("060102150405") + "S"
	}
	return local.Format("060102150405") + "W"
}

// tariff is the one that holds at an instant.
func tariff(at time.Time) int {
	local, _ := localTime(at)
	if day := local.Weekday(); day == time.Saturday || day == time.Sunday || local.Hour() < 7 || local.Hour() >= 23 {
		return 1
	}
	return 2
}

// divide finds what was counted in tariff 1 up to a refresh, from the newest
// division if that is not later, else from the beginning.
func (d *dsmr) divide(ctx context.Context, index int64) (division, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, from := d.last, d.last.counted.Index+1
	if at.made && at.counted.Index == index {
		return at, nil
	}
	if !at.made || from > index {
		at, from = division{}, d.spec.Counted.First()
	}
	for ; from <= index; from += portion { // others wait for the readings meanwhile
		err := d.spec.Counted.Walk(ctx, from, min(from+portion-1, index), func(r Reading) { at = at.next(r) })
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return division{}, fmt.Errorf("dividing a counter by tariff: %w", err)
		}
	}
	d.last = at
	return at, nil
}

func (v division) next(r Reading) division {
	switch {
	case !v.made: // two fifths of what it had counted before
		v.import1, v.export1 = whole(r.Import/5*2), whole(r.Export/5*2)
	case tariff(r.At.Add(-time.Millisecond)) == 1:
		v.import1 += whole(r.Import) - whole(v.counted.Import)
		v.export1 += whole(r.Export) - whole(v.counted.Export)
	}
	v.made, v.counted = true, r
	return v
}

// whole is a counter in the Wh that are full: what has begun belongs to the tariff
// in which it becomes full, so that the two together show what the whole shows.
func whole(e home.MilliWattHours) home.MilliWattHours { return e - e%home.MilliWattHoursPerWattHour }

// lay divides what is shown: one and two are at least 0, and their sum is it.
func lay(shown, counted, counted1 home.MilliWattHours) (one, two home.MilliWattHours) {
	two = max(0, counted-counted1+shown-counted)
	return shown - two, two
}

func (d *dsmr) Telegram(ctx context.Context, r Reading) ([]byte, error) {
	counted, err := d.divide(ctx, r.Index)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	version := d.spec.Version
	if version == "" {
		version = dsmr5
	}
	id := hexDigits(fmt.Sprintf("E%016d", d.spec.Serial))
	e := newElectrics(r, d.spec.Serial)
	switch version {
	case dsmr2:
		line("/ISk5\\2MT382-1003")
		line("")
		line("0-0:96.1.1(%s)", id)
	default:
		line("/ISK5\\2M550T-1012")
		line("")
		line("1-3:0.2.8(%s)", map[string]string{dsmr4: "42", dsmr5: "50"}[version])
		line("0-0:1.0.0(%s)", stamp(r.At))
		line("0-0:96.1.1(%s)", id)
	}
	energies(line, r, counted, version)
	if version != dsmr2 {
		line("0-0:96.7.21(00003)")
		line("0-0:96.7.9(00001)")
	}
	if version == dsmr5 {
		for phase := range 3 {
			line("1-0:%d2.7.0(%05.1f*V)", 3+2*phase, e.volts[phase])
		}
	}
	line("0-0:96.13.0()")
	line("!")
	text := strings.TrimSuffix(b.String(), "\r\n")
	if version == dsmr2 {
		return []byte(text + "\r\n"), nil
	}
	return []byte(text + fmt.Sprintf("%04X", crcARC([]byte(text))) + "\r\n"), nil
}

// energies are the lines that a reader bills by; a meter that does not know leaves
// them out.
func energies(line func(string, ...any), r Reading, v division, version string) {
	decimals, digits := 3, 6
	if version == dsmr2 {
		digits = 5
	}
	if !r.NoCounters {
		in1, in2 := lay(r.Import, v.counted.Import, v.import1)
		out1, out2 := lay(r.Export, v.counted.Export, v.export1)
		for _, c := range []struct {
			code string
			e    home.MilliWattHours
		}{{"1.8.1", in1}, {"1.8.2", in2}, {"2.8.1", out1}, {"2.8.2", out2}} {
			line("1-0:%s(%s*kWh)", c.code, padded(c.e, 6, decimals, digits))
		}
	}
	line("0-0:96.14.0(%04d)", tariff(r.At))
	if !r.NoPower {
		imported, exported := max(0, r.Power.Watts()), max(0, -r.Power.Watts())
		if version == dsmr2 {
			line("1-0:1.7.0(%07.2f*kW)", float64(imported)/1000)
			line("1-0:2.7.0(%07.2f*kW)", float64(exported)/1000)
		} else {
			line("1-0:1.7.0(%02d.%03d*kW)", imported/1000, imported%1000)
			line("1-0:2.7.0(%02d.%03d*kW)", exported/1000, exported%1000)
		}
	}
}

// padded is a decimal with zeros before it.
func padded(e home.MilliWattHours, exponent, decimals, digits int) string {
	text := string(decimal(e, exponent, decimals))
	for len(text) < digits+1+decimals {
		text = "0" + text
	}
	return text
}

// hexDigits writes a text as the hexadecimal digits of its characters.
func hexDigits(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		b.WriteString(strconv.FormatUint(uint64(c), 16))
	}
	return strings.ToUpper(b.String())
}

// crcARC is CRC-16 with the polynomial 0x8005 reflected, beginning with 0.
func crcARC(data []byte) uint16 {
	var crc uint16
	for _, b := range data {
		crc ^= uint16(b)
		for range 8 {
			odd := crc&1 == 1
			crc >>= 1
			if odd {
				crc ^= 0xA001
			}
		}
	}
	return crc
}
