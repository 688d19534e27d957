package ledger

import (
	"crypto/ed25519"
	"errors"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/market"
)

// PlaceOrder is a household's curve on one side for one Interval (R2). A higher
// sequence number replaces the earlier one until the gate closes; one step of
// price 0 and 0 Wh withdraws it.
type PlaceOrder struct {
	_        struct{} `cbor:",toarray"`
	Interval market.Interval
	Seq      uint64
	Side     market.Side
	Steps    []Step
}

// Sign makes the transaction, with the household's device key.
func (o *PlaceOrder) Sign(chainID string, h market.HouseholdID, device ed25519.PrivateKey) []byte {
	return sign(KindOrder, chainID, h, o, device)
}

// Order returns what an order says, which the caller must not change; ok is false for every
// other kind.
func (tx *Tx) Order() (o *PlaceOrder, ok bool) {
	o, ok = tx.body.(*PlaceOrder)
	return o, ok
}

func (o *PlaceOrder) withdraws() bool {
	return len(o.Steps) == 1 && o.Steps[0].WattHours == 0 && o.Steps[0].Price == 0
}

func (o *PlaceOrder) shape() *Refusal {
	if o.Side != market.Bid && o.Side != market.Offer {
		return refuse(CodeMalformed, "side", "got %d, want 1 (bid) or 2 (offer)", uint8(o.Side))
	}
	if o.Seq == 0 {
		return refuse(CodeSequenceUsed, "seq", "got 0, want 1 or more")
	}
	switch n := len(o.Steps); {
	case n == 0:
		return refuse(CodeBadSteps, "steps", "got none, want 1 to %d (one of price 0 and 0 Wh withdraws)", market.MaxSteps)
	case n > market.MaxSteps:
		return refuse(CodeTooManySteps, "steps", "got %d, want 1 to %d", n, market.MaxSteps)
	}
	return nil
}

func (o *PlaceOrder) check(d *draft, tx *Tx) *Refusal {
	h, refusal := d.member(tx)
	if refusal != nil {
		return refusal
	}
	if !h.HasMeter {
		return refuse(CodeUnknownMeter, "household", "%s has no meter: register one before ordering", tx.env.Household)
	}
	if o.Interval < d.next() {
		return d.gateClosed(o.Interval)
	}
	if refusal := d.staying(tx, h, o.Interval); refusal != nil {
		return refusal
	}
	if last := d.next() + market.Interval(d.rulesAt(d.next()).MaxAhead) - 1; o.Interval > last {
		return refuse(CodeTooFarAhead, "interval", "got %d, want at most %d", o.Interval, last)
	}
	if refusal := o.checkSteps(d, tx); refusal != nil {
		return refusal
	}
	e, _ := d.entry(o.Interval, tx.env.Household)
	if refusal := o.checkSeq(&e); refusal != nil {
		return refusal
	}
	if o.withdraws() {
		return nil
	}
	*e.steps(o.Side) = o.Steps
	if market.Crossed(market.Order{Steps: marketSteps(e.Bid)}, market.Order{Steps: marketSteps(e.Offer)}) {
		return refuse(CodeCrossed, "steps", "every bid price must be below every offer price of the same household")
	}
	if limit := d.rulesAt(o.Interval).CreditLimit; limit > 0 && o.Side == market.Bid && h.Balance < -limit {
		return refuse(CodeCreditLimit, "household", "the balance %d is below the limit %d", h.Balance, -limit)
	}
	return nil
}

// gateClosed says when the gate closed, and until when orders are taken for the next one. Who
// is too late wants to know by how much.
func (d *draft) gateClosed(k market.Interval) *Refusal {
	at := func(k market.Interval) string { return d.calendar().GateClosure(k).UTC().Format(time.RFC3339) }
	if k < 0 {
		return refuse(CodeGateClosed, "interval", "got %d, the next is %d, whose gate closes at %s", k, d.next(), at(d.next()))
	}
	return refuse(CodeGateClosed, "interval", "the gate of %d closed at %s, the next is %d, whose gate closes at %s", k, at(k), d.next(), at(d.next()))
}

