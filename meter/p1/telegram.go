package p1

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	// MaxTelegram bounds a telegram in bytes.
	MaxTelegram = 16 << 10
	// MaxLines bounds it in lines.
	MaxLines = 400
	// maxIdent bounds its first line.
	maxIdent = 64
)

var (
	// ErrTelegram is wrapped by all that is wrong with a telegram.
	ErrTelegram = errors.New("unreadable telegram")
	// ErrChecksum is wrapped with ErrTelegram where its checksum is not that of its text.
	ErrChecksum = errors.New("checksum")
	// ErrTwice is returned for a line that is there more than once.
	ErrTwice = errors.New("is there more than once")
)

// Telegram is one telegram whose form was checked.
type Telegram struct {
	// Ident is the first line without the slash, such as ISk5\2MT382-1000.
	Ident string
	// Checked says that it had a checksum, and that it was right.
	Checked bool
	objects []object
}

type object struct {
	code   string
	values []string
}

// Values returns what stands in the brackets behind an OBIS code such as 1-0:1.8.1; nil if there is no such line.
func (t *Telegram) Values(code string) ([]string, error) {
	var found []string
	for _, o := range t.objects {
		if o.code != code {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("line %s %w", code, ErrTwice)
		}
		found = o.values
	}
	return found, nil
}

// Parse reads a telegram from "/" to the line that begins with "!".
func Parse(raw []byte) (Telegram, error) {
	var t Telegram
	fail := func(format string, args ...any) (Telegram, error) {
		return Telegram{}, fmt.Errorf(format+": %w", append(args, ErrTelegram)...)
	}
	if len(raw) > MaxTelegram {
		return fail("got %d bytes, expected at most %d", len(raw), MaxTelegram)
	}
	end := bytes.LastIndexByte(raw, '!')
	if len(raw) == 0 || raw[0] != '/' || end < 0 || raw[end-1] != '\n' {
		return fail("expected text from a / to a line that begins with !")
	}
	body, sum := raw[:end+1], strings.TrimRight(string(raw[end+1:]), "\r\n")
	var err error
	if t.Checked, err = check(body, sum); err != nil {
		return fail("%w", err)
	}
	lines := strings.Split(string(body[1:end]), "\n")
	if len(lines) > MaxLines {
		return fail("got %d lines, expected at most %d", len(lines), MaxLines)
	}
	t.Ident = strings.TrimRight(lines[0], "\r")
	if n := len(t.Ident); n < 4 || n > maxIdent || (!t.Checked && strings.ContainsFunc(t.Ident, func(r rune) bool { return r > '~' })) {
		return fail("first line: got %q, expected the identification of a meter", short(t.Ident))
	}
	for i, line := range lines[1:] {
		if err := t.add(strings.TrimRight(line, "\r")); err != nil && !t.Checked {
			return fail("line %d: %w", i+2, err)
		}
	}
	if !t.Checked {
		if err := t.strict(); err != nil {
			return fail("%w", err)
		}
	}
	return t, nil
}

// check verifies the checksum, if there is one.
func check(body []byte, sum string) (bool, error) {
	if sum == "" {
		return false, nil
	}
	got, err := strconv.ParseUint(sum, 16, 16)
	if err != nil || len(sum) > 4 {
		return false, fmt.Errorf("checksum: got %q, expected up to 4 hexadecimal digits", short(sum))
	}
	want := CRC(body)
	if uint64(want) == got || uint64(CRC(withCRLF(body))) == got {
		return true, nil
	}
	return false, fmt.Errorf("%w: got %04X, expected %04X", ErrChecksum, got, want)
}

// withCRLF restores the line ends of a telegram that went through a program that knows only LF.
func withCRLF(text []byte) []byte {
	out := make([]byte, 0, len(text)+MaxLines)
	for i, b := range text {
		if b == '\n' && (i == 0 || text[i-1] != '\r') {
			out = append(out, '\r')
		}
		out = append(out, b)
	}
	return out
}

// CRC is CRC-16/ARC: polynomial x^16+x^15+x^2+1, least significant bit first, nothing before or after.
func CRC(data []byte) uint16 {
	var crc uint16
	for _, b := range data {
		crc ^= uint16(b)
		for range 8 {
			low := crc & 1
			crc >>= 1
			if low != 0 {
				crc ^= 0xA001
			}
		}
	}
	return crc
}

// add takes a line: code(value)(value)…, or (value) that continues the line before.
func (t *Telegram) add(line string) error {
	if line == "" {
		return nil
	}
	at := strings.IndexByte(line, '(')
	if at < 0 || line[len(line)-1] != ')' || !printable(line) {
		return fmt.Errorf("got %q, expected CODE(VALUE)", short(line))
	}
	values := strings.Split(line[at+1:len(line)-1], ")(")
	for _, v := range values {
		if strings.ContainsAny(v, "()") {
			return fmt.Errorf("got %q, expected CODE(VALUE)", short(line))
		}
	}
	if at == 0 {
		if len(t.objects) == 0 {
			return fmt.Errorf("got %q, expected a code before it", short(line))
		}
		last := &t.objects[len(t.objects)-1]
		last.values = append(last.values, values...)
		return nil
	}
	// In some countries the codes end in *255, which says nothing.
	code := strings.TrimSuffix(line[:at], "*255")
	if !IsOBIS(code) {
		return fmt.Errorf("got %q, expected a code such as 1-0:1.8.1", short(line[:at]))
	}
	t.objects = append(t.objects, object{code, values})
	return nil
}

// IsOBIS reports whether a text is of the form A-B:C.D.E, with numbers up to 255.
func IsOBIS(code string) bool {
	for _, end := range []string{"-", ":", ".", ".", ""} {
		part, rest := code, ""
		if end != "" {
			found := false
			if part, rest, found = strings.Cut(code, end); !found {
				return false
			}
		}
		if n, err := strconv.ParseUint(part, 10, 8); err != nil || strconv.FormatUint(n, 10) != part {
			return false
		}
		code = rest
	}
	return true
}

// strict is what a telegram without checksum has to stand.
func (t *Telegram) strict() error {
	for _, o := range t.objects {
		switch {
		case o.code == "1-3:0.2.8" || o.code == "0-0:96.1.4":
			return fmt.Errorf("checksum: got none, expected one after ! in a telegram of version %s", short(strings.Join(o.values, " ")))
		case strings.HasPrefix(o.code, "1-0:1.8.") || strings.HasPrefix(o.code, "1-0:2.8."):
			number, _, _ := strings.Cut(o.values[0], "*")
			whole, fraction, _ := strings.Cut(number, ".")
			if len(o.values) != 1 || len(whole) < 5 || len(fraction) < 3 {
				return fmt.Errorf("line %s: got %q, expected all digits, as in 12345.678*kWh", o.code, short(strings.Join(o.values, " ")))
			}
		}
	}
	return nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// short keeps a foreign text within an error message.
func short(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
