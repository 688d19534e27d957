package household

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/commonwatt/commonwatt/meter"
)

// kept is one sample that counts, as the history keeps it.
type kept struct {
	atMs               int64
	importWh, exportWh *uint64
	powerW             *int64
	quality            meter.Quality
	trust              meter.ClockTrust
}

// A block is what one meter told between two writes: a CRC-32C of all that follows, the
// form, the number of readings, and each reading as differences from the one before, of
// variable length. One takes about eight bytes.
const (
	blockForm = 1
	maxBlock  = 4096 // readings
	// The flags of a reading.
	hasImport, hasExport, hasPower, hasQuality = 1, 2, 4, 8
	trustShift                                 = 4 // two bits
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errBlock   = errors.New("a block of readings is damaged")
)

func encodeBlock(readings []kept) []byte {
	b := make([]byte, 0, 16+12*len(readings))
	b = append(b, blockForm)
	b = binary.AppendUvarint(b, uint64(len(readings)))
	var last kept
	var in, out uint64
	var power int64
	for _, r := range readings {
		flags := byte(r.trust&3) << trustShift
		for _, f := range []struct {
			known bool
			bit   byte
		}{{r.importWh != nil, hasImport}, {r.exportWh != nil, hasExport}, {r.powerW != nil, hasPower}, {r.quality != 0, hasQuality}} {
			if f.known {
				flags |= f.bit
			}
		}
		b = append(b, flags)
		b = binary.AppendVarint(b, r.atMs-last.atMs)
		for _, c := range []struct{ is, was *uint64 }{{r.importWh, &in}, {r.exportWh, &out}} {
			if c.is != nil {
				b = binary.AppendVarint(b, int64(*c.is-*c.was)) //nolint:gosec // differences wrap around, and back when they are added
				*c.was = *c.is
			}
		}
		if r.powerW != nil {
			b = binary.AppendVarint(b, *r.powerW-power)
			power = *r.powerW
		}
		if r.quality != 0 {
			b = binary.AppendUvarint(b, uint64(r.quality))
		}
		last = r
	}
	return sealBlock(b)
}

func sealBlock(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, crc32.Checksum(body, castagnoli)), body...)
}

func decodeBlock(b []byte) ([]kept, error) {
	if len(b) < 6 || crc32.Checksum(b[4:], castagnoli) != binary.BigEndian.Uint32(b) {
		return nil, fmt.Errorf("%w: its checksum does not match", errBlock)
	}
	if b[4] != blockForm {
		return nil, fmt.Errorf("%w: form is %d, want %d", errBlock, b[4], blockForm)
	}
	d := &blockDecoder{b: b[5:]}
	n := d.unsigned()
	if n > maxBlock || n > uint64(len(b)) {
		return nil, fmt.Errorf("%w: it says that it has %d readings in %d bytes, want at most %d", errBlock, n, len(b), maxBlock)
	}
	readings := make([]kept, 0, n)
	var at, power int64
	var in, out uint64
	for range n {
		flags := d.flags()
		at += d.signed()
		r := kept{atMs: at, trust: meter.ClockTrust(flags >> trustShift & 3)}
		if flags&hasImport != 0 {
			in += uint64(d.signed()) //nolint:gosec // see encodeBlock
			r.importWh = new(in)
		}
		if flags&hasExport != 0 {
			out += uint64(d.signed()) //nolint:gosec // see encodeBlock
			r.exportWh = new(out)
		}
		if flags&hasPower != 0 {
			power += d.signed()
			r.powerW = new(power)
		}
		if flags&hasQuality != 0 {
			r.quality = meter.Quality(d.unsigned()) //nolint:gosec // what is beyond its bits is cut
		}
		readings = append(readings, r)
	}
	if d.short || len(d.b) > 0 {
		return nil, fmt.Errorf("%w: it has not the length that its readings take", errBlock)
	}
	return readings, nil
}

// blockDecoder reads numbers until there are no more.
type blockDecoder struct {
	b     []byte
	short bool
}

func (d *blockDecoder) flags() byte {
	if len(d.b) == 0 {
		d.short = true
		return 0
	}
	f := d.b[0]
	d.b = d.b[1:]
	return f
}

func (d *blockDecoder) signed() int64 {
	v, n := binary.Varint(d.b)
	d.skip(n)
	return v
}

func (d *blockDecoder) unsigned() uint64 {
	v, n := binary.Uvarint(d.b)
	d.skip(n)
	return v
}

func (d *blockDecoder) skip(n int) {
	if n <= 0 {
		d.short, d.b = true, nil
		return
	}
	d.b = d.b[n:]
}

// proven is a reading that proved a boundary, with what the device sent.
type proven struct {
	Reading meter.Reading
	Raw     []byte
}

// aside is a sample that does not count, kept as evidence.
type aside struct {
	At                 time.Time
	Verdict, Reason    string
	ImportWh, ExportWh *uint64
	PowerW             *int64
	Quality            meter.Quality
	Serial             string
	Raw                []byte
	// More is how many of its kind came since the one before and were not kept.
	More int64
}
