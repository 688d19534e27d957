package main

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// Kinds of operations.
const (
	opOrder       = "order"
	opReplacement = "replacement"
	opPreference  = "preference"
	opReport      = "report"
)

// What became of an operation when it was tried.
const (
	answerAcknowledged = "acknowledged"
	answerRefused      = "refused" // the home said no, and why
	answerUnknown      = "unknown" // no answer, or one that says neither
)

// entry is one line of the client's journal.
type entry struct {
	Op       int       `json:"op"`
	Kind     string    `json:"kind"`
	Home     string    `json:"home"`
	Interval int64     `json:"interval,omitempty"`
	Side     string    `json:"side,omitempty"` // of an order: bid or offer
	Seq      uint64    `json:"seq,omitempty"`
	Tx       string    `json:"tx,omitempty"` // hex
	Import   int64     `json:"import_wh,omitempty"`
	Export   int64     `json:"export_wh,omitempty"`
	Tried    time.Time `json:"tried"`
	Answered time.Time `json:"answered"`
	Answer   string    `json:"answer"`
	Text     string    `json:"text,omitempty"`
}

// harm is a time in which a home, or the whole street, could not be relied on.
type harm struct {
	Kind     string    `json:"harm"`
	Home     string    `json:"home,omitempty"` // empty: there was no quorum
	From, To time.Time `json:"-"`
}

// journal is what the client knows. Each line is on the disk before anybody relies on it.
type journal struct {
	mu      sync.Mutex
	file    *os.File
	entries []entry
	harms   []harm
}

func newJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) //nolint:gosec // in the run's own folder
	if err != nil {
		return nil, fmt.Errorf("beginning the journal: %w", err)
	}
	return &journal{file: f}, nil
}

func (j *journal) add(e entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Op = len(j.entries) + 1
	if err := writeJSON(j.file, e); err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	j.entries = append(j.entries, e)
	return nil
}

func (j *journal) harmed(h harm) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.harms = append(j.harms, h)
}

// calm is the longest time between two instants in which neither the home nor the quorum
// was harmed.
func calm(harms []harm, home string, from, to time.Time) (longest time.Duration) {
	mine := slices.Clone(harms)
	mine = slices.DeleteFunc(mine, func(h harm) bool { return h.Home != "" && h.Home != home })
	slices.SortFunc(mine, func(a, b harm) int { return a.From.Compare(b.From) })
	at := from
	for _, h := range mine {
		if h.From.After(at) {
			longest = max(longest, minTime(h.From, to).Sub(at))
		}
		at = maxTime(at, h.To)
		if !at.Before(to) {
			return longest
		}
	}
	return max(longest, to.Sub(at))
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
