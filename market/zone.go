package market

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// ParseZone returns the time zone that a POSIX TZ rule describes, such as
// "CET-1CEST,M3.5.0,M10.5.0/3": the community's own, by which its months begin.
// A rule is used rather than a name because names need a database, whose versions
// differ from machine to machine; the rule is the same everywhere and for all
// years, those before it was made too.
//
// The grammar is std offset [dst [offset] ,start[/time] ,end[/time]]: a name is 3
// to 6 letters, or letters, digits and signs in <>; an offset, hours[:mm[:ss]] west
// of Greenwich, at most 24 hours; a day, Mmonth.week.weekday, Jday or day; a time at
// most 167 hours either way. Summer time has to say when it begins and ends.
// Everything else is ErrBadZone.
func ParseZone(posix string) (*time.Location, error) {
	p := zoneParser{text: posix, rest: posix}
	offset := p.rule()
	if p.problem == "" && p.rest != "" {
		p.fail("the end")
	}
	if p.problem != "" {
		return nil, fmt.Errorf("time zone %q: %s: %w", posix, p.problem, ErrBadZone)
	}
	loc, err := time.LoadLocationFromTZData(posix, zoneFile(posix, offset))
	if err != nil {
		return nil, fmt.Errorf("time zone %q: %w: %w", posix, err, ErrBadZone)
	}
	// Package time ignores a rule that it does not understand.
	if name, _ := time.Unix(0, 0).In(loc).Zone(); name == noRule {
		return nil, fmt.Errorf("time zone %q: is not understood: %w", posix, ErrBadZone)
	}
	return loc, nil
}

// noRule is the name of the zone where the rule does not speak. No rule can have it.
const noRule = "?"

// zoneFile returns a time zone file (RFC 8536, version 2) that knows nothing but
// the rule and, as such a file must, one zone for the time before the first
// transition; that is so long ago that the rule speaks for all of history.
func zoneFile(posix string, offset int32) []byte {
	const firstTransition = -1 << 59
	header := func(transitions, zones, letters uint32) []byte {
		b := append([]byte("TZif2"), make([]byte, 15)...)
		for _, count := range []uint32{0, 0, 0, transitions, zones, letters} {
			b = binary.BigEndian.AppendUint32(b, count)
		}
		return b
	}
	zone := binary.BigEndian.AppendUint32(nil, uint32(offset)) //nolint:gosec // two's complement
	zone = append(zone, 0, 0)                                  // not summer time, the name at 0
	zone = append(zone, noRule+"\x00"...)
	const letters = uint32(len(noRule) + 1)
	// The first block, of 32 bits, is for readers of version 1.
	b := append(header(0, 1, letters), zone...)
	b = append(b, header(1, 1, letters)...)
	b = binary.BigEndian.AppendUint64(b, uint64(1<<64+firstTransition))
	b = append(b, 0) // its zone
	b = append(b, zone...)
	return append(b, "\n"+posix+"\n"...)
}

// A zoneParser reads a rule from the front; its first problem stays.
type zoneParser struct {
	text, rest string
	problem    string
}

func (p *zoneParser) fail(want string) {
	if p.problem == "" {
		p.problem = fmt.Sprintf("got %q at byte %d, want %s", p.rest, len(p.text)-len(p.rest), want)
	}
	p.rest = ""
}

// accept takes the prefix off if it is there.
func (p *zoneParser) accept(prefix string) bool {
	rest, found := strings.CutPrefix(p.rest, prefix)
	p.rest = rest
	return found
}

func (p *zoneParser) expect(prefix string) {
	if !p.accept(prefix) {
		p.fail(strconv.Quote(prefix))
	}
}

// rule reads all of it and returns the standard offset, seconds east.
func (p *zoneParser) rule() int32 {
	const offsetHours, timeHours = 24, 167
	p.name()
	standard := p.clock(offsetHours)
	if p.rest == "" {
		return -standard
	}
	p.name()
	if p.rest != "" && p.rest[0] != ',' {
		p.clock(offsetHours)
	}
	for range 2 {
		p.expect(",")
		p.day()
		if p.accept("/") {
			p.clock(timeHours)
		}
	}
	return -standard
}

// name reads a zone's abbreviation.
func (p *zoneParser) name() {
	const least, most = 3, 6
	quoted := p.accept("<")
	n := 0
	for n < len(p.rest) && nameByte(p.rest[n], quoted) {
		n++
	}
	if n < least || n > most {
		p.fail("a name of 3 to 6 letters")
		return
	}
	p.rest = p.rest[n:]
	if quoted {
		p.expect(">")
	}
}

func nameByte(c byte, quoted bool) bool {
	letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
	return letter || quoted && (c >= '0' && c <= '9' || c == '+' || c == '-')
}

// clock reads [+-]hours[:mm[:ss]] and returns it in seconds.
func (p *zoneParser) clock(mostHours int) int32 {
	negative := p.accept("-")
	if !negative {
		p.accept("+")
	}
	hours := p.number(0, mostHours)
	seconds := hours * 3600
	if p.accept(":") {
		seconds += p.number(0, 59) * 60
		if p.accept(":") {
			seconds += p.number(0, 59)
		}
	}
	if seconds > mostHours*3600 {
		p.fail(fmt.Sprintf("at most %d hours before it", mostHours))
		return 0
	}
	if negative {
		seconds = -seconds
	}
	return int32(seconds) //nolint:gosec // at most 167 hours
}

// day reads the day of a change.
func (p *zoneParser) day() {
	switch {
	case p.accept("M"):
		p.number(1, 12)
		p.expect(".")
		p.number(1, 5)
		p.expect(".")
		p.number(0, 6)
	case p.accept("J"):
		p.number(1, 365)
	default:
		p.number(0, 365)
	}
}

// number reads digits only, and no more than the largest number has.
func (p *zoneParser) number(least, most int) int {
	n := 0
	for n < len(p.rest) && p.rest[n] >= '0' && p.rest[n] <= '9' {
		n++
	}
	v, err := strconv.Atoi(p.rest[:n])
	if err != nil || n > len(strconv.Itoa(most)) || v < least || v > most {
		p.fail(fmt.Sprintf("a number from %d to %d", least, most))
		return 0
	}
	p.rest = p.rest[n:]
	return v
}
