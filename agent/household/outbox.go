package household

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
)

const (
	// maxLetters bounds what waits in the outbox.
	maxLetters = 1000
	// letterLife is after how long on the wall clock nobody expects anything any more of a
	// transaction that the ledger neither has nor refuses for good.
	letterLife = 7 * 24 * time.Hour
)

// errOutboxFull says what to do.
var errOutboxFull = fmt.Errorf("%d transactions wait for the ledger already, which is as many as are kept: try again when it goes on", maxLetters)

// outbox is what somebody gave to this home for the ledger, and which the ledger may not
// have yet (H12). It is under Home.mu.
type outbox struct {
	letters map[[32]byte]*letter
	missed  missedOrders
}

// letter is one transaction. Its fields are never changed; tried is the trade goroutine's.
type letter struct {
	Raw []byte
	At  time.Time // when it was taken, on the wall clock

	tx    *ledger.Tx
	tried time.Time
}

// missedOrders are those that no block ever had, since the start.
type missedOrders struct {
	count int
	last  market.Interval
	why   string // of the last
}

// Submit implements api.Network. It returns nil when the transaction is good by what the ledger
// has now, is on its way, and is on this home's disk.
func (h *Home) Submit(ctx context.Context, raw []byte) error {
	h.mu.Lock()
	full := len(h.outbox.letters) >= maxLetters
	h.mu.Unlock()
	if full {
		return errOutboxFull
	}
	err := h.opt.Ledger.Submit(ctx, raw)
	if r := (*ledger.Refusal)(nil); errors.As(err, &r) {
		code := r.Code.String()
		return &api.Refused{Code: code, Detail: strings.TrimPrefix(r.Error(), code+": ")}
	}
	if err != nil {
		return err
	}
	tx, err := ledger.DecodeTx(raw)
	if err != nil {
		return err
	}
	now := h.opt.Now()
	l := &letter{Raw: bytes.Clone(raw), At: now, tx: tx, tried: now}
	h.mu.Lock()
	_, known := h.outbox.letters[tx.Hash()]
	h.mu.Unlock()
	if known {
		return nil
	}
	if err := h.disk.saveLetter(l); err != nil {
		return fmt.Errorf("keeping the transaction in %s: %w", DiskFile, err)
	}
	h.mu.Lock()
	h.outbox.letters[tx.Hash()] = l
	h.mu.Unlock()
	return nil
}

// deliver hands what waits in the outbox to the ledger, and forgets what has come to its end.
func (t *trading) deliver(ctx context.Context) error {
	h := t.home
	h.mu.Lock()
	letters := slices.SortedFunc(maps.Values(h.outbox.letters), func(a, b *letter) int { return a.At.Compare(b.At) })
	h.mu.Unlock()
	var ended []*letter
	for _, l := range letters {
		end, err := t.push(ctx, l)
		if err != nil {
			return err
		}
		if end {
			ended = append(ended, l)
		}
	}
	if len(ended) == 0 {
		return nil
	}
	if err := h.disk.dropLetters(ended); err != nil {
		return err
	}
	h.mu.Lock()
	for _, l := range ended {
		delete(h.outbox.letters, l.tx.Hash())
	}
	h.mu.Unlock()
	return nil
}

// push looks after one letter; end says that there is nothing more to do for it.
func (t *trading) push(ctx context.Context, l *letter) (end bool, err error) {
	h := t.home
	if o, ok := l.tx.Order(); ok {
		taken, closed, err := h.orderTaken(l.tx.Household(), o)
		if err != nil || taken {
			return taken, err
		}
		if closed {
			if o.Steps[0].WattHours > 0 { // else it was to withdraw one, and the ledger has none
				h.missOrder(ctx, o, "its gate closed before")
			}
			return true, nil
		}
	}
	if h.recent(l.tried, t.resend) {
		return false, nil
	}
	l.tried = h.opt.Now()
	if h.opt.Now().Sub(l.At) > letterLife {
		h.opt.Log.WarnContext(ctx, "transaction given up: the ledger neither has it nor refuses it", "kind", l.tx.Kind().String(), "since", l.At)
		return true, nil
	}
	err = h.stillGood(l.tx)
	if err == nil {
		err = h.opt.Ledger.Submit(ctx, l.Raw)
	}
	refusal := (*ledger.Refusal)(nil)
	if !errors.As(err, &refusal) || passing[refusal.Code] {
		return false, nil // it waits, or nobody is there to take it
	}
	if o, ok := l.tx.Order(); ok && refusal.Code != ledger.CodeSequenceUsed {
		h.missOrder(ctx, o, refusal.Error())
		return true, nil
	}
	// What is refused for good was applied since, or has been overtaken by something else.
	h.opt.Log.InfoContext(ctx, "transaction has come to its end", "kind", l.tx.Kind().String(), "code", refusal.Code.String())
	return true, nil
}

