package ledger_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
)

// byDevice makes, for every kind that a gateway signs, a transaction that is good on the
// street of TestOldDevice; the other kinds are named with who signs them.
var byDevice = map[ledger.Kind]func(c *ledgertest.Community, h *ledgertest.Home, history []ledger.Event) []byte{
	ledger.KindHousehold: nil, // the cold key
	ledger.KindTick:      nil, // the block
	ledger.KindNetwork:   nil, // officers
	ledger.KindRules:     nil, // officers
	ledger.KindEnvelope:  nil, // the grid operator
	ledger.KindDevice:    nil, // the cold key
	ledger.KindValidator: nil, // officers, and the validator's key
	ledger.KindMeter: func(c *ledgertest.Community, h *ledgertest.Home, _ []ledger.Event) []byte {
		other := ledgertest.NewHome("unmetered")
		other.Device = h.Device
		return c.Install(other, 2)
	},
	ledger.KindPreference: func(c *ledgertest.Community, h *ledgertest.Home, _ []ledger.Event) []byte {
		return c.Prefer(h, 1, 1, 1)
	},
	ledger.KindOrder: func(c *ledgertest.Community, h *ledgertest.Home, _ []ledger.Event) []byte {
		return c.Order(h, c.First+9, market.Bid, 1, ledger.Step{Price: 1, WattHours: 1})
	},
	ledger.KindReport: func(c *ledgertest.Community, h *ledgertest.Home, _ []ledger.Event) []byte {
		return c.Report(h, c.First+1, 1)
	},
	ledger.KindMembership: func(c *ledgertest.Community, h *ledgertest.Home, _ []ledger.Event) []byte {
		return c.Move(h, ledger.SetMembership{Seq: 1, Node: ledger.RootNode}, 2)
	},
	ledger.KindCorrection: func(c *ledgertest.Community, h *ledgertest.Home, history []ledger.Event) []byte {
		return c.Correct(h, ledger.CorrectReport{Interval: c.First, Version: 1, Import: 1, Reason: "test"}, history, 2)
	},
	ledger.KindReplacement: func(c *ledgertest.Community, h *ledgertest.Home, _ []ledger.Event) []byte {
		return c.Replace(h, ledger.ReplaceMeter{
			Meter: ledger.MeterIDOf(ledgertest.Public(h.Meter)), Key: ledgertest.Public(h.Meter), From: c.First + 1, Epoch: 1,
			SignedBy: ledger.SignedByAgent, Definition: "x@1", Reason: "test",
		}, 2)
	},
	ledger.KindDeparture: func(c *ledgertest.Community, h *ledgertest.Home, _ []ledger.Event) []byte {
		return c.Leave(h, c.First+5, ledger.DepartByDevice, 0)
	},
}

// TestOldDevice: what the old device signed is good before the block with the change, and
// refused after it, for every kind; revoked as well as replaced, also if this machine has
// found the signature right before, and also after a restart.
func TestOldDevice(t *testing.T) {
	for _, revoke := range []bool{false, true} {
		c := ledgertest.New(ledger.DefaultRules())
		r := newReplica(t, c.Genesis)
		h, unmetered := ledgertest.NewHome("home/0"), ledgertest.NewHome("unmetered")
		unmetered.Device = ledgertest.Key("unmetered's own")
		d := r.must(t, ledger.Block{Txs: [][]byte{c.Join(h, 2), c.Install(h, 2), c.Join(unmetered, 2), ledger.NewTick(c.First, c.First+1, c.First)}})
		history := slices.Clone(d.History)
		d = r.must(t, ledger.Block{Txs: [][]byte{c.Report(h, c.First, 1)}})
		history = append(history, d.History...)
		var txs []*ledger.Tx
		for _, kind := range ledger.Kinds() {
			make, listed := byDevice[kind]
			if !listed {
				t.Fatalf("kind %s is not in the table: who signs it?", kind)
			}
			if make == nil {
				continue
			}
			of := h
			if kind == ledger.KindMeter {
				of = unmetered
			}
			tx, err := ledger.DecodeTx(make(c, of, history))
			if err != nil {
				t.Fatal(err)
			}
			if err := r.state.CheckTx(tx); err != nil { // and remembers that it was right
				t.Fatalf("%s before: %v", kind, err)
			}
			txs = append(txs, tx)
		}
		var change [][]byte
		for _, x := range []*ledgertest.Home{h, unmetered} {
			if revoke {
				change = append(change, c.Revoke(x, 1))
			} else {
				change = append(change, c.Device(x, 1, ledgertest.Key(x.Name+" new"), ledgertest.Key(x.Name+" new network")))
			}
		}
		r.must(t, ledger.Block{Txs: change})
		want := ledger.CodeBadSignature
		if revoke {
			want = ledger.CodeNoDevice
		}
		verified := func(_ [32]byte, by ledger.Key) bool { return by == ledgertest.Public(h.Device) }
		for range 2 {
			for _, tx := range txs {
				err := r.state.CheckTx(tx)
				if refusal, ok := err.(*ledger.Refusal); !ok || refusal.Code != want { //nolint:errorlint // CheckTx returns nothing else
					t.Errorf("revoked %v, %s: got %v, want %v", revoke, tx.Kind(), err, want)
				}
				d, receipts, err := ledger.Apply(r.state, ledger.Block{Txs: [][]byte{tx.Bytes()}, Verified: verified})
				if err != nil || receipts[0].Code() != want || len(d.Records) > 0 {
					t.Errorf("revoked %v, %s in a block: got %v, %v, want %v", revoke, tx.Kind(), receipts[0].Refusal, err, want)
				}
			}
			if r.state.IsMember(ledgertest.Public(h.Network).Public()) {
				t.Error("the old network key is still a member's, though the home was a founder")
			}
			r.restart(t)
		}
	}
}

