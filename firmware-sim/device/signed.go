package device

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"
)

// signedMeter is a meter that signs every reading in its firmware and chains
// it to the one before. What is signed is written by hand here, byte by byte,
// and not by the code that room meter checks it with:
//
//	"commonwatt/reading/1" ||
//	CBOR array(8) [meter bytes(16), seq uint, epoch uint, at_ms uint,
//	               import_wh uint, export_wh uint, quality uint, prev bytes(32)]
//
// with the shortest form of each integer (RFC 8949, section 4.2.1). The meter id
// is the beginning of the key's SHA-256, prev the SHA-256 of the signed bytes
// and the signature of the reading before; zero for the first.
//
// The chain begins with the meter's time and has one link for each refresh, so
// that it is the same after a restart (Ed25519 is deterministic); a link takes
// about as long as a signature.
type signedMeter struct {
	spec  Spec
	meter [16]byte

	mu   sync.Mutex
	last link // the newest one that was made
}

// link is one reading in the chain.
type link struct {
	made      bool
	reading   Reading
	seq       uint64
	prev      [sha256.Size]byte
	signature []byte
	hash      [sha256.Size]byte
}

func newSignedMeter(s Spec) (Publisher, error) {
	if len(s.Key) != ed25519.PrivateKeySize || s.Readings == nil {
		return nil, fmt.Errorf("making a signing meter: got a key of %d bytes, want %d, and readings", len(s.Key), ed25519.PrivateKeySize)
	}
	public, _ := s.Key.Public().(ed25519.PublicKey)
	sum := sha256.Sum256(public)
	return &signedMeter{spec: s, meter: [16]byte(sum[:16])}, nil
}

func (*signedMeter) Shown(wh uint64) uint64 { return wh }

func (d *signedMeter) Birth() Message {
	return Message{Topic: "commonwatt/" + d.spec.Topic + "/status", Payload: []byte("online"), Retain: true, QoS: 1}
}

func (d *signedMeter) Will() Message {
	return Message{Topic: "commonwatt/" + d.spec.Topic + "/status", Payload: []byte("offline"), Retain: true, QoS: 1}
}

func (d *signedMeter) Messages(ctx context.Context, r Reading) ([]Message, error) {
	l, err := d.link(ctx, r.Index)
	if err != nil {
		return nil, err
	}
	public, _ := d.spec.Key.Public().(ed25519.PublicKey)
	var imported, exported *uint64
	if !l.reading.NoCounters {
		imported, exported = new(l.reading.ImportWh()), new(l.reading.ExportWh())
	}
	var watts *int64
	if !l.reading.NoPower {
		watts = new(l.reading.Power.Watts())
	}
	m, err := message("commonwatt/"+d.spec.Topic+"/reading", struct {
		Meter    string  `json:"meter"`
		Seq      uint64  `json:"seq"`
		Epoch    uint32  `json:"epoch"`
		AtMs     int64   `json:"at_ms"`
		ImportWh *uint64 `json:"import_wh"`
		ExportWh *uint64 `json:"export_wh"`
		Quality  uint16  `json:"quality"`
		Prev     string  `json:"prev"`
		PowerW   *int64  `json:"power_w,omitempty"`
		Key      string  `json:"key"`
		Sig      string  `json:"sig"`
	}{
		hex.EncodeToString(d.meter[:]), l.seq, 0, l.reading.At.UnixMilli(),
		imported, exported, 0, hex.EncodeToString(l.prev[:]),
		watts,
		base64.StdEncoding.EncodeToString(public), base64.StdEncoding.EncodeToString(l.signature),
	})
	if err != nil {
		return nil, err
	}
	m.QoS = 1
	return []Message{m}, nil
}

// portion is how many readings are chained at once: some milliseconds.
const portion = 64

// link makes the chain up to a refresh, from the newest link if that is not
// later, else from the beginning.
func (d *signedMeter) link(ctx context.Context, index int64) (link, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last.made && d.last.reading.Index == index {
		return d.last, nil
	}
	last, from := d.last, d.last.reading.Index+1
	if !last.made || from > index {
		last, from = link{}, d.spec.Readings.First()
	}
	// In portions, since others wait for the readings meanwhile.
	for ; from <= index; from += portion {
		err := d.spec.Readings.Walk(ctx, from, min(from+portion-1, index), func(r Reading) { last = d.next(last, r) })
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return link{}, fmt.Errorf("chaining readings: %w", err)
		}
	}
	d.last = last
	return last, nil
}

func (d *signedMeter) next(before link, r Reading) link {
	l := link{made: true, reading: r, seq: before.seq + 1, prev: before.hash}
	signed := d.signedBytes(l)
	l.signature = ed25519.Sign(d.spec.Key, signed)
	l.hash = sha256.Sum256(append(signed, l.signature...))
	return l
}

// The major types of CBOR that are needed, in the upper three bits.
const (
	cborUint  = 0 << 5
	cborBytes = 2 << 5
	cborArray = 4 << 5
	cborNull  = 7<<5 | 22
)

func (d *signedMeter) signedBytes(l link) []byte {
	b := append(make([]byte, 0, 128), "commonwatt/reading/1"...)
	b = cborHead(b, cborArray, 8)
	b = append(cborHead(b, cborBytes, 16), d.meter[:]...)
	b = cborHead(b, cborUint, l.seq)
	b = cborHead(b, cborUint, 0)                                // epoch: this counter was never replaced
	b = cborHead(b, cborUint, uint64(l.reading.At.UnixMilli())) // after 1970
	if l.reading.NoCounters {
		b = append(b, cborNull, cborNull)
	} else {
		b = cborHead(b, cborUint, l.reading.ImportWh())
		b = cborHead(b, cborUint, l.reading.ExportWh())
	}
	b = cborHead(b, cborUint, 0) // quality: good
	return append(cborHead(b, cborBytes, sha256.Size), l.prev[:]...)
}

// cborHead appends a major type with its number in the shortest form.
func cborHead(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	default:
		return binary.BigEndian.AppendUint64(append(b, major|27), n)
	}
}
