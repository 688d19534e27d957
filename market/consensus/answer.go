package consensus

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// AnswerProtocol is under which name homes ask each other.
const AnswerProtocol = "/commonwatt/answer/1"

// Bounds of questions and answers; part of the protocol.
const (
	// MaxQuestion is the largest question in bytes: a transaction, or a few hundred keys.
	MaxQuestion = 64 << 10
	// MaxAnswer is the largest answer in bytes.
	MaxAnswer = 4 << 20

	// pageBytes is where an answer that goes on over several pages ends one.
	pageBytes = 1 << 20
)

// Question is a kind of question. Numbers are part of the protocol: 1 to 9 are those of
// light homes, 10 to 19 those about snapshots, 20 to 29 those about the engine, 30 to 39
// those about the network.
type Question uint8

// The kinds of question that light homes ask.
const (
	AskHeader  Question = 1 // a block's header, its signatures and its validators
	AskState   Question = 2 // the leaves under an AppHash, or what changed of them
	AskLines   Question = 3 // the asker's own settlements of a month
	AskResults Question = 4 // what settled Intervals came to as a whole
	AskSubmit  Question = 5 // please take this transaction
	AskFate    Question = 6 // what became of a transaction?
	AskRecords Question = 7 // the records of some leaves
	AskMonths  Question = 8 // the asker's own closed months
	AskChanges Question = 9 // how the validators have changed
)

// answerRow is how one kind of question is answered.
type answerRow struct {
	name   string
	answer func(ctx context.Context, n *Node, from ed25519.PublicKey, body []byte) ([]byte, error)
}

// answerTable is the one place to extend: a kind of question is a row here and a file.
var answerTable = map[Question]answerRow{
	AskHeader:  answered("header", answerHeader),
	AskState:   answered("state", answerState),
	AskLines:   answered("lines", answerLines),
	AskResults: answered("results", answerResults),
	AskSubmit:  answered("submit", answerSubmit),
	AskFate:    answered("fate", answerFate),
	AskRecords: answered("records", answerRecords),
	AskMonths:  answered("months", answerMonths),
	AskChanges: answered("changes", answerChanges),

	AskOffers:   answered("offers", answerOffers),
	AskManifest: answered("manifest", answerManifest),
	AskChunk:    answered("chunk", answerChunk),
	AskPage:     answered("page", answerPage),

	AskWork: answered("work", answerWork),

	AskMembers: answered("members", answerMembers),
}

// String returns the kind's name.
func (q Question) String() string {
	if row, ok := answerTable[q]; ok {
		return row.name
	}
	return "question-" + itoa(int(q))
}

// Errors of questions and answers.
var (
	// ErrQuestion: a question cannot be read, or asks for more than there may be.
	ErrQuestion = errors.New("bad question")
	// ErrAnswer: an answer cannot be read, or is not what was asked for.
	ErrAnswer = errors.New("bad answer")
)

// Answer answers one question of a member: a byte for its kind, and its body. from is the
// member's network key, which is all that is known of who asks. It is safe for concurrent
// use; how often somebody may ask is for the caller to bound.
//
// Whoever asks need not trust the answer: what matters in it can be proven by a header.
func (n *Node) Answer(ctx context.Context, from ed25519.PublicKey, question []byte) ([]byte, error) {
	if len(question) == 0 || len(question) > MaxQuestion {
		return nil, fmt.Errorf("%w: %d bytes, want 1 to %d", ErrQuestion, len(question), MaxQuestion)
	}
	row, ok := answerTable[Question(question[0])]
	if !ok {
		return nil, fmt.Errorf("%w: kind %d is not known here", ErrQuestion, question[0])
	}
	answer, err := row.answer(ctx, n, from, question[1:])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", row.name, err)
	}
	if len(answer) > MaxAnswer {
		return nil, fmt.Errorf("%s: %w: the answer has %d bytes, want at most %d", row.name, ErrQuestion, len(answer), MaxAnswer)
	}
	return answer, nil
}

// answered makes a row of a function from question to answer.
func answered[Q, A any](name string, f func(context.Context, *Node, ed25519.PublicKey, *Q) (*A, error)) answerRow {
	return answerRow{name: name, answer: func(ctx context.Context, n *Node, from ed25519.PublicKey, body []byte) ([]byte, error) {
		q := new(Q)
		if err := decodeAnswer(body, q); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrQuestion, err)
		}
		a, err := f(ctx, n, from, q)
		if err != nil {
			return nil, err
		}
		return bundleEnc.Marshal(a)
	}}
}

// Ask brings a question to a provider and its answer back. A provider is named as the
// network names it.
type Ask func(ctx context.Context, provider string, question []byte) ([]byte, error)

// A Provider is a home that can be asked.
type Provider struct {
	ID  string            // for Ask
	Key ed25519.PublicKey // its network key: who has to stand for what it says
}

// Providers are those who can be asked now.
type Providers func() []Provider

// Put asks one provider. The answer is read strictly; whether it is true is another matter.
// The error wraps ErrAnswer if it was the provider's fault beyond doubt.
func Put[A, Q any](ctx context.Context, ask Ask, provider string, kind Question, q Q) (*A, error) {
	question, err := encodeQuestion(kind, q)
	if err != nil {
		return nil, err
	}
	raw, err := ask(ctx, provider, question)
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", kind, err)
	}
	a := new(A)
	if len(raw) > MaxAnswer {
		return nil, fmt.Errorf("%w: %s: %d bytes, want at most %d", ErrAnswer, kind, len(raw), MaxAnswer)
	}
	if err := decodeAnswer(raw, a); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrAnswer, kind, err)
	}
	return a, nil
}

func encodeQuestion(kind Question, q any) ([]byte, error) {
	body, err := bundleEnc.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", kind, err)
	}
	if len(body) >= MaxQuestion {
		return nil, fmt.Errorf("asking for %s: %w: %d bytes, want less than %d", kind, ErrQuestion, len(body), MaxQuestion)
	}
	return append([]byte{byte(kind)}, body...), nil
}

var answerDec = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 8, MaxArrayElements: 1 << 17, MaxMapPairs: 16, UTF8: cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		panic("consensus: cbor decoding options: " + err.Error())
	}
	return m
}()

// decodeAnswer reads a body strictly: one spelling only. The caller has bounded its size.
func decodeAnswer(raw []byte, v any) error {
	if err := answerDec.Unmarshal(raw, v); err != nil {
		return err
	}
	again, err := bundleEnc.Marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, raw) {
		return errors.New("not in canonical form")
	}
	return nil
}
