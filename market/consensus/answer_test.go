package consensus

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"maps"
	"reflect"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// The bodies of all kinds of question and answer, for the fuzzers.
var bodies = map[Question][2]any{
	AskHeader:  {HeaderQuestion{Height: 7}, HeaderAnswer{Newest: 9, Block: []byte{1}}},
	AskState:   {StateQuestion{Want: [][]byte{{'c'}}}, StateAnswer{Height: 3, Leaves: []LeafChange{{Key: []byte{'c'}, Hash: make([]byte, 32)}}, Records: []Record{{Key: []byte{'c'}, Value: []byte{1}}}}},
	AskLines:   {LinesQuestion{Month: 5, After: 1}, LinesAnswer{More: true, Lines: [][]byte{{1}}}},
	AskResults: {ResultsQuestion{After: 3}, ResultsAnswer{Results: [][]byte{{1}}}},
	AskSubmit:  {SubmitQuestion{Tx: []byte{1}}, SubmitAnswer{Code: 3, Text: "no"}},
	AskFate:    {FateQuestion{Hash: [32]byte{1}}, FateAnswer{Fate: FateApplied}},
	AskRecords: {RecordsQuestion{Keys: [][]byte{{'c'}}}, RecordsAnswer{Records: []Record{{Key: []byte{'c'}}}}},
	AskMonths:  {MonthsQuestion{}, MonthsAnswer{Months: [][]byte{{1}}}},
	AskWork:    {WorkQuestion{Key: ledger.Key{1}}, WorkAnswer{Vote: []byte{1}, Runs: [][]byte{{1}}, Same: []byte{2}}},
	AskMembers: {MembersQuestion{Have: [32]byte{1}}, MembersAnswer{Keys: make([]byte, 64)}},
	AskChanges: {ChangesQuestion{After: 4}, ChangesAnswer{Changes: [][]byte{{1}}}},
}

func TestBodiesOfAllKinds(t *testing.T) {
	t.Parallel()
	for kind := range answerTable {
		if kind < 10 && bodies[kind][0] == nil {
			t.Errorf("%s: has no example", kind)
		}
	}
}

// fuzzBodies reads any bytes as the body of any kind: it is refused, or there is no other
// spelling of it.
func fuzzBodies(f *testing.F, side int) {
	for kind, b := range bodies {
		raw, err := bundleEnc.Marshal(b[side])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(kind), raw)
	}
	f.Fuzz(func(t *testing.T, kind uint8, raw []byte) {
		b, ok := bodies[Question(kind)]
		if !ok {
			return
		}
		v := reflect.New(reflect.TypeOf(b[side]))
		if decodeAnswer(raw, v.Interface()) != nil {
			return
		}
		if again, err := bundleEnc.Marshal(v.Elem().Interface()); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("read %x, wrote %x, %v", raw, again, err)
		}
	})
}

func FuzzQuestion(f *testing.F) { fuzzBodies(f, 0) }

func FuzzAnswer(f *testing.F) { fuzzBodies(f, 1) }

// A light block from anywhere is refused or fits together.
func FuzzLightBlock(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x0a, 0x02, 0x0a, 0x00})
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := decodeLightBlock("sim-x", raw)
		if err == nil && b.ValidateBasic("sim-x") != nil {
			t.Fatal("what was accepted does not fit together")
		}
	})
}

// directly asks nodes of this process.
func directly(s *street, from *home) Ask {
	return func(ctx context.Context, provider string, question []byte) ([]byte, error) {
		for _, m := range s.nodes {
			if m.name == provider {
				return m.Answer(ctx, from.network.Public().(ed25519.PublicKey), question)
			}
		}
		return nil, errors.New("no such node")
	}
}

