package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// This file reads bbolt's file format by itself, with plain reads and believing
// nothing. bbolt does not look for damage: on a flipped bit it may panic, also in a
// goroutine of its own where nobody can recover, read beyond its mapping, miss half
// of a tree, or give away a page that is in use because the list of free pages says
// so. Hence Open and Check walk the pages first.
//
// The format, in the machine's byte order: pages of one size, each with a header of
// 16 bytes (id, flags, count, overflow: pages that follow and belong to it). Pages 0
// and 1 are the meta pages; the one with the higher transaction id and a right
// checksum counts. Branch elements (pos, ksize, page) and leaf elements (flags, pos,
// ksize, vsize) are 16 bytes; pos counts from the element itself. A bucket is a leaf
// element of the root tree whose value is its root page and a sequence number,
// followed by its only page if the root page is 0.
const (
	headerBytes  = 16
	elementBytes = 16
	metaBytes    = 64

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10

	elementIsBucket = 1

	boltMagic   = 0xED0CDAED
	boltVersion = 2
	noFreelist  = ^uint64(0)

	// maxDepth is far above that of any tree that fits a disk.
	maxDepth = 32
)

var native = binary.NativeEndian

// header is that of a page.
type header struct {
	id       uint64
	flags    uint16
	count    uint16
	overflow uint32
}

func parseHeader(b []byte) header {
	return header{id: native.Uint64(b), flags: native.Uint16(b[8:]), count: native.Uint16(b[10:]), overflow: native.Uint32(b[12:])}
}

// metaPage is what a meta page says.
type metaPage struct {
	root     uint64
	freelist uint64
	end      uint64 // the first page number that was never used
	txid     uint64
}

// walker reads one file and collects what is wrong with it.
type walker struct {
	file     io.ReaderAt
	pageSize int
	meta     metaPage
	// shallow leaves the leaves of the history unread, which are most of the file.
	shallow bool
	// item gets every key and value of the buckets, in order of keys within an
	// undamaged bucket. Its slices are valid until it returns.
	item func(bucket, key, value []byte)
	bad  func(record, format string, args ...any)

	used map[uint64]bool // pages found in the trees
}

// walk reads everything. What is damaged is reported and left out.
func (w *walker) walk() {
	if w.readMetas() {
		w.walkFrom()
	}
}

// walkFrom reads everything below the meta page that counts.
func (w *walker) walkFrom() {
	w.used = map[uint64]bool{}
	w.tree(w.meta.root, span{}, 0, w.rootElement)
	w.walkFreelist()
}

// readMetas chooses the meta page that counts, as bbolt does.
func (w *walker) readMetas() bool {
	found := false
	for i := range uint64(2) {
		m, err := w.readMeta(i)
		if err != nil {
			w.bad(fmt.Sprintf("meta page %d", i), "%v", err)
			continue
		}
		if !found || m.txid > w.meta.txid {
			w.meta, found = m, true
		}
	}
	return found
}

func (w *walker) readMeta(i uint64) (metaPage, error) {
	b := make([]byte, headerBytes+metaBytes)
	if _, err := w.file.ReadAt(b, int64(i)*int64(w.pageSize)); err != nil { //nolint:gosec // 0 or 1
		return metaPage{}, fmt.Errorf("cannot be read: %w", err)
	}
	h, m := parseHeader(b), b[headerBytes:]
	sum := fnv.New64a()
	sum.Write(m[:56])
	switch {
	case h.id != i || h.flags != flagMeta:
		return metaPage{}, fmt.Errorf("calls itself page %d with flags %#x", h.id, h.flags)
	case native.Uint32(m) != boltMagic || native.Uint32(m[4:]) != boltVersion:
		return metaPage{}, fmt.Errorf("magic %#x, version %d", native.Uint32(m), native.Uint32(m[4:]))
	case sum.Sum64() != native.Uint64(m[56:]):
		return metaPage{}, fmt.Errorf("its checksum is wrong")
	case int64(native.Uint32(m[8:])) != int64(w.pageSize):
		return metaPage{}, fmt.Errorf("page size %d, want %d", native.Uint32(m[8:]), w.pageSize)
	}
	return metaPage{root: native.Uint64(m[16:]), freelist: native.Uint64(m[32:]), end: native.Uint64(m[40:]), txid: native.Uint64(m[48:])}, nil
}

