package def

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// telegramKind is the name of the one message of a P1 port.
const telegramKind = "p1 telegram"

// ReadOBIS returns what stands behind an OBIS code in a telegram: nil if it is not there, an error if it cannot be told.
type ReadOBIS func(code string) ([]string, error)

// quantity is a value of a telegram with its unit: 000004.426*kWh.
type quantity string

// The codes that are looked for whatever the definition says.
const (
	obisTime = "0-0:1.0.0"
	// cetOffset is the zone of W times where a definition names no other, in minutes.
	cetOffset = 60
)

// NewTelegramDecoder makes a decoder for the telegrams of one P1 port.
func (d *Definition) NewTelegramDecoder() *Decoder {
	return d.newDecoder([]string{telegramKind}, 0)
}

// Telegram makes a sample of one telegram. What it does not say is unknown; what it says twice is the device's error.
func (dec *Decoder) Telegram(ident string, read ReadOBIS, at time.Time) Values {
	find := func(p Place) (any, bool) {
		values, err := read(p.OBIS)
		switch {
		case err != nil:
			return noNumber(err.Error()), true
		case values == nil:
			return nil, false
		case len(values) != 1:
			return noNumber("more than one value"), true
		}
		return quantity(values[0]), true
	}
	dec.identifyTelegram(ident, read)
	dec.fresh.hear(telegramKind, find, at)
	v := dec.fresh.finish(at)
	if values, err := read(obisTime); err == nil && len(values) == 1 {
		v.DeviceAt = dec.def.P1.time(values[0])
	}
	return v
}

// identifyTelegram takes the identification line, whose first three letters are the maker's, and what the definition
// names. Each telegram says all of it anew: another meter behind the same port is another identity.
func (dec *Decoder) identifyTelegram(ident string, read ReadOBIS) {
	dec.identity = Identity{Model: text(wordsOfText(ident))}
	if len(ident) >= 3 {
		dec.identity.Maker = strings.ToUpper(text(wordsOfText(ident[:3])))
	}
	for name, p := range dec.def.Identify.all() {
		if p == nil {
			continue
		}
		if p.Text != "" {
			dec.identity.set(name, p.Text)
		}
		for _, from := range p.From {
			values, err := read(from.OBIS)
			if err != nil || len(values) != 1 || len(values[0]) > 2*maxIdentity {
				continue
			}
			if s := fromHex(values[0]); s != "" && len(s) <= maxIdentity {
				dec.identity.set(name, s)
				break
			}
		}
	}
}

// fromHex turns a text that is written as the hexadecimal digits of its characters back, and leaves any other as it is.
func fromHex(s string) string {
	plain := text(wordsOfText(s))
	decoded, err := hex.DecodeString(s)
	if err != nil || len(decoded) < 4 {
		return plain
	}
	for _, b := range decoded {
		if b < ' ' || b > '~' {
			return plain
		}
	}
	return strings.TrimSpace(string(decoded))
}

// quantity reads number*unit as a number in the unit of the point. The number is digits and at most one dot.
func (p Point) quantity(q quantity) (decimal, bool, error) {
	number, unit, _ := strings.Cut(string(q), "*")
	small, large := "Wh", "kWh"
	if p.Unit == "W" || p.Unit == "kW" {
		small, large = "W", "kW"
	}
	if strings.Trim(number, "0123456789.") != "" || (unit != small && unit != large) {
		return decimal{}, false, fmt.Errorf("got %q, expected a number of %s or %s: %w", string(q), large, small, errNotNumber)
	}
	n, err := parseDecimal(number)
	if err != nil {
		return decimal{}, false, err
	}
	const thousand = 3
	if unit == large {
		n.exp += thousand
	}
	if p.Unit == large {
		n.exp -= thousand
	}
	return n, true, nil
}

// time reads YYMMDDhhmmss with S or W for summer or winter, which makes it certain in the hour that comes twice in
// autumn. A time that cannot be, as meters without a set clock send, is nil.
func (p *P1) time(s string) *time.Time {
	const digits = 12
	if len(s) != digits+1 || strings.Trim(s[:digits], "0123456789") != "" {
		return nil
	}
	offset := cetOffset
	if p.WinterOffsetMin != nil {
		offset = *p.WinterOffsetMin
	}
	switch s[digits] {
	case 'W':
	case 'S':
		offset += 60
	default:
		return nil
	}
	var f [6]int
	for i := range f {
		f[i], _ = strconv.Atoi(s[2*i : 2*i+2]) // digits, see above
	}
	local := time.Date(2000+f[0], time.Month(f[1]), f[2], f[3], f[4], f[5], 0, time.UTC)
	if local.Format("060102150405") != s[:digits] {
		return nil // the 32nd of a month, the 25th hour
	}
	at := local.Add(-time.Duration(offset) * time.Minute)
	return &at
}
