// Package decision is the file that goes from whoever asks for something to the officers
// of the cooperative who approve it, and back: what they sign, in words, and their
// signatures. It holds no secret, so it may be mailed.
//
// A file is of one kind (see the table in kinds.go), and comes to one or more transactions
// of the ledger. An officer signs all of them at once, or none.
//
// Invariants: what Read returns has a known kind, content that decodes strictly, and at
// most MaxApprovals approvals of as many different officers, each with a signature for
// every transaction. Whether signatures are right is judged by Approve, which adds one, by
// Merge, and by the ledger.
//
// Errors name the field, what was got and what would be right. There are no goroutines
// here; two who write one file at the same time leave that of the last.
package decision

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// File is a decision as it is written.
type File struct {
	Kind      string          `json:"kind"` // the ledger's name for it
	Community string          `json:"community"`
	Household string          `json:"household,omitempty"` // on whose behalf; empty if on no household's
	Content   json.RawMessage `json:"content"`
	Approvals []Approval      `json:"approvals"`
}

// Approval is what one officer signed.
type Approval struct {
	Officer    uint64   `json:"officer"`    // index in the genesis document
	Signatures []string `json:"signatures"` // one for each transaction, in their order
}

// maxFile bounds a file; one with 64 approvals of two transactions has some 25 kB.
const maxFile = 256 << 10

// MaxApprovals is how many officers a community can have.
const MaxApprovals = 64

// Transaction is one transaction that a decision comes to.
type Transaction struct {
	Kind    ledger.Kind
	Approve []byte // what an officer signs
	// Sign makes it, with the approvals; by which key is said by the kind.
	Sign func(approvals []ledger.Approval, by Signer) []byte
}

// Signer is whose signature makes a transaction: a key of the household, or an officer.
type Signer struct {
	Key     ed25519.PrivateKey
	Officer uint64 // by the place in the genesis document; 0 if it is a household's
}

// Matter is the content of a decision, decoded.
type Matter interface {
	// Transactions are what it comes to, in the order in which the ledger wants them. The
	// error is about the content.
	Transactions(chain string, h market.HouseholdID) ([]Transaction, error)
	// Words say to an officer what they decide on; several lines, the first without indentation.
	Words(h market.HouseholdID, g ledger.Genesis) string
}

// New makes a file of a kind with no approvals yet.
func New(kind ledger.Kind, community string, h market.HouseholdID, m Matter) (*File, error) {
	content, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("writing a decision of kind %s: %w", kind, err)
	}
	f := &File{Kind: kind.String(), Community: community, Content: content, Approvals: []Approval{}}
	if h != (market.HouseholdID{}) {
		f.Household = h.String()
	}
	if _, _, _, err := f.open(); err != nil {
		return nil, err
	}
	return f, nil
}

// Read reads a file strictly.
func Read(path string) (*File, error) {
	f, err := os.Open(path) //nolint:gosec // the person named it
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	d, err := Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return d, nil
}

// Parse reads what is in a file.
func Parse(raw []byte) (*File, error) {
	if len(raw) > maxFile {
		return nil, fmt.Errorf("got more than %d bytes", maxFile)
	}
	d := new(File)
	if err := strict(raw, d); err != nil {
		return nil, err
	}
	_, _, transactions, err := d.open()
	if err != nil {
		return nil, err
	}
	return d, d.checkApprovals(len(transactions))
}

func strict(raw []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("got more after the object")
	}
	return nil
}

