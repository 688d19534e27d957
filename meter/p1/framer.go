package p1

import (
	"bytes"
	"fmt"
)

// maxClosing bounds the line with the checksum: "!", four digits, CRLF, and room for blanks.
const maxClosing = 16

// Framer cuts a stream of bytes into telegrams. It is for one goroutine. The zero value is ready.
type Framer struct {
	buf     []byte // from "/" on; empty while none has begun
	lines   int
	closing int // bytes of the line that begins with "!"; 0 before it
}

// Feed takes what arrived and calls found for each telegram that is complete, and for what had to be given up. The raw
// bytes are the caller's own.
func (f *Framer) Feed(data []byte, found func(raw []byte, err error)) {
	for _, b := range data {
		begin := len(f.buf) > 0 && f.buf[len(f.buf)-1] == '\n'
		switch {
		case b == '/' && (len(f.buf) == 0 || begin):
			f.reset() // what was before it was cut off
			f.buf = append(f.buf, b)
			continue
		case len(f.buf) == 0:
			continue
		}
		f.buf = append(f.buf, b)
		switch {
		case b == '!' && begin:
			f.closing = 1
		case f.closing > 0:
			f.closing++
		}
		if b == '\n' {
			f.lines++
		}
		switch {
		case f.closing > 0 && b == '\n':
			found(bytes.Clone(f.buf), nil)
			f.reset()
		case len(f.buf) > MaxTelegram || f.lines > MaxLines || f.closing > maxClosing:
			found(nil, fmt.Errorf("got %d bytes and %d lines without an end, expected at most %d and %d: %w", len(f.buf), f.lines, MaxTelegram, MaxLines, ErrTelegram))
			f.reset()
		}
	}
}

// End is for input that ends: it may have left out the last line end.
func (f *Framer) End(found func(raw []byte, err error)) {
	if f.closing > 0 {
		found(bytes.Clone(f.buf), nil)
	} else if len(f.buf) > 0 {
		found(nil, fmt.Errorf("got %d bytes from / without a line that begins with !: it is cut off: %w", len(f.buf), ErrTelegram))
	}
	f.reset()
}

func (f *Framer) reset() { f.buf, f.lines, f.closing = f.buf[:0], 0, 0 }

// Last returns the newest telegram of a text that has ended, such as a file, and the bytes that it was made of. A newest
// one that is complete but wrong is an error; a later one that is cut off is passed over.
func Last(text []byte) (Telegram, []byte, error) {
	var last []byte
	var failed error
	var f Framer
	keep := func(raw []byte, err error) {
		if err != nil {
			failed = err
			return
		}
		last = raw
	}
	f.Feed(text, keep)
	f.End(keep)
	switch {
	case last != nil:
		t, err := Parse(last)
		return t, last, err
	case failed != nil:
		return Telegram{}, nil, failed
	}
	return Telegram{}, nil, fmt.Errorf("got %d bytes, expected text from a / to a line that begins with !: %w", len(text), ErrTelegram)
}