// TestZeroKeySigns: the key of all zeros is a point of small order, for which anybody can
// make signatures; it must be nobody's.
func TestZeroKeySigns(t *testing.T) {
	c := ledgertest.New(ledger.DefaultRules())
	h := ledgertest.NewHome("A")
	for name, r := range map[string]ledger.RegisterHousehold{
		"device":  {Key: ledgertest.Public(h.Household), Network: ledgertest.Public(h.Network), Node: ledger.RootNode},
		"network": {Key: ledgertest.Public(h.Household), Device: ledgertest.Public(h.Device), Node: ledger.RootNode},
	} {
		r.Approvals = c.Approve(r.AdmissionBytes(ledgertest.ChainID), 2)
		if got := verdict(c.State(), r.Sign(ledgertest.ChainID, h.Household)); got != "bad-key: "+name+": is all zero, want a key" {
			t.Errorf("admission without a %s key: got %q", name, got)
		}
	}
	for name, s := range map[string]ledger.SetDevice{
		"device":  {Seq: 1, Network: ledgertest.Public(h.Network)},
		"network": {Seq: 1, Device: ledgertest.Public(h.Device)},
	} {
		if got := verdict(c.State(), s.Sign(ledgertest.ChainID, h.ID, h.Household)); got != "bad-key: "+name+": is all zero, want a key" {
			t.Errorf("change without a %s key: got %q", name, got)
		}
	}
}

// TestPossession: a new gateway shows that it has both keys, for this change alone.
func TestPossession(t *testing.T) {
	c := ledgertest.New(ledger.DefaultRules())
	a, b := ledgertest.NewHome("A"), ledgertest.NewHome("B")
	r := newReplica(t, c.Genesis)
	r.must(t, ledger.Block{Txs: [][]byte{c.Join(a, 2)}})
	good := ledger.NewDevice(ledgertest.ChainID, a.ID, 2, b.Device, b.Network)
	for field, change := range map[string]func(s *ledger.SetDevice){
		"device_proof":  func(s *ledger.SetDevice) { s.DeviceProof = s.NetworkProof },
		"network_proof": func(s *ledger.SetDevice) { s.NetworkProof = s.DeviceProof },
		"device_proof ": func(s *ledger.SetDevice) { s.Seq++ }, // of another change
	} {
		s := *good
		change(&s)
		want := "bad-signature: " + field[:len("device_proof")]
		if got := verdict(r.state, s.Sign(ledgertest.ChainID, a.ID, a.Household)); len(got) < len(want) || got[:len(want)-1] != want[:len(want)-1] {
			t.Errorf("%s: got %q", field, got)
		}
	}
	r.must(t, ledger.Block{Txs: [][]byte{good.Sign(ledgertest.ChainID, a.ID, a.Household)}})
	// B is not let in with keys that are A's gateway's now.
	if got := verdict(r.state, c.Join(b, 2)); got != "bad-key: device: is the device key of household "+a.ID.String()+": one key, one purpose" {
		t.Errorf("got %q", got)
	}
}

// checkMembers holds the network keys that may connect against a simple count of them.
func checkMembers(tb interface{ Fatalf(string, ...any) }, s *ledger.State) {
	want := map[ledger.Key]market.HouseholdID{}
	for _, name := range []string{"home/0", "home/1"} { // the founders
		h := ledgertest.NewHome(name)
		if _, registered := s.Household(h.ID); !registered {
			want[ledgertest.Public(h.Network)] = market.HouseholdID{}
		}
	}
	for _, id := range s.Households() {
		if h, _ := s.Household(id); h.Network != (ledger.Key{}) {
			want[h.Network] = id
		}
	}
	got := map[ledger.Key]market.HouseholdID{}
	for k := range s.Members() {
		got[k], _ = s.HouseholdByNetwork(k.Public())
		if !s.IsMember(k.Public()) {
			tb.Fatalf("%s is among the members and is none", k)
		}
	}
	if !maps.Equal(got, want) {
		tb.Fatalf("members %v, want %v", got, want)
	}
}