func (f *File) checkApprovals(transactions int) error {
	if len(f.Approvals) > MaxApprovals {
		return fmt.Errorf("approvals: got %d, want at most %d", len(f.Approvals), MaxApprovals)
	}
	for i, a := range f.Approvals {
		name := fmt.Sprintf("approvals[%d]", i)
		if a.Officer >= MaxApprovals {
			return fmt.Errorf("%s.officer: got %d, want 0 to %d", name, a.Officer, MaxApprovals-1)
		}
		if slices.ContainsFunc(f.Approvals[:i], func(b Approval) bool { return b.Officer == a.Officer }) {
			return fmt.Errorf("%s.officer: officer %d has signed twice", name, a.Officer+1)
		}
		if len(a.Signatures) != transactions {
			return fmt.Errorf("%s.signatures: got %d, want %d", name, len(a.Signatures), transactions)
		}
		for j, s := range a.Signatures {
			if err := unhex(fmt.Sprintf("%s.signatures[%d]", name, j), s, make([]byte, ed25519.SignatureSize)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Write replaces the file whole, so that a full disk leaves the old one.
func (f *File) Write(path string) error {
	raw, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	next := path + ".new"
	if err := os.WriteFile(next, append(raw, '\n'), 0o600); err != nil {
		if gone := os.Remove(next); gone != nil && !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, gone)
		}
		return fmt.Errorf("writing %s: %w", filepath.Base(path), err)
	}
	return os.Rename(next, path)
}

// Matter is what the file is about, and on whose behalf.
func (f *File) Matter() (Matter, market.HouseholdID, error) {
	m, h, _, err := f.open()
	return m, h, err
}

func (f *File) open() (Matter, market.HouseholdID, []Transaction, error) {
	var h market.HouseholdID
	row, err := rowOf(f.Kind)
	if err != nil {
		return nil, h, nil, err
	}
	switch {
	case f.Household != "" && !row.household:
		return nil, h, nil, fmt.Errorf("household: got %.70q, want none: a decision of kind %s is on no household's behalf", f.Household, f.Kind)
	case row.household:
		if err := unhex("household", f.Household, h[:]); err != nil {
			return nil, h, nil, err
		}
	}
	m := row.new()
	if err := strict(f.Content, m); err != nil {
		return nil, h, nil, fmt.Errorf("content: %w", err)
	}
	transactions, err := m.Transactions(f.Community, h)
	if err != nil {
		return nil, h, nil, err
	}
	return m, h, transactions, nil
}

// Signed says whether an officer has signed, by their index.
func (f *File) Signed(officer int) bool {
	return slices.ContainsFunc(f.Approvals, func(a Approval) bool { return int(a.Officer) == officer }) //nolint:gosec // at most 64
}

// ErrSigned says that the officer has signed already.
var ErrSigned = errors.New("has signed already")

// Approve adds the signatures of the officer with that index.
func (f *File) Approve(officer int, key ed25519.PrivateKey) error {
	if f.Signed(officer) {
		return fmt.Errorf("officer %d %w", officer+1, ErrSigned)
	}
	_, _, transactions, err := f.open()
	if err != nil {
		return err
	}
	a := Approval{Officer: uint64(officer)} //nolint:gosec // an index
	for _, tx := range transactions {
		a.Signatures = append(a.Signatures, hex.EncodeToString(ed25519.Sign(key, tx.Approve)))
	}
	f.Approvals = append(f.Approvals, a)
	return nil
}

// Merge takes over the approvals of another file that decides the same, and says how many
// were new. A signature that is not right is refused, and nothing taken.
func (f *File) Merge(other *File, g ledger.Genesis) (added int, err error) {
	_, h, mine, err := f.open()
	if err != nil {
		return 0, err
	}
	_, from, theirs, err := other.open()
	if err != nil {
		return 0, err
	}
	same := f.Kind == other.Kind && f.Community == other.Community && h == from && len(mine) == len(theirs)
	for i := 0; same && i < len(mine); i++ {
		same = bytes.Equal(mine[i].Approve, theirs[i].Approve)
	}
	if !same {
		return 0, errors.New("content: it decides something else than what was asked for, so its signatures do not count for it")
	}
	approvals := slices.Clone(f.Approvals)
	for _, a := range other.Approvals {
		if f.Signed(int(a.Officer)) { //nolint:gosec // at most 64
			continue
		}
		if a.Officer >= uint64(len(g.Officers)) {
			return 0, fmt.Errorf("approvals: got officer %d, want 1 to %d", a.Officer+1, len(g.Officers))
		}
		for i, tx := range mine {
			signature, err := hex.DecodeString(a.Signatures[i])
			if err != nil || !ed25519.Verify(g.Officers[a.Officer].Public(), tx.Approve, signature) {
				return 0, fmt.Errorf("approvals: the signature of officer %d does not match: what they signed was changed afterwards", a.Officer+1)
			}
		}
		approvals = append(approvals, a)
		added++
	}
	f.Approvals = approvals
	return added, nil
}

// Transactions makes the ledger's transactions. signer is by kind: who signs.
func (f *File) Transactions(signer func(ledger.Kind) (Signer, error)) ([][]byte, error) {
	_, _, transactions, err := f.open()
	if err != nil {
		return nil, err
	}
	if err := f.checkApprovals(len(transactions)); err != nil {
		return nil, err
	}
	var raw [][]byte
	for i, tx := range transactions {
		by, err := signer(tx.Kind)
		if err != nil {
			return nil, err
		}
		raw = append(raw, tx.Sign(f.ledgerApprovals(i), by))
	}
	return raw, nil
}

// ledgerApprovals are those of one transaction, in the ledger's order.
func (f *File) ledgerApprovals(transaction int) []ledger.Approval {
	var as []ledger.Approval
	for _, a := range f.Approvals {
		signature, err := hex.DecodeString(a.Signatures[transaction])
		if err != nil {
			continue // checked before
		}
		as = append(as, ledger.Approval{Officer: a.Officer, Signature: signature})
	}
	slices.SortFunc(as, func(a, b ledger.Approval) int { return int(a.Officer) - int(b.Officer) }) //nolint:gosec // at most 64 officers
	return as
}

func unhex(name, text string, into []byte) error {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(into) {
		return fmt.Errorf("%s: got %.100q, want %d hexadecimal digits", name, text, 2*len(into))
	}
	copy(into, b)
	return nil
}
