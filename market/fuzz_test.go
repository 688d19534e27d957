package market_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/commonwatt/commonwatt/market"
)

// A byteReader makes numbers of a fuzzer's bytes, and zeros when there are none left.
type byteReader struct{ data []byte }

func (r *byteReader) next() byte {
	if len(r.data) == 0 {
		return 0
	}
	b := r.data[0]
	r.data = r.data[1:]
	return b
}

// number reads one byte of small number, or after 0xff eight bytes of any.
func (r *byteReader) number() int64 {
	b := r.next()
	if b < 0xff || len(r.data) < 8 {
		return int64(int8(b))
	}
	n := binary.BigEndian.Uint64(r.data)
	r.data = r.data[8:]
	return int64(n)
}

// market reads a market that is wrong in any way a market can be.
func (r *byteReader) market() market.Market {
	m := market.Market{Seed: []byte{r.next()}}
	if r.next()%2 == 1 {
		m.Tariff = &market.Tariff{ImportPrice: market.Price(r.number()), ExportPrice: market.Price(r.number())}
	}
	for i := range int(r.next() % 6) {
		n := market.Node{ID: fmt.Sprint(i)}
		switch parent := r.next(); {
		case i > 0 && parent < 0xf0:
			n.Parent = fmt.Sprint(int(parent) % i)
		case i > 0 || parent >= 0xf0:
			n.Parent = fmt.Sprint(parent % 7)
		}
		r.edge(&n)
		m.Network.Nodes = append(m.Network.Nodes, n)
	}
	for i := 0; len(r.data) > 0 && i < 64; i++ {
		o := market.Order{Node: fmt.Sprint(r.next() % 6), Side: market.Side(r.next() % 4)}
		if id := r.next(); id < 0xf0 {
			o.ID = fmt.Sprint(i)
		} else {
			o.Household[0] = id
		}
		for range r.next() % 18 {
			o.Steps = append(o.Steps, market.Step{Price: market.Price(r.number()), WattHours: market.WattHours(r.number())})
		}
		m.Orders = append(m.Orders, o)
	}
	return m
}

// edge reads a node's limits and fees.
func (r *byteReader) edge(n *market.Node) {
	which := r.next()
	if which&1 != 0 {
		n.ImportLimit = new(market.WattHours(r.number()))
	}
	if which&2 != 0 {
		n.ExportLimit = new(market.WattHours(r.number()))
	}
	if which&4 != 0 {
		n.ImportFee = market.Price(r.number())
	}
	if which&8 != 0 {
		n.ExportFee = market.Price(r.number())
	}
}

// rule reads which rule a market is cleared by, and its own fields.
func (r *byteReader) rule(m *market.Market) {
	m.Rule = market.Rules()[int(r.next())%len(market.Rules())]
	if r.next()%2 == 1 {
		m.Sharing.Price = new(market.Price(r.number()))
	}
	m.Sharing.Keys = r.number()
	for i := range m.Orders {
		if r.next()%4 == 1 {
			m.Orders[i].Key = r.number()
		}
	}
}

// FuzzRules clears markets of hostile numbers by every rule. It must refuse them
// with an error of the package, or give an answer that R7 can settle.
func FuzzRules(f *testing.F) {
	f.Add([]byte{1, 0}, []byte{7, 1, 9, 2, 1, 0xff, 0, 0, 1, 1, 1, 5, 10, 0, 2, 2, 1, 3, 10})
	f.Add([]byte{2, 0, 0}, []byte{7, 0, 1, 0xff, 0, 0, 1, 1, 1, 5, 10, 0, 1, 1, 1, 5, 10, 0, 2, 2, 1, 3, 10, 0, 2, 2, 1, 3, 10})
	f.Add([]byte{3, 1, 5, 9, 1, 4}, []byte{7, 1, 9, 2, 1, 0xff, 0, 0, 1, 1, 1, 5, 10, 0, 2, 2, 1, 3, 10})
	f.Fuzz(func(t *testing.T, rule, data []byte) {
		r := byteReader{data}
		m := r.market()
		r.data = rule
		r.rule(&m)
		c, err := market.Clear(m)
		if err == nil {
			if problem := settleable(m, c); problem != "" {
				t.Fatalf("%s\nmarket %+v\nclearing %+v", problem, m, c)
			}
			return
		}
		knownError(t, err)
	})
}

// knownError fails unless an error wraps one of Clear's own.
func knownError(t *testing.T, err error) {
	for _, e := range []error{
		market.ErrOverflow, market.ErrBadSide, market.ErrBadQuantity, market.ErrPriceOutOfBounds, market.ErrTooManySteps,
		market.ErrStepsUnordered, market.ErrUnknownNode, market.ErrDuplicateID, market.ErrBadNetwork, market.ErrBadTariff,
	} {
		if errors.Is(err, e) {
			return
		}
	}
	t.Fatalf("got %v, want an error of the package", err)
}

// FuzzClear clears markets of hostile numbers. Whatever it is given, Clear must
// refuse it with an error of the package or give an answer that fulfils R3.
func FuzzClear(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{7, 1, 9, 2, 1, 0xff, 0, 0, 1, 1, 1, 5, 10, 0, 2, 2, 1, 3, 10})
	f.Add([]byte{7, 0, 3, 0xff, 0, 0, 15, 4, 3, 2, 1, 1, 3, 2, 2, 1, 1, 1, 1, 5, 10, 2, 2, 2, 1, 5, 4, 1, 2, 3, 1, 5, 7})
	f.Add([]byte{0, 0, 1, 0xff, 0, 0, 2, 0, 1, 0xff, 0, 0, 1, 0, 0, 0, 0, 0, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := byteReader{data}
		m := r.market()
		c, err := market.Clear(m)
		if err == nil {
			if problem := violation(m, c); problem != "" {
				t.Fatalf("%s\nmarket %+v\nclearing %+v", problem, m, c)
			}
			return
		}
		knownError(t, err)
	})
}

// FuzzTexts: every text of ours that stands for a value stands for one alone, and what is written is read again.
func FuzzTexts(f *testing.F) {
	for _, text := range []string{"2026-06", "0000-00", "bid", "offer", "imbalance-import", market.HouseholdIDOf(make([]byte, 32)).String(), "", "2026-6", " bid"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if m, err := market.ParseMonth(text); err == nil && m.String() != text {
			t.Errorf("month %q becomes %q", text, m)
		}
		if id, err := market.ParseHouseholdID(text); err == nil && id.String() != text {
			t.Errorf("household %q becomes %q", text, id)
		}
		var side market.Side
		if err := side.UnmarshalText([]byte(text)); err == nil && side.String() != text {
			t.Errorf("side %q becomes %q", text, side)
		}
		var kind market.TransferKind
		if err := kind.UnmarshalText([]byte(text)); err == nil && kind.String() != text {
			t.Errorf("kind %q becomes %q", text, kind)
		}
	})
}
