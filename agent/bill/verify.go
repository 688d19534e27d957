package bill

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// A Mismatch is where a proof does not hold.
type Mismatch struct {
	Place string `json:"place"` // "line 17 (2026-06-03T12:15:00+02:00): bought_wh"
	Text  string `json:"text"`  // what was got, and what would be right
}

// Error joins both.
func (m *Mismatch) Error() string { return m.Place + ": " + m.Text }

func mismatch(place, format string, args ...any) error {
	return &Mismatch{Place: place, Text: fmt.Sprintf(format, args...)}
}

// Verdict is what a proof has proven.
type Verdict struct {
	Statement *Statement `json:"statement"`
	Height    int64      `json:"block"`     // whose header has the AppHash
	Signed    time.Time  `json:"signed_at"` // of the header, wall clock
	Votes     int        `json:"votes"`     // validators that signed it
	Of        int        `json:"validators"`
	// Changes is how often the validators have changed from those of the genesis to those
	// who signed; each change was signed by those before it.
	Changes int `json:"validator_changes"`
	// Decisions is how often the community has changed its rules or its network since its
	// genesis. If it has, the prices of the supplier and the fee are taken as the
	// validators signed them, else they are those of the genesis.
	Decisions uint64 `json:"decisions"`
}

// Verify checks a proof file against the hash of a genesis document that the caller
// trusts. The error wraps ErrNotProof, or is a *Mismatch. progress, if not nil, is told
// how many of the lines are done.
func Verify(raw []byte, trust [32]byte, progress func(done, of int)) (*Verdict, error) {
	p, err := DecodeProof(raw)
	if err != nil {
		return nil, err
	}
	v := verifier{p: p, progress: progress}
	for _, step := range []func() error{
		func() error { return v.genesis(trust) }, v.header, v.head, v.clock, v.lines, v.totals, v.month, v.record,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return v.verdict()
}

// DecodeProof reads a proof file strictly, without checking what it says (B6).
func DecodeProof(raw []byte) (*Proof, error) {
	if len(raw) > MaxProofBytes {
		return nil, fmt.Errorf("%w: it has %d bytes, want at most %d", ErrNotProof, len(raw), MaxProofBytes)
	}
	p := new(Proof)
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(p); err != nil {
		return nil, fmt.Errorf("%w: line %d: %w", ErrNotProof, lineAt(raw, offsetOf(err, dec)), err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: line %d: something follows its end", ErrNotProof, lineAt(raw, dec.InputOffset()))
	}
	if p.Format != ProofFormat {
		return nil, fmt.Errorf("%w: format: got %.100q, want %q", ErrNotProof, p.Format, ProofFormat)
	}
	return p, sameText(p, raw)
}

// sameText refuses a file that says something in another way than Encode does: a key
// twice, in other letters, left out, or in another order; an escaped character.
func sameText(p *Proof, raw []byte) error {
	again, err := p.Encode()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotProof, err)
	}
	var got, want bytes.Buffer
	if err := errors.Join(json.Compact(&got, raw), json.Compact(&want, again)); err != nil {
		return fmt.Errorf("%w: %w", ErrNotProof, err)
	}
	a, b := got.Bytes(), want.Bytes()
	at := 0
	for at < len(a) && at < len(b) && a[at] == b[at] {
		at++
	}
	if at == len(a) && at == len(b) {
		return nil
	}
	around := func(t []byte) []byte { return t[max(0, min(at, len(t))-30):min(len(t), at+30)] }
	return fmt.Errorf("%w: it is written otherwise than proof files are: got %q, want %q", ErrNotProof, around(a), around(b))
}

func offsetOf(err error, dec *json.Decoder) int64 {
	if e := (*json.SyntaxError)(nil); errors.As(err, &e) {
		return e.Offset
	}
	if e := (*json.UnmarshalTypeError)(nil); errors.As(err, &e) {
		return e.Offset
	}
	return dec.InputOffset()
}

func lineAt(raw []byte, offset int64) int {
	return 1 + bytes.Count(raw[:min(max(offset, 0), int64(len(raw)))], []byte("\n"))
}

