package marketfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// maxText is the longest text in a market file, quotes and escapes included.
	maxText = 1 << 16
	// scanBuffer is what a scanner keeps of its input.
	scanBuffer = 1 << 18
)

var errTooEarly = errors.New("the file ends too early")

// A scanner reads JSON token by token, in bounded memory and without allocating.
// It is strict: text must be UTF-8, a number whole and within 64 bits.
type scanner struct {
	in      io.Reader
	buf     []byte
	pos     int   // in buf
	before  int64 // bytes of the input before buf
	done    error // why there is no more input than buf; io.EOF at its end
	scratch []byte
}

func newScanner(in io.Reader) *scanner { return &scanner{in: in, buf: make([]byte, 0, scanBuffer)} }

// fill makes sure that the next token is in buf as a whole, if it is not too long.
func (s *scanner) fill() {
	if len(s.buf)-s.pos > maxText || s.done != nil {
		return
	}
	s.before += int64(s.pos)
	s.buf = s.buf[:copy(s.buf, s.buf[s.pos:])]
	s.pos = 0
	for len(s.buf) <= maxText && s.done == nil {
		var n int
		n, s.done = s.in.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+n]
	}
}

// peek skips white space and returns the byte after it, or 0 at the end of the file.
func (s *scanner) peek() byte {
	for {
		s.fill()
		for s.pos < len(s.buf) {
			c := s.buf[s.pos]
			if c > ' ' || c != ' ' && c != '\n' && c != '\t' && c != '\r' {
				return c
			}
			s.pos++
		}
		if s.done != nil {
			return 0
		}
	}
}

// broken says that something else than want is next.
func (s *scanner) broken(want string) error {
	if s.pos >= len(s.buf) && s.done != nil {
		if errors.Is(s.done, io.EOF) {
			return errTooEarly
		}
		return s.done
	}
	got := s.buf[s.pos:]
	if r, n := utf8.DecodeRune(got); r != utf8.RuneError {
		got = got[:n]
	} else {
		got = got[:1]
	}
	return fmt.Errorf("not JSON at byte %d: got %q, want %s", s.before+int64(s.pos)+1, got, want)
}

// take reads one punctuation mark.
func (s *scanner) take(c byte) error {
	if s.peek() != c {
		return s.broken(fmt.Sprintf("%q", c))
	}
	s.pos++
	return nil
}

// next reads a comma or the end of a list or an object, and says which.
func (s *scanner) next(end byte) (more bool, err error) {
	switch s.peek() {
	case ',':
		s.pos++
		return true, nil
	case end:
		s.pos++
		return false, nil
	default:
		return false, s.broken(fmt.Sprintf("',' or %q", end))
	}
}

// isNull reads null, if that is next.
func (s *scanner) isNull() bool {
	if s.peek() != 'n' || !bytes.HasPrefix(s.buf[s.pos:], []byte("null")) {
		return false
	}
	s.pos += len("null")
	return true
}

// mismatch says that a value of another kind is next.
func (s *scanner) mismatch(want string) error {
	kind := ""
	switch c := s.peek(); {
	case c == '"':
		kind = "string"
	case c == '{':
		kind = "object"
	case c == '[':
		kind = "array"
	case c == '-' || c >= '0' && c <= '9':
		rest := s.buf[s.pos:]
		n := 1
		for n < min(len(rest), 40) && strings.IndexByte("+-.0123456789eE", rest[n]) >= 0 {
			n++
		}
		kind = "number " + string(rest[:n])
	case bytes.HasPrefix(s.buf[s.pos:], []byte("true")), bytes.HasPrefix(s.buf[s.pos:], []byte("false")):
		kind = "bool"
	case s.isNull():
		kind = "null"
	default:
		return s.broken(want)
	}
	return fmt.Errorf("got %s, want %s", kind, want)
}

// number reads a whole number.
func (s *scanner) number() (int64, error) {
	c := s.peek()
	start, negative := s.pos, c == '-'
	rest := s.buf[s.pos:]
	if negative {
		rest = rest[1:]
	}
	var n uint64
	digits := 0
	for _, c := range rest {
		if c < '0' || c > '9' || digits > 19 {
			break
		}
		n = n*10 + uint64(c-'0')
		digits++
	}
	limit := uint64(math.MaxInt64)
	if negative {
		limit++
	}
	leading := digits > 1 && rest[0] == '0'
	if digits == 0 || digits > 19 || leading || n > limit || digits < len(rest) && strings.IndexByte(".eE", rest[digits]) >= 0 {
		return 0, s.mismatch("a whole number of 64 bits")
	}
	s.pos = start + digits
	if negative {
		s.pos++
		return int64(-n), nil //nolint:gosec // two's complement, and not above 2^63
	}
	return int64(n), nil
}

// text reads a string. What it returns is valid until the next token.
func (s *scanner) text() ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.mismatch("a string")
	}
	rest := s.buf[s.pos+1:]
	rest = rest[:min(len(rest), maxText)]
	ascii := true
	for i, c := range rest {
		switch {
		case c == '"':
			if !ascii && !utf8.Valid(rest[:i]) {
				return nil, errors.New("got text that is not UTF-8")
			}
			s.pos += i + 2
			return rest[:i], nil
		case c == '\\':
			return s.escaped(rest)
		case c < ' ':
			s.pos += 1 + i
			return nil, s.broken("an escape, or the end of the text")
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, s.endless(rest)
}

// endless says why a text has no end.
func (s *scanner) endless(rest []byte) error {
	if len(rest) >= maxText {
		return fmt.Errorf("got text of more than %d bytes", maxText)
	}
	s.pos = len(s.buf)
	return s.broken("the end of the text")
}

// escapes are the characters after a backslash, but for u.
var escapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escaped is text for one that has escapes.
func (s *scanner) escaped(rest []byte) ([]byte, error) {
	s.scratch = s.scratch[:0]
	for i := 0; i < len(rest); i++ {
		c := rest[i]
		switch {
		case c == '"':
			if !utf8.Valid(s.scratch) {
				return nil, errors.New("got text that is not UTF-8")
			}
			s.pos += i + 2
			return s.scratch, nil
		case c < ' ':
			s.pos += 1 + i
			return nil, s.broken("an escape, or the end of the text")
		case c != '\\':
			s.scratch = append(s.scratch, c)
			continue
		}
		i++
		if i == len(rest) {
			break
		}
		if plain, ok := escapes[rest[i]]; ok {
			s.scratch = append(s.scratch, plain)
			continue
		}
		r, used := unicode(rest[i:])
		if used == 0 {
			s.pos += 1 + i
			return nil, s.broken("an escape that JSON has")
		}
		s.scratch = utf8.AppendRune(s.scratch, r)
		i += used - 1
	}
	return nil, s.endless(rest)
}

// unicode reads what follows the backslash of \uXXXX, or of two of them that make
// one character. It uses 0 bytes if that is none.
func unicode(rest []byte) (r rune, used int) {
	r = fourHex(rest)
	if r < 0 {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, len("uXXXX")
	}
	const pair = len(`uXXXX\uXXXX`)
	if len(rest) < pair || rest[len("uXXXX")] != '\\' {
		return 0, 0
	}
	if r = utf16.DecodeRune(r, fourHex(rest[len(`uXXXX\`):])); r == utf8.RuneError {
		return 0, 0
	}
	return r, pair
}

// fourHex reads uXXXX, or returns -1.
func fourHex(rest []byte) rune {
	if len(rest) < len("uXXXX") || rest[0] != 'u' {
		return -1
	}
	var r rune
	for _, c := range rest[1:len("uXXXX")] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return -1
		}
	}
	return r
}
