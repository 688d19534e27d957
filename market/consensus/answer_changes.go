package consensus

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// ChangesQuestion asks for the changes named by headers behind a block.
type ChangesQuestion struct {
	_     struct{} `cbor:",toarray"`
	After int64    // height of the last header that the asker has; 0: none
}

// ChangesAnswer has them, oldest first, as many as go into a page; none: there are no more.
type ChangesAnswer struct {
	_       struct{} `cbor:",toarray"`
	Changes [][]byte // each a Change as JSON, which proves itself
}

func answerChanges(ctx context.Context, n *Node, _ ed25519.PublicKey, q *ChangesQuestion) (*ChangesAnswer, error) {
	e := n.engine.Load()
	if e == nil {
		return nil, ErrClosed
	}
	all, err := n.changes.wayTo(e.node.BlockStore().Height()+1, e.node.BlockStore())
	if err != nil {
		n.log.WarnContext(ctx, "changes of the validators not given", "err", err)
		return nil, errors.New("the changes cannot be read here")
	}
	a := &ChangesAnswer{Changes: [][]byte{}}
	size := 0
	for _, c := range all {
		if c.Header.Height <= q.After {
			continue
		}
		raw, err := json.Marshal(c)
		if err != nil {
			return nil, err
		}
		if size += len(raw); size > pageBytes && len(a.Changes) > 0 {
			break
		}
		a.Changes = append(a.Changes, raw)
	}
	return a, nil
}

// decodeChange reads one change strictly: one change has one spelling.
func decodeChange(raw []byte) (c Change, err error) {
	if len(raw) > maxChangeFile {
		return c, fmt.Errorf("%w: change: %d bytes, want at most %d", ErrAnswer, len(raw), maxChangeFile)
	}
	if err := strictJSON(raw, &c); err != nil {
		return c, fmt.Errorf("%w: change: %w", ErrAnswer, err)
	}
	again, err := json.Marshal(c)
	if err != nil || !bytes.Equal(again, raw) {
		return c, fmt.Errorf("%w: change: is written otherwise than changes are: %w", ErrAnswer, err)
	}
	return c, nil
}

// moreChanges goes on with a way that is proven, as far as a provider can prove it. The
// error wraps ErrAnswer, ErrHeader or ErrSignature if what it gave is wrong.
func (a *Anchor) moreChanges(ctx context.Context, ask Ask, provider string, way []Change) ([]Change, error) {
	for {
		q := ChangesQuestion{}
		if n := len(way); n > 0 {
			q.After = way[n-1].Header.Height
		}
		answer, err := Put[ChangesAnswer](ctx, ask, provider, AskChanges, q)
		if err != nil || len(answer.Changes) == 0 {
			return way, err
		}
		if len(way)+len(answer.Changes) > MaxChanges {
			return way, fmt.Errorf("%w: more than %d changes", ErrAnswer, MaxChanges)
		}
		next := slices.Clip(way)
		for _, raw := range answer.Changes {
			c, err := decodeChange(raw)
			if err != nil {
				return way, err
			}
			next = append(next, c)
		}
		if _, err := a.follow(next); err != nil {
			return way, err
		}
		way = next
	}
}

// upTo are the changes that lead to the set of block h.
func upTo(way []Change, height int64) []Change {
	n := 0
	for n < len(way) && way[n].Header.Height < height {
		n++
	}
	if n == 0 {
		return nil
	}
	return way[:n:n]
}