// TestLeftIsSettled: whoever leaves has an entry in every Interval up to then and none
// after, and every one of them is settled, whatever the others do.
func TestLeftIsSettled(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := shortRules()
		rules.CreditLimit = 0
		c := ledgertest.New(rules)
		r := newReplica(t, c.Genesis)
		var homes []*ledgertest.Home
		var found ledger.Block
		for i := range 3 {
			h := ledgertest.NewHome(fmt.Sprintf("member/%d", i)) // no validator: the last one may not leave
			homes = append(homes, h)
			found.Txs = append(found.Txs, c.Join(h, 2), c.Install(h, 2))
		}
		r.must(t, found)
		left := map[market.HouseholdID]market.Interval{}
		settled := map[market.HouseholdID]map[market.Interval]bool{}
		to := c.First + 7
		for k := c.First; k <= to; k++ {
			var b ledger.Block
			for _, h := range homes {
				if _, gone := left[h.ID]; !gone && rapid.IntRange(0, 5).Draw(t, "leaves") == 0 {
					left[h.ID] = k + market.Interval(rapid.IntRange(0, 3).Draw(t, "notice"))
					by := ledger.DepartBy(rapid.IntRange(1, 3).Draw(t, "by"))
					b.Txs = append(b.Txs, c.Leave(h, left[h.ID], by, 2))
				}
				if from, gone := left[h.ID]; !gone || k < from {
					b.Txs = append(b.Txs, c.Order(h, k, market.Bid, 1, ledger.Step{Price: 200_000, WattHours: 100}))
				}
			}
			b.Txs = append(b.Txs, ledger.NewTick(k, k, k))
			note := func(d *ledger.Delta) {
				for _, e := range d.History {
					if s := e.Settlement; s != nil && s.Version == 1 {
						if settled[s.Household] == nil {
							settled[s.Household] = map[market.Interval]bool{}
						}
						settled[s.Household][s.Interval] = true
					}
				}
			}
			note(r.must(t, b))
			for _, h := range homes {
				if from, gone := left[h.ID]; rapid.Bool().Draw(t, "reports") && (!gone || k < from) {
					d, _ := r.apply(t, ledger.Block{Txs: [][]byte{c.Report(h, k, 1)}})
					note(d)
				}
			}
			if k == to {
				note(r.must(t, ledger.Block{Txs: [][]byte{ledger.NewTick(k+1, k+40, k+1)}}))
				note(r.must(t, ledger.Block{Txs: [][]byte{ledger.NewTick(k+41, k+80, k+41)}}))
			}
			for _, err := range r.state.Audit() {
				t.Fatal(err)
			}
		}
		for _, h := range homes {
			for k := c.First; k <= to; k++ {
				from, gone := left[h.ID]
				if want := !gone || k < from; settled[h.ID][k] != want {
					t.Errorf("%s, interval +%d, left with +%d: settled %v, want %v", h.Name, k-c.First, from-c.First, settled[h.ID][k], want)
				}
			}
		}
	})
}

// TestPart: a gateway that has left stays a member through the block that closes its last
// month, so that it gets that block; the next tick ends it.
func TestPart(t *testing.T) {
	c := ledgertest.New(shortRules())
	h := ledgertest.NewHome("A")
	r := newReplica(t, c.Genesis)
	r.must(t, ledger.Block{Txs: [][]byte{c.Join(h, 2), c.Install(h, 2), c.Leave(h, c.First+2, ledger.DepartByDevice, 0)}})
	at := c.First
	tick := func(to market.Interval) *ledger.Household {
		r.must(t, ledger.Block{Txs: [][]byte{ledger.NewTick(at, to, to+1)}})
		at = to + 1
		for _, err := range r.state.Audit() {
			t.Fatal(err)
		}
		got, ok := r.state.Household(h.ID)
		if !ok {
			t.Fatal("its record has gone")
		}
		return got
	}
	_, end := c.Genesis.Calendar().OfMonth(c.Genesis.Calendar().MonthOf(c.First, r.state.Zone()), r.state.Zone())
	if got := tick(end - 1); got.Closed != 0 || got.Network == (ledger.Key{}) {
		t.Fatalf("the month is not over: %d closed, network key %s", got.Closed, got.Network)
	}
	for got := tick(at); ; got = tick(at) {
		if member := r.state.IsMember(ledgertest.Public(h.Network).Public()); !member || got.Device == (ledger.Key{}) {
			t.Fatalf("interval %d: a member: %v, device key %s; closed months: %d", at-1, member, got.Device, got.Closed)
		}
		if got.Closed == 1 {
			break
		}
		if at > end+1000 {
			t.Fatal("its last month is never closed")
		}
	}
	if got := tick(at); r.state.IsMember(ledgertest.Public(h.Network).Public()) || got.Device != (ledger.Key{}) || got.Network != (ledger.Key{}) {
		t.Errorf("after the block that closed its last month: device key %s, network key %s", got.Device, got.Network)
	}
}
