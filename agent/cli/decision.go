package cli

import (
	"bytes"
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

// decision is a file that goes from the home that asks for something to the officers who
// approve it, and back: what they sign, in words, and their signatures. It holds no secret.
type decision struct {
	Kind        string       `json:"kind"` // "replacement"
	Community   string       `json:"community"`
	Household   string       `json:"household"`
	Replacement *replacement `json:"replacement"`
	Approvals   []approval   `json:"approvals"`
}

// replacement is a ledger.ReplaceMeter without its approvals.
type replacement struct {
	Meter      string          `json:"meter"`
	From       market.Interval `json:"from"`
	Epoch      uint32          `json:"epoch"`
	Key        string          `json:"key"`
	SignedBy   string          `json:"signed_by"`
	Definition string          `json:"definition"`
	Reason     string          `json:"reason"`
}

type approval struct {
	Officer   uint64 `json:"officer"`
	Signature string `json:"signature"`
}

// maxDecision bounds the file; one with 64 approvals has some 20 kB.
const maxDecision = 64 << 10

// readDecision reads a file strictly. Its errors name the field and what would be right.
func readDecision(path string) (*decision, error) {
	fail := func(err error) (*decision, error) {
		return nil, &problem{exitUsage, fmt.Errorf("reading %s: %w", path, err), "it is made by `commonwatt meter replace`"}
	}
	f, err := os.Open(path) //nolint:gosec // the person named it
	if err != nil {
		return nil, &problem{code: exitUsage, err: err}
	}
	defer f.Close() //nolint:errcheck // only read from
	raw, err := io.ReadAll(io.LimitReader(f, maxDecision+1))
	if err != nil {
		return fail(err)
	}
	if len(raw) > maxDecision {
		return fail(fmt.Errorf("got more than %d bytes", maxDecision))
	}
	d := new(decision)
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(d); err != nil {
		return fail(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fail(errors.New("got more after the object"))
	}
	if d.Kind != ledger.KindReplacement.String() || d.Replacement == nil {
		return fail(fmt.Errorf("kind: got %q, want %q with its content", d.Kind, ledger.KindReplacement))
	}
	return d, nil
}

// write replaces the file whole, so that a full disk leaves the old one.
func (d *decision) write(path string) error {
	raw, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	next := path + ".new"
	if err := os.WriteFile(next, append(raw, '\n'), 0o600); err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", filepath.Base(path), err), removeIfThere(next))
	}
	return os.Rename(next, path)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// transaction is what the file says, as the ledger takes it.
func (d *decision) transaction() (h market.HouseholdID, tx ledger.ReplaceMeter, err error) {
	r := d.Replacement
	tx = ledger.ReplaceMeter{From: r.From, Epoch: r.Epoch, Definition: r.Definition, Reason: r.Reason}
	for _, f := range []struct {
		name, text string
		into       []byte
	}{{"household", d.Household, h[:]}, {"replacement.meter", r.Meter, tx.Meter[:]}, {"replacement.key", r.Key, tx.Key[:]}} {
		if err := unhex(f.name, f.text, f.into); err != nil {
			return h, tx, err
		}
	}
	switch r.SignedBy {
	case ledger.SignedByAgent.String():
		tx.SignedBy = ledger.SignedByAgent
	case ledger.SignedByDevice.String():
		tx.SignedBy = ledger.SignedByDevice
	default:
		return h, tx, usagef("replacement.signed_by: got %q, want agent or device", r.SignedBy)
	}
	for i, a := range d.Approvals {
		signature := make([]byte, 64)
		if err := unhex(fmt.Sprintf("approvals[%d].signature", i), a.Signature, signature); err != nil {
			return h, tx, err
		}
		tx.Approvals = append(tx.Approvals, ledger.Approval{Officer: a.Officer, Signature: signature})
	}
	slices.SortFunc(tx.Approvals, func(a, b ledger.Approval) int { return int(a.Officer) - int(b.Officer) }) //nolint:gosec // at most 64 officers
	return h, tx, nil
}

func unhex(name, text string, into []byte) error {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(into) {
		return usagef("%s: got %.100q, want %d hexadecimal digits", name, text, 2*len(into))
	}
	copy(into, b)
	return nil
}
