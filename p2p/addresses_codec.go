package p2p

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// maxRecordBytes and maxRecordAddrs bound one signed record.
	maxRecordBytes = 4096
	maxRecordAddrs = maxAnnounced
	// digestBytes is one line of a request: a network key and a time of signing.
	digestBytes = ed25519.PublicKeySize + 8
	// fileMagic begins the file of addresses.
	fileMagic = "commonwatt addresses 1\n"
)

// signedRecord is a libp2p peer record whose signature has been checked.
type signedRecord struct {
	raw   []byte
	id    peer.ID
	seq   uint64
	addrs []ma.Multiaddr
}

// readRecord checks an envelope: its size, its signature by the Ed25519 key of the peer that
// it is about, and the number and size of the addresses.
func readRecord(raw []byte) (signedRecord, error) {
	if len(raw) == 0 || len(raw) > maxRecordBytes {
		return signedRecord{}, fmt.Errorf("%w: a record of %d bytes, want 1 to %d", ErrFrame, len(raw), maxRecordBytes)
	}
	rec := new(peer.PeerRecord)
	envelope, err := record.ConsumeTypedEnvelope(raw, rec)
	if err != nil {
		return signedRecord{}, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	if envelope.PublicKey.Type() != crypto.Ed25519 || !rec.PeerID.MatchesPublicKey(envelope.PublicKey) {
		return signedRecord{}, fmt.Errorf("%w: the record of %s is not signed with that peer's Ed25519 key", ErrFrame, rec.PeerID)
	}
	if rec.Seq > math.MaxInt64 {
		return signedRecord{}, fmt.Errorf("%w: the record of %s is signed at %d ns, want less than 2^63", ErrFrame, rec.PeerID, rec.Seq)
	}
	if n := len(rec.Addrs); n == 0 || n > 2*maxRecordAddrs {
		return signedRecord{}, fmt.Errorf("%w: the record of %s has %d addresses, want 1 to %d", ErrFrame, rec.PeerID, n, 2*maxRecordAddrs)
	}
	for _, a := range rec.Addrs {
		if n := len(a.Bytes()); n == 0 || n > maxAddrBytes {
			return signedRecord{}, fmt.Errorf("%w: the record of %s has an address of %d bytes, want 1 to %d", ErrFrame, rec.PeerID, n, maxAddrBytes)
		}
	}
	return signedRecord{raw: raw, id: rec.PeerID, seq: rec.Seq, addrs: rec.Addrs}, nil
}

// encodeRecords writes each envelope after its length in two bytes.
func encodeRecords(records [][]byte) []byte {
	var b []byte
	for _, raw := range records {
		b = binary.BigEndian.AppendUint16(b, uint16(len(raw))) //nolint:gosec // at most maxRecordBytes
		b = append(b, raw...)
	}
	return b
}

// decodeRecords reads at most limit records, of which no two are about the same peer.
func decodeRecords(b []byte, limit int) ([]signedRecord, error) {
	var out []signedRecord
	seen := make(map[peer.ID]bool)
	for len(b) > 0 {
		if len(out) == limit {
			return nil, fmt.Errorf("%w: more than %d records", ErrFrame, limit)
		}
		raw, rest, err := takeBlock(b, maxRecordBytes)
		if err != nil {
			return nil, err
		}
		r, err := readRecord(bytes.Clone(raw))
		if err != nil {
			return nil, err
		}
		if seen[r.id] {
			return nil, fmt.Errorf("%w: two records of %s", ErrFrame, r.id)
		}
		seen[r.id] = true
		out, b = append(out, r), rest
	}
	return out, nil
}

// encodeDigest writes which records we have, sorted by key. Identities that do not contain
// an Ed25519 key are nobody's and never in the book.
func encodeDigest(have map[peer.ID]uint64) []byte {
	lines := make([][]byte, 0, len(have))
	for id, seq := range have {
		if raw, ok := networkKey(id); ok {
			lines = append(lines, binary.BigEndian.AppendUint64(slices.Clip(raw), seq))
		}
	}
	slices.SortFunc(lines, bytes.Compare)
	return bytes.Join(lines, nil)
}

// decodeDigest reads a digest, whose keys must rise.
func decodeDigest(b []byte) (map[peer.ID]uint64, error) {
	if len(b)%digestBytes != 0 || len(b) > (maxRecords+1)*digestBytes {
		return nil, fmt.Errorf("%w: a digest of %d bytes, want a multiple of %d up to %d", ErrFrame, len(b), digestBytes, (maxRecords+1)*digestBytes)
	}
	have := make(map[peer.ID]uint64, len(b)/digestBytes)
	var last []byte
	for ; len(b) > 0; b = b[digestBytes:] {
		raw := b[:ed25519.PublicKeySize]
		if last != nil && bytes.Compare(last, raw) >= 0 {
			return nil, fmt.Errorf("%w: a digest whose keys do not rise", ErrFrame)
		}
		key, err := crypto.UnmarshalEd25519PublicKey(raw)
		if err != nil {
			return nil, fmt.Errorf("%w: key in a digest: %w", ErrFrame, err)
		}
		id, err := peer.IDFromPublicKey(key)
		if err != nil {
			return nil, fmt.Errorf("%w: key in a digest: %w", ErrFrame, err)
		}
		have[id] = binary.BigEndian.Uint64(b[ed25519.PublicKeySize:])
		last = raw
	}
	return have, nil
}

// decodeFile reads the bytes of a file of addresses.
func decodeFile(b []byte) ([]signedRecord, error) {
	rest, ok := bytes.CutPrefix(b, []byte(fileMagic))
	if !ok {
		return nil, fmt.Errorf("%w: it does not begin with %q", ErrFrame, fileMagic)
	}
	return decodeRecords(rest, maxRecords)
}

// loadRecords reads a file of addresses. None at all is an empty one.
func loadRecords(file string) (records []signedRecord, err error) {
	f, err := os.Open(file) //nolint:gosec // the caller's own file
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	const limit = len(fileMagic) + maxRecords*(2+maxRecordBytes)
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return decodeFile(b)
}

// saveRecords replaces the file: whoever reads it sees the old one or the new one. It says
// who lives where, so it is nobody else's to read.
func saveRecords(file string, records [][]byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), ".addresses-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(append([]byte(fileMagic), encodeRecords(records)...))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
