package store

import (
	"fmt"
	"slices"
)

// rootElement walks one bucket.
func (w *walker) rootElement(e element) {
	record := fmt.Sprintf("bucket %q", e.key)
	known := slices.ContainsFunc(allBuckets, func(b []byte) bool { return string(b) == string(e.key) })
	if !known || e.flags != elementIsBucket || len(e.value) < headerBytes {
		w.bad(record, "is no bucket of a ledger (flags %#x, %d bytes)", e.flags, len(e.value))
		return
	}
	if sequence := native.Uint64(e.value[8:]); sequence != 0 {
		w.bad(record, "sequence %d, want 0", sequence)
	}
	items := func(item element) {
		if item.flags != 0 {
			w.bad(keyText(e.key, item.key), "flags %#x, want 0", item.flags)
			return
		}
		if w.item != nil {
			w.item(e.key, item.key, item.value)
		}
	}
	root := native.Uint64(e.value)
	switch {
	case root == 0:
		w.inline(record, e.value[headerBytes:], items)
	case w.shallow && string(e.key) == string(bucketHistory):
		w.branches(root, 0)
	default:
		w.tree(root, span{}, 0, items)
	}
}

// inline walks the only page of a small bucket, which is in its value.
func (w *walker) inline(record string, b []byte, items func(element)) {
	if len(b) < headerBytes {
		w.bad(record, "%d bytes, want a page", len(b))
		return
	}
	h := parseHeader(b)
	if h.id != 0 || h.flags != flagLeaf || h.overflow != 0 {
		w.bad(record, "its page calls itself %d with flags %#x and %d more", h.id, h.flags, h.overflow)
		return
	}
	elements, _, err := w.elements(record, h, b, span{})
	if err != nil {
		w.bad(record, "%v", err)
		return
	}
	for _, e := range elements {
		if !e.lost {
			items(e)
		}
	}
}

// branches marks all pages of the history's tree as used, but reads only its
// branches: the leaves are on the level below the last of them, and all trees of
// bbolt have leaves on one level. An entry of the history is far smaller than a
// page, so that a leaf has no overflow.
func (w *walker) branches(id uint64, depth int) {
	level := []uint64{id}
	for ; len(level) > 0 && depth <= maxDepth; depth++ {
		// One page of a level tells for all.
		h, err := w.peek(level[0])
		if err != nil {
			w.bad(fmt.Sprintf("page %d", level[0]), "%v", err)
			return
		}
		var next []uint64
		for _, id := range level {
			if h.flags == flagLeaf {
				w.mark(id)
				continue
			}
			next = append(next, w.children(id)...)
		}
		level = next
	}
}

func (w *walker) peek(id uint64) (header, error) {
	if id < 2 || id >= w.meta.end {
		return header{}, fmt.Errorf("there is no page %d, want 2 to %d", id, w.meta.end-1)
	}
	b := make([]byte, headerBytes)
	if _, err := w.file.ReadAt(b, int64(id)*int64(w.pageSize)); err != nil { //nolint:gosec // below end
		return header{}, fmt.Errorf("cannot be read: %w", err)
	}
	return parseHeader(b), nil
}

func (w *walker) mark(id uint64) {
	switch {
	case id < 2 || id >= w.meta.end:
		w.bad(fmt.Sprintf("page %d", id), "there is none, want 2 to %d", w.meta.end-1)
	case w.used[id]:
		w.bad(fmt.Sprintf("page %d", id), "is used twice")
	default:
		w.used[id] = true
	}
}

func (w *walker) children(id uint64) []uint64 {
	h, b, err := w.page(id)
	var elements []element
	if err == nil {
		elements, _, err = w.elements(fmt.Sprintf("page %d", id), h, b, span{})
	}
	if err == nil && h.flags != flagBranch {
		err = fmt.Errorf("flags %#x, want a branch as its neighbours", h.flags)
	}
	if err != nil {
		w.bad(fmt.Sprintf("page %d", id), "%v", err)
		return nil
	}
	children := make([]uint64, len(elements))
	for i, e := range elements {
		children[i] = e.page
	}
	return children
}

// walkFreelist compares the list of free pages with those that the trees use. A page
// on both would be overwritten by the next commit.
func (w *walker) walkFreelist() {
	if w.meta.freelist == noFreelist {
		w.bad("list of free pages", "is missing")
		return
	}
	h, b, err := w.page(w.meta.freelist)
	var free []uint64
	if err == nil {
		free, err = freePages(h, b)
	}
	if err != nil {
		w.bad("list of free pages", "%v", err)
		return
	}
	listed := make(map[uint64]bool, len(free))
	for i, id := range free {
		switch {
		case id < 2 || id >= w.meta.end:
			w.bad("list of free pages", "names page %d, want 2 to %d", id, w.meta.end-1)
		case i > 0 && free[i-1] >= id:
			w.bad("list of free pages", "names page %d after %d", id, free[i-1])
		case w.used[id]:
			w.bad("list of free pages", "names page %d, which is in use", id)
		}
		listed[id] = true
	}
	for id := uint64(2); id < w.meta.end && !w.shallow; id++ {
		if !w.used[id] && !listed[id] {
			w.bad(fmt.Sprintf("page %d", id), "is neither in use nor free")
		}
	}
}

func freePages(h header, b []byte) ([]uint64, error) {
	if h.flags != flagFreelist {
		return nil, fmt.Errorf("flags %#x, want %#x", h.flags, flagFreelist)
	}
	n, at := uint64(h.count), headerBytes
	if h.count == 0xFFFF { // the real number is the first of the list
		n, at = native.Uint64(b[at:]), at+8
	}
	if n > uint64(len(b)-at)/8 { //nolint:gosec // a page is longer than its header
		return nil, fmt.Errorf("%d pages in %d bytes", n, len(b))
	}
	free := make([]uint64, n)
	for i := range free {
		free[i] = native.Uint64(b[at+8*i:])
	}
	return free, nil
}