// checkSeq tells an order that comes again from another one with its number: the household
// said two things, and the first that a block has stands.
func (o *PlaceOrder) checkSeq(e *Entry) *Refusal {
	seq := *e.seq(o.Side)
	switch {
	case o.Seq > seq:
		return nil
	case o.Seq == seq && (o.withdraws() && len(*e.steps(o.Side)) == 0 || slices.Equal(*e.steps(o.Side), o.Steps)):
		return refuse(CodeSequenceUsed, "seq", "this order, number %d, is accepted already", seq)
	case o.Seq == seq:
		return refuse(CodeSequenceUsed, "seq", "another order has number %d and is accepted already: want above %d", seq, seq)
	}
	return refuse(CodeSequenceUsed, "seq", "got %d, want above %d", o.Seq, seq)
}

// codeOfOrder gives each of the market's reasons its number.
var codeOfOrder = []struct {
	err  error
	code Code
}{
	{market.ErrBadQuantity, CodeBadQuantity},
	{market.ErrPriceOutOfBounds, CodePriceOutOfBounds},
	{market.ErrTooManySteps, CodeTooManySteps},
	{market.ErrStepsUnordered, CodeBadSteps},
}

func (o *PlaceOrder) checkSteps(d *draft, tx *Tx) *Refusal {
	if o.withdraws() {
		return nil
	}
	r := d.rulesAt(o.Interval)
	if r.Rule == market.RuleMcAfee && len(o.Steps) > 1 {
		return refuse(CodeTooManySteps, "steps", "got %d, want 1 under the rule %s", len(o.Steps), r.Rule)
	}
	order := market.Order{Household: tx.env.Household, Side: o.Side, Steps: marketSteps(o.Steps)}
	err := order.Validate(market.OrderBounds{MinPrice: r.PriceMin, MaxPrice: r.PriceMax, MaxQuantity: r.MaxWattHours})
	if err == nil {
		return nil
	}
	code, field := CodeMalformed, "steps"
	for _, row := range codeOfOrder {
		if errors.Is(err, row.err) {
			code = row.code
		}
	}
	if f := (*market.FieldError)(nil); errors.As(err, &f) {
		field, err = f.Field, f.Err
	}
	return refuse(code, field, "%v", err)
}

func (o *PlaceOrder) signer(d *draft, tx *Tx) (Key, *Refusal) { return d.deviceOf(tx) }
func (o *PlaceOrder) verify(*draft, *Tx) *Refusal             { return nil }

func (o *PlaceOrder) apply(d *draft, tx *Tx) error {
	e := d.editEntry(o.Interval, tx.env.Household)
	*e.seq(o.Side) = o.Seq
	if o.withdraws() {
		*e.steps(o.Side) = nil
	} else {
		*e.steps(o.Side) = o.Steps
	}
	return nil
}

func (e *Entry) seq(s market.Side) *uint64 {
	if s == market.Bid {
		return &e.BidSeq
	}
	return &e.OfferSeq
}

func (e *Entry) steps(s market.Side) *[]Step {
	if s == market.Bid {
		return &e.Bid
	}
	return &e.Offer
}

// find looks a household up among the sorted entries.
func (r *IntervalRecord) find(h market.HouseholdID) (int, bool) {
	return slices.BinarySearchFunc(r.Entries, h, func(e Entry, h market.HouseholdID) int {
		return compareHouseholds(e.Household, h)
	})
}

// Entry returns the household's part in the Interval, if it has one.
func (r *IntervalRecord) Entry(h market.HouseholdID) (Entry, bool) {
	i, ok := r.find(h)
	if !ok {
		return Entry{}, false
	}
	return r.Entries[i], true
}