// verifier checks one proof, from what is trusted to what is claimed.
type verifier struct {
	p        *Proof
	progress func(done, of int)

	anchor  *consensus.Anchor
	state   *ledger.State // before the first block: the rules of the genesis
	account Account
	settled []*ledger.Settlement
	first   map[market.Interval]*ledger.Settlement // the first line of each interval
	sum     ledger.Month
	votes   int
}

func (v *verifier) genesis(trust [32]byte) error {
	hash, err := consensus.GenesisHash(v.p.Genesis)
	if err != nil {
		return mismatch("genesis", "%v", err)
	}
	if hash != trust {
		return mismatch("genesis", "the document hashes to %x, you trust %x: it is of another community, or has been changed", hash, trust)
	}
	if v.anchor, err = consensus.NewAnchor(v.p.Genesis); err != nil {
		return mismatch("genesis", "%v", err)
	}
	if v.state, err = ledger.NewState(v.anchor.ChainID(), v.anchor.Genesis()); err != nil {
		return mismatch("genesis", "%v", err)
	}
	return nil
}

// head checks what stands above the lines.
func (v *verifier) head() error {
	p := v.p
	record, err := p.Record.ledger()
	if err != nil {
		return mismatch("record", "%v", err)
	}
	rules := v.state.Rules()
	v.account = Account{
		ChainID: v.anchor.ChainID(), Household: p.Household, Record: record, Next: p.Clock.Next,
		Window:   time.Duration(rules.CorrectionWindowS) * time.Second,
		Calendar: v.state.Calendar(), Zone: v.state.Zone(),
	}
	switch {
	case p.Community != v.anchor.ChainID():
		return mismatch("community", "got %.100q, the genesis document says %q", p.Community, v.anchor.ChainID())
	case p.Currency != Currency:
		return mismatch("currency", "got %.100q, want %q", p.Currency, Currency)
	case market.HouseholdIDOf(record.Key.Public()) != p.Household:
		return mismatch("household", "got %s, the record's key is of household %s", p.Household, market.HouseholdIDOf(record.Key.Public()))
	case p.Totals.Month != p.Month:
		return mismatch("month", "got %s, the totals are of %s", p.Month, p.Totals.Month)
	case p.Pruned && len(p.Lines) > 0:
		return mismatch("pruned", "got true, but there are %d lines", len(p.Lines))
	case p.Pruned && p.Closed == nil:
		return mismatch("pruned", "got true, but the month is not closed: its lines are still kept")
	case !p.Pruned && uint64(len(p.Lines)) != p.Totals.Lines:
		return mismatch("totals: lines", "got %d, there are %d lines: lines are missing, or the number has been changed", p.Totals.Lines, len(p.Lines))
	}
	return nil
}

func (v *verifier) clock() error {
	c := &v.p.Clock
	chain, err := hash32(c.Chain)
	if err != nil {
		return mismatch("clock: chain", "%v", err)
	}
	record := ledger.ClockRecord{Next: c.Next, Settled: c.Settled, Chain: chain, Decisions: c.Decisions, Validators: c.Validators, Month: c.Month}
	return v.leaf("clock", ledger.ClockKey, record.Encode(), &c.Proof)
}

// leaf checks that the state, to whose AppHash the header commits, has this record.
func (v *verifier) leaf(place, key string, value []byte, p *proven) error {
	hash := sha256.Sum256(value)
	if !bytes.Equal(hash[:], p.Hash) {
		return mismatch(place, "its fields hash to %x, want proof.hash %s: one of them has been changed", hash, p.Hash)
	}
	root, err := p.root(ledger.Leaf(key, hash))
	if err != nil {
		return mismatch(place+": proof", "%v", err)
	}
	if app := v.p.Signed.Header.AppHash; !bytes.Equal(root, app) {
		return mismatch(place+": proof", "the path leads to %s, the signed header has app_hash %s: the path has been changed, or is of another record",
			hex.EncodeToString(root), app)
	}
	return nil
}

// totals compares the totals with the lines.
func (v *verifier) totals() error {
	if v.p.Pruned {
		return nil
	}
	return compareMonths("totals", v.p.Totals, v.sum, "the lines come to")
}