func mustAsk[A, Q any](t *testing.T, ask Ask, provider string, kind Question, q Q) *A {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	a, err := Put[A](ctx, ask, provider, kind, q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// What a running node answers to each kind of question.
func TestAnswers(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 1, homes: 2, interval: time.Hour, rate: 1, next: 30 * time.Minute})
	m := s.nodes[0]
	m.start()
	s.awaitUp(m)
	ask := directly(s, s.homes[0])

	empty := mustAsk[StateAnswer](t, ask, m.name, AskState, StateQuestion{})
	s.admit(m, s.nodes, s.homes...)

	full := mustAsk[StateAnswer](t, ask, m.name, AskState, StateQuestion{Want: [][]byte{{'c'}, {'h'}}})
	part := mustAsk[StateAnswer](t, ask, m.name, AskState, StateQuestion{Have: empty.AppHash})
	if !empty.Full || !full.Full || part.Full || part.AppHash != full.AppHash || len(part.Leaves) == 0 || len(part.Records) != 0 {
		t.Fatalf("empty %+v\nfull %+v\npart %+v", empty, full, part)
	}
	if got := foldLeaves(leavesOf(empty), part); !reflect.DeepEqual(got, leavesOf(full)) {
		t.Errorf("the leaves and what changed of them come to %d leaves, want %d", len(got), len(full.Leaves))
	}
	if n := len(full.Records); n != 3 {
		t.Errorf("%d records, want the clock and two households", n)
	}
	if r := mustAsk[RecordsAnswer](t, ask, m.name, AskRecords, RecordsQuestion{Keys: [][]byte{{'c'}, {'x'}}}); len(r.Records) != 1 || r.AppHash != full.AppHash {
		t.Errorf("records: %+v", r)
	}
	h := mustAsk[HeaderAnswer](t, ask, m.name, AskHeader, HeaderQuestion{Height: full.Height})
	block, err := decodeLightBlock(s.chain, h.Block)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(block.AppHash, full.AppHash[:]) {
		t.Errorf("header %d has AppHash %s, want %x", block.Height, block.AppHash, full.AppHash)
	}
	if h := mustAsk[HeaderAnswer](t, ask, m.name, AskHeader, HeaderQuestion{Height: h.Newest + 100}); h.Block != nil {
		t.Error("a header that is not there was given")
	}

	if a := mustAsk[SubmitAnswer](t, ask, m.name, AskSubmit, SubmitQuestion{Tx: []byte{0x80}}); a.Code != ledger.CodeMalformed || a.Text == "" {
		t.Errorf("no transaction: %+v", a)
	}
	tx := s.preference(s.homes[0])
	news := make(chan *HeaderAnswer, 1)
	go func() {
		a, _ := Put[HeaderAnswer](t.Context(), ask, m.name, AskHeader, HeaderQuestion{Above: h.Newest, Wait: 20_000})
		news <- a
	}()
	if a := mustAsk[SubmitAnswer](t, ask, m.name, AskSubmit, SubmitQuestion{Tx: tx}); a.Code != 0 {
		t.Fatalf("%+v", a)
	}
	if a := <-news; a == nil || a.Newest <= h.Newest {
		t.Errorf("news: %+v, want a block above %d", a, h.Newest)
	}
	await(t, 20*time.Second, "preference applied", func() bool {
		return mustAsk[FateAnswer](t, ask, m.name, AskFate, FateQuestion{Hash: sha256.Sum256(tx)}).Fate == FateApplied
	})

	if a := mustAsk[LinesAnswer](t, ask, m.name, AskLines, LinesQuestion{Month: market.Month(1)}); len(a.Lines) != 0 || a.Height == 0 {
		t.Errorf("lines: %+v", a)
	}
	mustAsk[MonthsAnswer](t, ask, m.name, AskMonths, MonthsQuestion{})
	mustAsk[ResultsAnswer](t, ask, m.name, AskResults, ResultsQuestion{})
	if _, err := Put[LinesAnswer](t.Context(), directly(s, newHome("stranger")), m.name, AskLines, LinesQuestion{}); !errors.Is(err, ErrNotHousehold) {
		t.Errorf("a stranger's lines: %v", err)
	}
	for _, bad := range [][]byte{nil, {0}, {99}, {byte(AskHeader)}, {byte(AskHeader), 0x80}, make([]byte, MaxQuestion+1)} {
		if _, err := ask(t.Context(), m.name, bad); !errors.Is(err, ErrQuestion) {
			t.Errorf("question %.8x: %v, want ErrQuestion", bad, err)
		}
	}
}

func leavesOf(a *StateAnswer) map[string]string {
	return foldLeaves(nil, a)
}

func foldLeaves(have map[string]string, a *StateAnswer) map[string]string {
	out := map[string]string{}
	maps.Copy(out, have)
	for _, l := range a.Leaves {
		if len(l.Hash) == 0 {
			delete(out, string(l.Key))
			continue
		}
		out[string(l.Key)] = string(l.Hash)
	}
	return out
}