// page reads a page with its overflow, and marks it as used.
func (w *walker) page(id uint64) (header, []byte, error) {
	if id < 2 || id >= w.meta.end {
		return header{}, nil, fmt.Errorf("there is no page %d, want 2 to %d", id, w.meta.end-1)
	}
	if w.used[id] {
		return header{}, nil, fmt.Errorf("page %d is used twice", id)
	}
	w.used[id] = true
	at := int64(id) * int64(w.pageSize) //nolint:gosec // below end, which is a page number of the file
	b := make([]byte, w.pageSize)
	if _, err := w.file.ReadAt(b, at); err != nil {
		return header{}, nil, fmt.Errorf("page %d cannot be read: %w", id, err)
	}
	h := parseHeader(b)
	if h.id != id {
		return header{}, nil, fmt.Errorf("page %d calls itself %d", id, h.id)
	}
	if uint64(h.overflow) >= w.meta.end-id {
		return header{}, nil, fmt.Errorf("page %d: %d more pages, the last page is %d", id, h.overflow, w.meta.end-1)
	}
	for i := uint64(1); i <= uint64(h.overflow); i++ {
		if w.used[id+i] {
			return header{}, nil, fmt.Errorf("page %d is used twice", id+i)
		}
		w.used[id+i] = true
	}
	if h.overflow > 0 {
		// Read page by page, so that a wrong number allocates no more than the file has.
		for range h.overflow {
			at += int64(w.pageSize)
			next := make([]byte, w.pageSize)
			if _, err := w.file.ReadAt(next, at); err != nil {
				return header{}, nil, fmt.Errorf("page %d cannot be read: %w", at/int64(w.pageSize), err)
			}
			b = append(b, next...)
		}
	}
	return h, b, nil
}

// span is where the keys of a subtree must lie: from from on and before to. nil is
// no limit.
type span struct{ from, to []byte }

func (s span) holds(key []byte) bool {
	return bytes.Compare(s.from, key) <= 0 && (s.to == nil || bytes.Compare(key, s.to) < 0)
}

// element is one key of a page with what it leads to.
type element struct {
	key, value []byte
	flags      uint32
	page       uint64
	lost       bool // it lies outside of its page
}

// tree walks a tree of pages. leaf gets the elements of its leaves.
func (w *walker) tree(id uint64, s span, depth int, leaf func(element)) {
	h, b, err := w.page(id)
	if err == nil && depth > maxDepth {
		err = fmt.Errorf("page %d: deeper than %d", id, maxDepth)
	}
	var elements []element
	var ordered bool
	if err == nil {
		elements, ordered, err = w.elements(fmt.Sprintf("page %d", id), h, b, s)
	}
	if err != nil {
		w.bad(fmt.Sprintf("page %d", id), "%v", err)
		return
	}
	for i, e := range elements {
		if h.flags == flagLeaf {
			if !e.lost {
				leaf(e)
			}
			continue
		}
		below := s
		if ordered { // else any of the keys may be the wrong one
			below.from = e.key
			if i+1 < len(elements) {
				below.to = elements[i+1].key
			}
		}
		w.tree(e.page, below, depth+1, leaf)
	}
}

// elements parses the elements of a page. What is wrong with one of them is reported,
// and does not keep the others from being read; ordered says that nothing was.
func (w *walker) elements(record string, h header, b []byte, s span) (elements []element, ordered bool, err error) {
	if h.flags != flagBranch && h.flags != flagLeaf {
		return nil, false, fmt.Errorf("flags %#x, want a branch or a leaf", h.flags)
	}
	data := headerBytes + elementBytes*int(h.count)
	if data > len(b) || h.flags == flagBranch && h.count == 0 {
		return nil, false, fmt.Errorf("%d elements in %d bytes", h.count, len(b))
	}
	elements, ordered = make([]element, h.count), true
	var last []byte
	for i := range elements {
		e := &elements[i]
		if err := e.parse(h.flags, b, headerBytes+elementBytes*i, data); err != nil {
			w.bad(record, "element %d %v", i, err)
			e.lost, ordered = true, false
			continue
		}
		if !s.holds(e.key) || last != nil && bytes.Compare(last, e.key) >= 0 {
			w.bad(record, "element %d has key %x, which is out of order", i, e.key)
			ordered = false
		}
		last = e.key
	}
	return elements, ordered, nil
}

// parse reads the element at a place of its page; what it leads to begins at data.
func (e *element) parse(flags uint16, b []byte, at, data int) error {
	raw := b[at : at+elementBytes]
	var pos, ksize, vsize uint64
	if flags == flagBranch {
		pos, ksize = uint64(native.Uint32(raw)), uint64(native.Uint32(raw[4:]))
		e.page = native.Uint64(raw[8:])
	} else {
		e.flags = native.Uint32(raw)
		pos, ksize, vsize = uint64(native.Uint32(raw[4:])), uint64(native.Uint32(raw[8:])), uint64(native.Uint32(raw[12:]))
	}
	from := uint64(at) + pos                                      //nolint:gosec // never negative
	if from < uint64(data) || from+ksize+vsize > uint64(len(b)) { //nolint:gosec // never negative
		return fmt.Errorf("lies from %d to %d, want %d to %d", from, from+ksize+vsize, data, len(b))
	}
	e.key, e.value = b[from:from+ksize], b[from+ksize:from+ksize+vsize]
	return nil
}
