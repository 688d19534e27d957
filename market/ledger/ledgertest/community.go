// Package ledgertest makes communities, transactions and whole histories for
// tests: real signatures with keys that follow from names, meters that count by a
// formula. Everything follows from its arguments.
//
// A Community belongs to one goroutine.
package ledgertest

import (
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// ChainID is that of every Community.
const ChainID = "sim-street"

// Epoch is the community time at which every Community begins.
func Epoch() time.Time { return time.Date(2026, time.June, 1, 10, 0, 0, 0, time.UTC) }

// Key derives a private key from a name.
func Key(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("commonwatt test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// Public returns the ledger's form of the public key.
func Public(k ed25519.PrivateKey) ledger.Key {
	return ledger.KeyOf(k.Public().(ed25519.PublicKey)) //nolint:forcetypeassert // that of crypto/ed25519
}

// Community is a genesis with the private keys behind it.
type Community struct {
	Genesis  ledger.Genesis
	Officers []ed25519.PrivateKey
	Operator ed25519.PrivateKey // the grid operator's
	First    market.Interval    // whose gate closes first
}

// New makes a community of three officers, a grid operator, and two founders who
// are its validators (the homes home/0 and home/1), on a network of these nodes.
func New(rules ledger.Rules, nodes ...ledger.Node) *Community {
	c := &Community{Operator: Key("operator/0"), Genesis: ledger.Genesis{
		Name: "sim-street", Epoch: Epoch(), Start: Epoch(), Rate: 1, Rules: rules, Network: nodes,
		Operators: []ledger.Key{Public(Key("operator/0"))},
	}}
	for _, name := range []string{"home/0", "home/1"} {
		c.Genesis.Founders = append(c.Genesis.Founders, Public(Key(name+"/network")))
		c.Genesis.Validators = append(c.Genesis.Validators, ledger.GenesisValidator{
			Network: Public(Key(name + "/network")), Key: Public(Key(name + "/validator")),
		})
	}
	for _, name := range []string{"officer/0", "officer/1", "officer/2"} {
		c.Officers = append(c.Officers, Key(name))
		c.Genesis.Officers = append(c.Genesis.Officers, Public(Key(name)))
	}
	c.First = c.Genesis.Calendar().NextGate(Epoch())
	return c
}

// State returns the state before the first block. The genesis is valid, or it panics.
func (c *Community) State() *ledger.State {
	s, err := ledger.NewState(ChainID, c.Genesis)
	if err != nil {
		panic("ledgertest: " + err.Error())
	}
	return s
}

// Approve returns the approvals of the first n officers.
func (c *Community) Approve(msg []byte, n int) []ledger.Approval {
	var as []ledger.Approval
	for i, o := range c.Officers[:n] {
		as = append(as, ledger.Approval{Officer: uint64(i), Signature: ed25519.Sign(o, msg)})
	}
	return as
}

// Home is a household with its keys and its meter.
type Home struct {
	Name      string
	ID        market.HouseholdID
	Household ed25519.PrivateKey
	Device    ed25519.PrivateKey
	Network   ed25519.PrivateKey
	Meter     ed25519.PrivateKey
	Validator ed25519.PrivateKey
	Node      string // where it joins; "" is ledger.RootNode
	Epoch     uint32 // of its meter's readings
	// Counters says what the meter shows at the start of an Interval. The default
	// counts up to 2 kWh an Interval each way, the same on every run.
	Counters func(market.Interval) (imported, exported uint64)
}

// NewHome makes a home. Its keys follow from its name.
func NewHome(name string) *Home {
	h := &Home{
		Name: name, Household: Key(name + "/household"), Device: Key(name + "/device"),
		Network: Key(name + "/network"), Meter: Key(name + "/meter"),
		Validator: Key(name + "/validator"),
	}
	h.ID = market.HouseholdIDOf(h.Household.Public().(ed25519.PublicKey)) //nolint:forcetypeassert // that of crypto/ed25519
	h.Counters = func(k market.Interval) (uint64, uint64) {
		return h.counter("import", k), h.counter("export", k)
	}
	return h
}

func (h *Home) counter(side string, k market.Interval) uint64 {
	b := binary.BigEndian.AppendUint64([]byte(h.Name+"/"+side), uint64(k)) //nolint:gosec // never negative
	sum := sha256.Sum256(b)
	return uint64(k)*1000 + binary.BigEndian.Uint64(sum[:])%1000 //nolint:gosec // never negative
}

// Join makes the home's admission with the approvals of the first n officers.
func (c *Community) Join(h *Home, n int) []byte {
	r := ledger.RegisterHousehold{Key: Public(h.Household), Device: Public(h.Device), Network: Public(h.Network), Node: cmp.Or(h.Node, ledger.RootNode)}
	r.Approvals = c.Approve(r.AdmissionBytes(ChainID), n)
	return r.Sign(ChainID, h.Household)
}

// Install makes the registration of the home's meter with n approvals.
func (c *Community) Install(h *Home, n int) []byte {
	r := ledger.RegisterMeter{Key: Public(h.Meter), SignedBy: ledger.SignedByAgent, Definition: "sunspec-meter@1"}
	r.Approvals = c.Approve(r.AdmissionBytes(ChainID, h.ID), n)
	return r.Sign(ChainID, h.ID, h.Device)
}

// Replace makes the replacement of the home's meter with n approvals.
func (c *Community) Replace(h *Home, r ledger.ReplaceMeter, n int) []byte {
	r.Approvals = c.Approve(r.ApprovalBytes(ChainID, h.ID), n)
	return r.Sign(ChainID, h.ID, h.Device)
}

// Order makes an order. Steps are pairs of price and Wh.
func (c *Community) Order(h *Home, k market.Interval, side market.Side, seq uint64, steps ...ledger.Step) []byte {
	o := ledger.PlaceOrder{Interval: k, Seq: seq, Side: side, Steps: steps}
	return o.Sign(ChainID, h.ID, h.Device)
}

// Prefer makes a standing Preference.
func (c *Community) Prefer(h *Home, seq uint64, minSell, maxBuy market.Price) []byte {
	p := ledger.SetPreference{Seq: seq, MinSell: minSell, MaxBuy: maxBuy}
	return p.Sign(ChainID, h.ID, h.Device)
}

// Reading makes the meter's reading at the start of an Interval.
func (c *Community) Reading(h *Home, k market.Interval) ledger.Reading {
	imported, exported := h.Counters(k)
	r := ledger.Reading{
		Meter: ledger.MeterIDOf(Public(h.Meter)), Seq: uint64(k), Epoch: h.Epoch, //nolint:gosec // never negative
		AtMs:     c.Genesis.Calendar().Start(k).UnixMilli() + 250,
		ImportWh: &imported, ExportWh: &exported,
	}
	r.Signature = ed25519.Sign(h.Meter, r.SignedBytes())
	return r
}

// Report makes the report of count Intervals from one on.
func (c *Community) Report(h *Home, from market.Interval, count uint32) []byte {
	r := ledger.ReportMeter{From: from, Count: count, Start: c.Reading(h, from), End: c.Reading(h, from+market.Interval(count))}
	return r.Sign(ChainID, h.ID, h.Device)
}

// Energy is what the meter counts in an Interval.
func (h *Home) Energy(k market.Interval) (imported, exported market.WattHours) {
	i0, e0 := h.Counters(k)
	i1, e1 := h.Counters(k + 1)
	return market.WattHours(i1 - i0), market.WattHours(e1 - e0) //nolint:gosec // counters rise slowly
}
