package bill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// A Source is a ledger that bills are made of.
type Source interface {
	History
	// Read calls f with the state after the last block.
	Read(f func(*ledger.State))
	// Proof is Read that returns a header which has that state's AppHash.
	Proof(ctx context.Context, f func(*ledger.State)) (*consensus.SignedHeader, error)
}

// proofWithin is how long a proof waits for its header.
const proofWithin = 10 * time.Second

// Desk makes the bills that people ask a home for. All that a member of the ledger's
// committee or a replica holds is open to whoever may ask this home. Its methods may be
// called from many goroutines.
type Desk struct {
	Own     market.HouseholdID // whose bills are meant when nobody is named; zero: none
	Source  Source
	Genesis []byte // the genesis document
}

// Bill returns a Statement. Empty texts are this home and the newest month.
func (d *Desk) Bill(household, month string) (*Statement, error) {
	h, err := d.household(household)
	if err != nil {
		return nil, err
	}
	var a Account
	d.Source.Read(func(s *ledger.State) {
		if a, err = AccountOf(s, h); err == nil {
			a.SignedBy = signer(s, a.Record)
		}
	})
	if err != nil {
		return nil, err
	}
	l, err := d.read(a, month)
	if err != nil {
		return nil, err
	}
	return NewStatement(l)
}

// Proof returns a proof file.
func (d *Desk) Proof(ctx context.Context, household, month string) ([]byte, error) {
	h, err := d.household(household)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, proofWithin)
	defer cancel()
	var e *Evidence
	signed, err := d.Source.Proof(ctx, func(s *ledger.State) { e = EvidenceOf(s, h) })
	if errors.Is(err, consensus.ErrUnproven) {
		return nil, fmt.Errorf("%w: %w", ErrNotYet, err)
	}
	if err != nil {
		return nil, err
	}
	a, err := e.Account()
	if err != nil {
		return nil, err
	}
	l, err := d.read(a, month)
	if err != nil {
		return nil, err
	}
	p, err := NewProof(e, l, signed, d.Genesis)
	if err != nil {
		return nil, err
	}
	return p.Encode()
}

func (d *Desk) household(text string) (market.HouseholdID, error) {
	if text == "" {
		if d.Own == (market.HouseholdID{}) {
			return d.Own, fmt.Errorf("household %w: this folder has no home of its own, name one", ErrInput)
		}
		return d.Own, nil
	}
	h, err := market.ParseHouseholdID(text)
	if err != nil {
		return h, fmt.Errorf("household %w: %w", ErrInput, err)
	}
	return h, nil
}

func (d *Desk) read(a Account, text string) (*Ledger, error) {
	var m market.Month
	var err error
	if text == "" {
		m, err = a.Newest(d.Source)
	} else if m, err = market.ParseMonth(text); err != nil {
		err = fmt.Errorf("month %w: %w", ErrInput, err)
	}
	if err != nil {
		return nil, err
	}
	return a.Read(d.Source, m)
}
