package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
)

// A frame is what one change looks like to every stream: one snapshot, as JSON
// sections for programs and as HTML sections for the page. Each form is made
// when the first stream asks for it, and shared by all. Safe for concurrent use.
type frame struct {
	seq  uint64
	data func() ([]section, error)
	html func() ([]section, error)
}

func newFrame(seq uint64, snap Snapshot, pages *pages) *frame {
	return &frame{
		seq:  seq,
		data: sync.OnceValues(func() ([]section, error) { return dataSections(snap, pages.version) }),
		html: sync.OnceValues(func() ([]section, error) { return htmlSections(snap, pages) }),
	}
}

// section is one part of a frame that is sent only if it changed. body is JSON:
// an object, or the HTML as a JSON string.
type section struct {
	name string
	body json.RawMessage
}

func newSection(name string, v any) (section, error) {
	body, err := encode(v)
	if err != nil {
		return section{}, fmt.Errorf("encoding section %s: %w", name, err)
	}
	return section{name: name, body: body}, nil
}

// encode writes JSON on one line, as an event needs it. HTML in it is left
// readable: the page parses the event as JSON before anything else.
func encode(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func dataSections(snap Snapshot, version string) ([]section, error) {
	parts := []struct {
		name string
		v    any
	}{
		{"status", newStatus(snap, version)},
		{"now", newNow(snap)},
		{"intervals", snap.Intervals},
		{"account", snap.Account},
	}
	out := make([]section, 0, len(parts))
	for _, p := range parts {
		s, err := newSection(p.name, p.v)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func htmlSections(snap Snapshot, pages *pages) ([]section, error) {
	fragments, err := pages.fragments(snap)
	if err != nil {
		return nil, err
	}
	out := make([]section, 0, len(fragments))
	for _, f := range fragments {
		s, err := newSection(f.id, f.html)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// changed returns the sections that are not as in seen, and notes them there.
func changed(sections []section, seen map[string]json.RawMessage) map[string]json.RawMessage {
	out := make(map[string]json.RawMessage)
	for _, s := range sections {
		if before, ok := seen[s.name]; ok && bytes.Equal(before, s.body) {
			continue
		}
		seen[s.name] = s.body
		out[s.name] = s.body
	}
	return out
}