// passing are refusals that another block may take back.
var passing = map[ledger.Code]bool{
	consensus.CodePoolFull: true, ledger.CodeTooFarAhead: true, ledger.CodeNotCleared: true,
	ledger.CodeUnknownHousehold: true, ledger.CodeUnknownMeter: true, ledger.CodeTooManyPending: true,
}

// stillGood asks the own ledger first, which counts no refusal: most letters end because a
// block has them. A light home has no such ledger.
func (h *Home) stillGood(tx *ledger.Tx) (err error) {
	h.opt.Ledger.Read(func(s *ledger.State) {
		if !s.Partial() {
			err = s.CheckTx(tx)
		}
	})
	return err
}

// orderTaken says whether the ledger has the order, or a later one in its place, and
// whether its gate has closed.
func (h *Home) orderTaken(id market.HouseholdID, o *ledger.PlaceOrder) (taken, closed bool, err error) {
	settled := false
	h.opt.Ledger.Read(func(s *ledger.State) {
		closed = o.Interval < s.Next()
		if r, ok := s.Interval(o.Interval); ok {
			if e, there := r.Entry(id); there {
				taken = numberOf(o.Side, e.BidSeq, e.OfferSeq) >= o.Seq
				return
			}
		}
		settled = closed // it may be, and then the history knows
	})
	if taken || !settled {
		return taken, closed, nil
	}
	err = h.opt.Ledger.Settlements(id, o.Interval, func(s *ledger.Settlement) bool {
		if s.Interval == o.Interval {
			taken = taken || numberOf(o.Side, s.BidSeq, s.OfferSeq) >= o.Seq
		}
		return s.Interval <= o.Interval
	})
	return taken, closed, err
}

func numberOf(side market.Side, bid, offer uint64) uint64 {
	if side == market.Bid {
		return bid
	}
	return offer
}

// missOrder tells people of an order that came to nothing.
func (h *Home) missOrder(ctx context.Context, o *ledger.PlaceOrder, why string) {
	h.opt.Log.WarnContext(ctx, "order is in no block", "interval", o.Interval, "seq", o.Seq, "why", why)
	h.mu.Lock()
	h.outbox.missed.count++
	h.outbox.missed.last, h.outbox.missed.why = o.Interval, why
	h.mu.Unlock()
	h.changed()
}

func (d *disk) saveLetter(l *letter) error {
	hash := l.tx.Hash()
	return d.update(func(tx *bolt.Tx) error { return putSealed(tx.Bucket(bucketOutbox), hash[:], l) })
}

func (d *disk) dropLetters(ended []*letter) error {
	return d.update(func(tx *bolt.Tx) error {
		for _, l := range ended {
			hash := l.tx.Hash()
			if err := tx.Bucket(bucketOutbox).Delete(hash[:]); err != nil {
				return err
			}
		}
		return nil
	})
}

// loadLetters returns what was taken before the last end.
func (d *disk) loadLetters() (map[[32]byte]*letter, error) {
	letters := map[[32]byte]*letter{}
	err := d.view(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucketOutbox)
		return b.ForEach(func(k, _ []byte) error {
			l := new(letter)
			if err := getSealed(b, k, l); err != nil {
				return err
			}
			var err error
			if l.tx, err = ledger.DecodeTx(l.Raw); err != nil {
				return fmt.Errorf("%w: record %x is no transaction: %w", ErrDamaged, k, err)
			}
			if hash := l.tx.Hash(); !bytes.Equal(k, hash[:]) {
				return fmt.Errorf("%w: record %x is not the transaction it should be", ErrDamaged, k)
			}
			letters[l.tx.Hash()] = l
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("reading home.db: %w", err)
	}
	return letters, nil
}
