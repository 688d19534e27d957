package p2p

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// The wire format of a request is its length (4 bytes, big endian) and its body, after
// which the requester closes its side. A reply is one status byte, then the same. There
// is nothing after either.

type status byte

const (
	statusOK       status = iota // the body is the reply
	statusFailed                 // the body is the handler's error text
	statusTooLarge               // the request is above the handler's limit
	statusBusy                   // too many requests of this peer

	statusNone status = 0xff // never on the wire: the stream is reset instead
)

// maxErrorText bounds the error text of a reply.
const maxErrorText = 256

// writeFrame writes length and body, with prefix before them, in one Write.
func writeFrame(w io.Writer, prefix, body []byte) error {
	if int64(len(body)) > math.MaxUint32 {
		return fmt.Errorf("%w: %d bytes, want at most %d", ErrTooLarge, len(body), uint32(math.MaxUint32))
	}
	b := make([]byte, 0, len(prefix)+4+len(body))
	b = append(b, prefix...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(body))) //nolint:gosec // checked above
	_, err := w.Write(append(b, body...))
	return err
}

// readFrame reads length and body and then the end of the stream. A length above limit is
// ErrTooLarge, and nothing is read of the body. Anything missing or left over is ErrFrame.
// Memory is taken as bytes arrive, not as they are announced.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, short("length", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if int64(n) > int64(limit) {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrTooLarge, n, limit)
	}
	var body bytes.Buffer
	if got, err := io.CopyN(&body, r, int64(n)); err != nil {
		return nil, short(fmt.Sprintf("byte %d of %d", got, n), err)
	}
	switch k, err := io.ReadFull(r, head[:1]); {
	case k > 0:
		return nil, fmt.Errorf("%w: bytes after the body of %d", ErrFrame, n)
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	return body.Bytes(), nil
}

// short turns an early end into ErrFrame and leaves other errors (resets, deadlines).
func short(at string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: ends at %s", ErrFrame, at)
	}
	return err
}

// readReply reads a reply and turns a status other than OK into its error.
func readReply(r io.Reader, limit int) ([]byte, error) {
	var st [1]byte
	if _, err := io.ReadFull(r, st[:]); err != nil {
		return nil, short("status", err)
	}
	if status(st[0]) == statusOK {
		return readFrame(r, limit)
	}
	text, err := readFrame(r, maxErrorText)
	if err != nil {
		return nil, err
	}
	switch status(st[0]) {
	case statusOK, statusNone: // the first is dealt with above, the second is never sent
	case statusFailed:
		return nil, fmt.Errorf("%w: %q", ErrRemote, errorText(string(text)))
	case statusTooLarge:
		return nil, fmt.Errorf("%w: the peer refused the request", ErrTooLarge)
	case statusBusy:
		return nil, ErrBusy
	}
	return nil, fmt.Errorf("%w: status %d", ErrFrame, st[0])
}

// errorText cuts a text to what a reply may carry, as valid UTF-8.
func errorText(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	for len(s) > maxErrorText {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
