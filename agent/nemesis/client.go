package main

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// signer makes a household's transactions, as its gateway would.
type signer struct {
	chain  string
	id     market.HouseholdID
	device ed25519.PrivateKey
}

// Prices of the client's orders, micro-units per kWh. They cross neither with each other nor
// with what a home orders by itself: who has the sun buys at up to sunnyMaxBuy and offers
// above that; the others bid, and have nothing to offer.
const (
	sunnyMaxBuy = 200_000
	offerFrom   = 210_000
	offerTo     = 290_000
	bidFrom     = 100_000
	bidTo       = 300_000
)

// How far ahead orders are, in intervals from the next gate: far enough that a fault passes
// before the gate, as most do.
const (
	nearest  = 3
	farthest = 8
)

// client hands operations to the homes, one at a time.
type client struct {
	r  *rig
	mu sync.Mutex // guards what follows

	resting bool
	rnd     *rand.Rand
	last    uint64             // sequence number given last
	made    map[*home][]*entry // orders that may be replaced
}

// work submits until ctx ends.
func (c *client) work(ctx context.Context) error {
	gap := time.Duration(float64(time.Second) / c.r.opt.rate)
	for pause(ctx, gap) {
		if err := c.one(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) one(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resting {
		return nil
	}
	h, e := c.next()
	return c.submit(ctx, h, e)
}

// probe submits what a person decides, for which blocks do not wait.
func (c *client) probe(ctx context.Context, h *home) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.submit(ctx, h, c.preference(h))
}

// rest ends the submitting.
func (c *client) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resting = true
}

// next decides on an operation.
func (c *client) next() (*home, entry) {
	h := c.r.homes[c.rnd.IntN(len(c.r.homes))]
	switch n := c.rnd.IntN(10); {
	case n == 0:
		return h, c.preference(h)
	case n < 4:
		if e := c.replaceable(h); e != nil {
			return h, c.order(h, opReplacement, e.Interval)
		}
	}
	next := intervalAt(c.r.community(time.Now())) + 1
	return h, c.order(h, opOrder, next+nearest+c.rnd.Int64N(farthest-nearest+1))
}

// replaceable is an order whose gate is not near; nil: there is none.
func (c *client) replaceable(h *home) *entry {
	soon := intervalAt(c.r.community(time.Now())) + nearest
	var good []*entry
	for _, e := range c.made[h] {
		if e.Interval > soon {
			good = append(good, e)
		}
	}
	c.made[h] = good
	if len(good) == 0 {
		return nil
	}
	return good[c.rnd.IntN(len(good))]
}

// number is later than all before, and as large as the homes' own, which are milliseconds too.
func (c *client) number() uint64 {
	c.last = max(c.last+1, uint64(time.Now().UnixMilli()))
	return c.last
}

func (c *client) order(h *home, kind string, interval int64) entry {
	o := ledger.PlaceOrder{Interval: market.Interval(interval), Seq: c.number(), Side: market.Bid}
	e := entry{Kind: kind, Home: h.name, Interval: interval, Seq: o.Seq, Side: "bid"}
	from, to := int64(bidFrom), int64(bidTo)
	if h.solar > 0 {
		o.Side, e.Side, from, to = market.Offer, "offer", offerFrom, offerTo
	}
	o.Steps = []ledger.Step{{
		Price: market.Price(from + c.rnd.Int64N(to-from)), WattHours: market.WattHours(50 + c.rnd.Int64N(500)),
	}}
	e.Tx = hex.EncodeToString(o.Sign(h.signer.chain, h.signer.id, h.signer.device))
	return e
}

func (c *client) preference(h *home) entry {
	p := ledger.SetPreference{Seq: c.number(), MinSell: 90_000, MaxBuy: market.Price(250_000 + c.rnd.Int64N(50_000))}
	if h.solar > 0 {
		p.MaxBuy = market.Price(sunnyMaxBuy - c.rnd.Int64N(50_000))
	}
	return entry{Kind: opPreference, Home: h.name, Seq: p.Seq, Tx: hex.EncodeToString(p.Sign(h.signer.chain, h.signer.id, h.signer.device))}
}

// submit hands it over and writes down what the home says.
func (c *client) submit(ctx context.Context, h *home, e entry) error {
	e.Tried = time.Now()
	err := h.submit(ctx, e.Tx)
	e.Answered = time.Now()
	refused := (*answer)(nil)
	switch {
	case err == nil:
		e.Answer = answerAcknowledged
	case errors.As(err, &refused) && refused.status == 409:
		e.Answer, e.Text = answerRefused, refused.text
	default:
		e.Answer, e.Text = answerUnknown, err.Error()
	}
	if err == nil && e.Side != "" {
		c.made[h] = append(c.made[h], &e)
	}
	return c.r.journal.add(e)
}

// readMeters writes down what the homes show to have metered, until ctx ends.
func (r *rig) readMeters(ctx context.Context) error {
	known := map[*home]map[int64]bool{}
	for {
		for _, h := range r.homes {
			if known[h] == nil {
				known[h] = map[int64]bool{}
			}
			if err := r.readMeter(ctx, h, known[h]); err != nil {
				return err
			}
		}
		if !pause(ctx, r.opt.pace()/4) {
			return nil
		}
	}
}

func (r *rig) readMeter(ctx context.Context, h *home, known map[int64]bool) error {
	tried := time.Now()
	list, err := h.intervals(ctx)
	if err != nil {
		return nil //nolint:nilerr // it is away, which is what this is about
	}
	for _, k := range list {
		if k.Import == nil || k.Export == nil || k.Quality != "good" && k.Quality != "estimated" || known[k.Interval] {
			continue
		}
		known[k.Interval] = true
		err := r.journal.add(entry{
			Kind: opReport, Home: h.name, Interval: k.Interval, Import: *k.Import, Export: *k.Export,
			Tried: tried, Answered: time.Now(), Answer: answerAcknowledged,
		})
		if err != nil {
			return err
		}
	}
	return nil
}
