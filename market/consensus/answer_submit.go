package consensus

import (
	"context"
	"crypto/ed25519"
	"errors"
	"strings"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// SubmitQuestion brings a transaction of a home that holds no pool.
type SubmitQuestion struct {
	_  struct{} `cbor:",toarray"`
	Tx []byte
}

// SubmitAnswer says what became of it so far. A refusal is that of the state of whoever
// answers: nobody can prove it, so a home asks others too before it believes it.
type SubmitAnswer struct {
	_     struct{}    `cbor:",toarray"`
	Code  ledger.Code // 0: it is taken, and passed on
	Field string
	Text  string
}

// FateQuestion asks what became of a transaction.
type FateQuestion struct {
	_    struct{} `cbor:",toarray"`
	Hash [32]byte // SHA-256 of its bytes
}

// Fate is what is known of a transaction.
type Fate uint8

// The fates. That a transaction is unknown means little: it is forgotten after a while.
const (
	FateUnknown Fate = 0
	FateWaiting Fate = 1 // for a block
	FateApplied Fate = 2 // a block has applied it lately
)

// FateAnswer says it. It is hearsay: what proves a transaction is the record it changed.
type FateAnswer struct {
	_      struct{} `cbor:",toarray"`
	Height int64
	Fate   Fate
}

const maxRefusalText = 200 // bytes of a refusal's field and text on the way

func answerSubmit(ctx context.Context, n *Node, _ ed25519.PublicKey, q *SubmitQuestion) (*SubmitAnswer, error) {
	tx, err := ledger.DecodeTx(q.Tx)
	if err == nil && !n.pool.known(tx.Hash()) {
		fates := n.take([]*ledger.Tx{tx}, false)
		if err = fates[0].err; fates[0].added {
			// Those who are connected to us only by others learn of it by gossip; once, since
			// its home asks again as long as no block has it.
			n.send(ctx, [][]byte{tx.Bytes()})
			poke(n.bell.wake)
		}
	}
	if err == nil {
		return &SubmitAnswer{}, nil
	}
	n.refused(err)
	r, ok := errors.AsType[*ledger.Refusal](err)
	if !ok {
		return nil, err
	}
	return &SubmitAnswer{Code: r.Code, Field: cutText(r.Field), Text: cutText(r.Text)}, nil
}

// cutText bounds a text, at the end of a character.
func cutText(s string) string {
	if len(s) > maxRefusalText {
		s = s[:maxRefusalText]
	}
	return strings.ToValidUTF8(s, "")
}

func answerFate(_ context.Context, n *Node, _ ed25519.PublicKey, q *FateQuestion) (*FateAnswer, error) {
	a := &FateAnswer{}
	a.Height, _ = n.book.tip()
	switch {
	case n.pool.get(q.Hash) != nil:
		a.Fate = FateWaiting
	case n.pool.known(q.Hash):
		a.Fate = FateApplied
	}
	return a, nil
}
