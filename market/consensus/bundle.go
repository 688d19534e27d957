package consensus

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"

	"github.com/fxamacker/cbor/v2"
)

func itoa(n int) string { return strconv.Itoa(n) }

// errBundle is the one reason for a bundle that cannot be read.
var errBundle = errors.New("malformed bundle")

// bundle is one gossip message: several transactions, because gossip costs by the
// message. The nonce makes bytes that are published again a new message to gossip, which
// would drop them as a duplicate otherwise.
type bundle struct {
	_     struct{} `cbor:",toarray"`
	Nonce [nonceSize]byte
	Txs   [][]byte
}

const nonceSize = 8

// bundleOverhead is what the framing of a full bundle may have: array heads, nonce, and a
// head of at most five bytes per transaction.
const bundleOverhead = 16 + 5*MaxBundleTxs

var (
	bundleEnc = func() cbor.EncMode {
		m, err := cbor.CoreDetEncOptions().EncMode()
		if err != nil {
			panic("consensus: cbor encoding options: " + err.Error())
		}
		return m
	}()
	bundleDec = func() cbor.DecMode {
		m, err := cbor.DecOptions{
			IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
			MaxNestedLevels: 4, MaxArrayElements: MaxBundleTxs, MaxMapPairs: 16,
		}.DecMode()
		if err != nil {
			panic("consensus: cbor decoding options: " + err.Error())
		}
		return m
	}()
)

// encodeBundles packs transactions into as few bundles as their limits allow.
func encodeBundles(txs [][]byte) ([][]byte, error) {
	var out [][]byte
	for len(txs) > 0 {
		n, size := 0, bundleOverhead
		for n < len(txs) && n < MaxBundleTxs && size+len(txs[n]) <= MaxBundleBytes {
			size += len(txs[n])
			n++
		}
		if n == 0 {
			return nil, fmt.Errorf("packing a transaction of %d bytes: want at most %d", len(txs[0]), MaxBundleBytes-bundleOverhead)
		}
		b := bundle{Txs: txs[:n]}
		_, _ = rand.Read(b.Nonce[:]) // never fails, see crypto/rand
		raw, err := bundleEnc.Marshal(b)
		if err != nil {
			return nil, fmt.Errorf("packing %d transactions: %w", n, err)
		}
		out = append(out, raw)
		txs = txs[n:]
	}
	return out, nil
}

// decodeBundle reads one bundle strictly: one spelling only, and nothing empty or too large.
func decodeBundle(raw []byte) ([][]byte, error) {
	if len(raw) > MaxBundleBytes {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", errBundle, len(raw), MaxBundleBytes)
	}
	// The shape is checked before the library allocates for it: an array of two, a string
	// of eight bytes, an array of transactions.
	if len(raw) < 2+nonceSize+1 || raw[0] != 0x82 || raw[1] != 0x40|nonceSize || raw[2+nonceSize]>>5 != 4 {
		return nil, fmt.Errorf("%w: want an array of an 8-byte nonce and an array", errBundle)
	}
	var b bundle
	if err := bundleDec.Unmarshal(raw, &b); err != nil {
		return nil, fmt.Errorf("%w: %w", errBundle, err)
	}
	if n := len(b.Txs); n < 1 || n > MaxBundleTxs {
		return nil, fmt.Errorf("%w: %d transactions, want 1 to %d", errBundle, n, MaxBundleTxs)
	}
	for i, tx := range b.Txs {
		if len(tx) == 0 { // which null would be as well
			return nil, fmt.Errorf("%w: transaction %d is empty", errBundle, i)
		}
	}
	again, err := bundleEnc.Marshal(b)
	if err != nil || !bytes.Equal(again, raw) {
		return nil, fmt.Errorf("%w: not in canonical form", errBundle)
	}
	return b.Txs, nil
}

// Verdict is what a gossip message is worth. The zero Verdict is not one of them, so that
// a forgotten one cannot pass for one.
type Verdict int

// The verdicts.
const (
	Accept Verdict = iota + 1 // deliver and forward
	Reject                    // drop, and count it against whoever sent it
	Ignore                    // drop, without blame
)

// String returns "accept", "reject" or "ignore".
func (v Verdict) String() string {
	switch v {
	case Accept:
		return "accept"
	case Reject:
		return "reject"
	case Ignore:
		return "ignore"
	}
	return "verdict-" + itoa(int(v))
}
