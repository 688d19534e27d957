package api

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// A frame is what one change looks like to every stream: the same snapshot as
// JSON sections for programs and as HTML sections for the page.
type frame struct {
	seq  uint64
	data []section
	html []section
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

func newFrame(seq uint64, p Provider, pages *pages) (*frame, error) {
	snap := snapshot(p)
	f := &frame{seq: seq}
	sections := []struct {
		name string
		v    any
	}{
		{"status", newStatus(snap, pages.version)},
		{"now", newNow(snap)},
		{"intervals", snap.Intervals},
		{"account", snap.Account},
	}
	for _, s := range sections {
		made, err := newSection(s.name, s.v)
		if err != nil {
			return nil, err
		}
		f.data = append(f.data, made)
	}
	fragments, err := pages.fragments(snap)
	if err != nil {
		return nil, err
	}
	for _, fr := range fragments {
		made, err := newSection(fr.id, fr.html)
		if err != nil {
			return nil, err
		}
		f.html = append(f.html, made)
	}
	return f, nil
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
