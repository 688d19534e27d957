package store

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
)

// encMode and decMode are the codec of what machines send each other of a snapshot: core
// deterministic encoding out, strict bounded decoding in.
var (
	encMode = must(cbor.CoreDetEncOptions().EncMode())
	decMode = must(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		MaxNestedLevels:   6,
		MaxArrayElements:  1 << 16,
		MaxMapPairs:       16,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8:              cbor.UTF8RejectInvalid,
	}.DecMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic("store: cbor options: " + err.Error())
	}
	return v
}

// encode gives the canonical bytes of v. The types of this package always encode.
func encode(v any) []byte { return must(encMode.Marshal(v)) }

var errNotCanonical = errors.New("bytes are not in canonical form")

// decode reads canonical bytes into v and refuses any other spelling of the same value.
// The caller has bounded b.
func decode(b []byte, v any) error {
	if err := decMode.Unmarshal(b, v); err != nil {
		return err
	}
	if again, err := encMode.Marshal(v); err != nil || !bytes.Equal(again, b) {
		return errNotCanonical
	}
	return nil
}

// writeRecord writes a record of the state: length and bytes of its key, then of its value.
func writeRecord(w io.Writer, key, value []byte) error {
	if len(key) > maxKeyBytes || len(value) > maxValueBytes {
		return fmt.Errorf("record of %d and %d bytes, want at most %d and %d", len(key), len(value), maxKeyBytes, maxValueBytes)
	}
	b := binary.AppendUvarint(nil, uint64(len(key)))
	b = append(b, key...)
	b = binary.AppendUvarint(b, uint64(len(value)))
	if _, err := w.Write(b); err != nil {
		return err
	}
	_, err := w.Write(value)
	return err
}

// readRecords yields the records that writeRecord wrote until the end of r or until f
// returns an error. Keys must rise. Errors about the bytes wrap ErrSnapshot.
func readRecords(r io.Reader, f func(key string, value []byte) error) error {
	in := bufio.NewReaderSize(r, ChunkBytes)
	last := ""
	for n := 0; ; n++ {
		if _, err := in.Peek(1); errors.Is(err, io.EOF) {
			return nil
		}
		key, err := readBytes(in, maxKeyBytes)
		var value []byte
		if err == nil {
			value, err = readBytes(in, maxValueBytes)
		}
		switch {
		case err != nil:
			return fmt.Errorf("%w: record %d of the state: %w", ErrSnapshot, n, err)
		case n > 0 && string(key) <= last:
			return fmt.Errorf("%w: record %d of the state is %s, after %s", ErrSnapshot, n, keyText(bucketState, key), keyText(bucketState, []byte(last)))
		}
		last = string(key)
		if err := f(last, value); err != nil {
			return err
		}
	}
}

func readBytes(in *bufio.Reader, most uint64) ([]byte, error) {
	n, err := binary.ReadUvarint(in)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading its length: %w", err)
	case n > most:
		return nil, fmt.Errorf("its length is %d, want at most %d", n, most)
	}
	// No more is set aside than has come: a length alone costs nothing.
	var b bytes.Buffer
	if m, err := io.CopyN(&b, in, int64(n)); err != nil { //nolint:gosec // bounded by most
		return nil, fmt.Errorf("it ends after %d of %d bytes", m, n)
	}
	return b.Bytes(), nil
}