// compareMonths names the first field in which a month is not as it must be.
func compareMonths(place string, got monthRecord, is ledger.Month, why string) error {
	want := monthOf(is)
	for _, f := range []struct {
		name      string
		got, want any
	}{
		{"month", got.Month, want.Month},
		{"lines", got.Lines, want.Lines},
		{"bought_wh", got.Bought, want.Bought},
		{"sold_wh", got.Sold, want.Sold},
		{"import_wh", got.Import, want.Import},
		{"export_wh", got.Export, want.Export},
		{"from_market", got.Market, want.Market},
		{"from_supplier", got.Supplier, want.Supplier},
		{"from_cooperative", got.Cooperative, want.Cooperative},
		{"alone", got.Alone, want.Alone},
		{"chain", got.Chain.String(), want.Chain.String()},
	} {
		if f.got != f.want {
			return mismatch(place+": "+f.name, "got %v, %s %v", f.got, why, f.want)
		}
	}
	return nil
}

// month ties the totals to the household's record: the month is in it, or in the hash
// chain over those that are closed.
func (v *verifier) month() error {
	totals, err := v.p.Totals.ledger()
	if err != nil {
		return mismatch("totals: chain", "%v", err)
	}
	if v.p.Closed == nil {
		at := slices.IndexFunc(v.p.Record.Months, func(m monthRecord) bool { return m.Month == v.p.Month })
		if at < 0 {
			return mismatch("month", "got %s, the household's record does not have it", v.p.Month)
		}
		return compareMonths(fmt.Sprintf("record: months[%d]", at), v.p.Record.Months[at], totals, "the totals say")
	}
	months := v.p.Closed.Months
	if len(months) == 0 {
		return mismatch("closed: months", "there is none, want %s and those closed after it", v.p.Month)
	}
	if err := compareMonths("closed: months[0]", months[0], totals, "the totals say"); err != nil {
		return err
	}
	chain, err := hash32(v.p.Closed.Before)
	if err != nil {
		return mismatch("closed: before", "%v", err)
	}
	closed, err := ledgerMonths(months)
	if err != nil {
		return mismatch("closed", "%v", err)
	}
	for i := range closed {
		chain = ledger.NextChain(chain, closed[i].Encode())
	}
	if chain != v.account.Record.ClosedChain {
		return mismatch("closed", "its months hash to %x, the household's record says %x: a month has been changed, or is missing, or before has been changed",
			chain, v.account.Record.ClosedChain)
	}
	return nil
}

func (v *verifier) record() error {
	return v.leaf("record", ledger.HouseholdKey(v.p.Household), v.account.Record.Encode(), &v.p.Record.Proof)
}

func (v *verifier) header() error {
	if v.p.Signed == nil {
		return mismatch("signed", "there is no header")
	}
	if err := v.anchor.Check(v.p.Signed); err != nil {
		return mismatch("signed", "%v", err)
	}
	for _, vote := range v.p.Signed.Commit.Votes {
		if vote.Signed() {
			v.votes++
		}
	}
	return nil
}

// verdict makes the Statement that has been proven.
func (v *verifier) verdict() (*Verdict, error) {
	l := &Ledger{Account: v.account, Month: v.sum, Lines: v.settled, Pruned: v.p.Pruned}
	var err error
	if l.Pruned {
		l.Month, err = v.p.Totals.ledger()
	}
	if err == nil && v.p.Closed != nil {
		l.Closed, err = ledgerMonths(v.p.Closed.Months)
	}
	if err == nil {
		l.Opening, err = v.opening(l)
	}
	if err != nil {
		return nil, mismatch("record: balance", "%v", err)
	}
	s, err := NewStatement(l)
	if err != nil {
		return nil, mismatch("totals", "%v", err)
	}
	return &Verdict{
		Statement: s, Height: v.p.Signed.Header.Height, Signed: v.p.Signed.Header.Time.Time,
		Votes: v.votes, Of: len(v.p.Signed.Commit.Votes), Changes: len(v.p.Signed.Changes), Decisions: v.p.Clock.Decisions,
	}, nil
}

// opening is the balance less this month and those after it.
func (v *verifier) opening(l *Ledger) (market.Money, error) {
	balance := v.account.Record.Balance
	for _, m := range slices.Concat(l.Closed, v.account.Record.Months) {
		if m.Month < v.p.Month {
			continue
		}
		net, err := m.Net()
		if err != nil {
			return 0, err
		}
		if balance, err = balance.Sub(net); err != nil {
			return 0, err
		}
	}
	return balance, nil
}
