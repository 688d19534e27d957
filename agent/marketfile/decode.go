// Package marketfile reads the file of docs/market-rules.md, one interval's market,
// and writes the answer.
//
// It is strict: an unknown or repeated key, text that is not UTF-8 or longer than
// 64 KiB, more steps than an order may have, anything after the end is an error, which
// names the order or node and the field. A number is a whole one, written out: 1.5 is
// refused, and so are 1.0 and 1e3, which look like a unit mistaken. Null stands for an
// optional key left out. What a market must be besides is left to package market.
//
// Memory is bounded by the market itself: besides it, a decoder holds a fixed buffer.
// A decoder belongs to the goroutine that calls it.
package marketfile

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/commonwatt/commonwatt/market"
)

// A decoder reads a market file order by order.
type decoder struct {
	scanner
	m     *market.Market
	node  market.Node
	order market.Order
	step  market.Step

	steps []market.Step     // where orders have theirs, many together
	names map[string]string // of nodes that orders name, each once
	ids   []byte            // of the orders from named on, one after the other
	ends  []int             // where in ids each of them ends
	id    []byte            // of the node or order being read
}

// A field is a key of an object, and how its value is read. Null stands for a
// field that is left out, where it may be. A new key is a new row in one of the
// tables below.
type field struct {
	name string
	need need
	read func(*decoder) error
}

type need uint8

const (
	optional need = iota // may be left out, or null
	required
)

var marketFields = []field{
	{"rule", required, (*decoder).rule},
	{"grid", required, (*decoder).grid},
	{"seed", optional, (*decoder).seed},
	{"sharing", optional, func(d *decoder) error { return d.object(sharingFields) }},
	{"nodes", required, func(d *decoder) error { return d.list((*decoder).readNode) }},
	{"orders", required, func(d *decoder) error { return d.list((*decoder).readOrder) }},
}

var gridFields = []field{
	{"import_price", required, func(d *decoder) error { return numberTo(d, &d.m.Tariff.ImportPrice) }},
	{"export_price", required, func(d *decoder) error { return numberTo(d, &d.m.Tariff.ExportPrice) }},
}

var sharingFields = []field{
	{"price", optional, func(d *decoder) error { return numberTo(d, newIn(&d.m.Sharing.Price)) }},
	{"keys", optional, func(d *decoder) error { return numberTo(d, &d.m.Sharing.Keys) }},
}

var nodeFields = []field{
	{"id", required, func(d *decoder) error { return d.idTo(&d.node.ID) }},
	{"parent", optional, (*decoder).parent},
	{"import_limit_wh", optional, func(d *decoder) error { return numberTo(d, newIn(&d.node.ImportLimit)) }},
	{"export_limit_wh", optional, func(d *decoder) error { return numberTo(d, newIn(&d.node.ExportLimit)) }},
	{"import_fee", optional, func(d *decoder) error { return numberTo(d, &d.node.ImportFee) }},
	{"export_fee", optional, func(d *decoder) error { return numberTo(d, &d.node.ExportFee) }},
}

var orderFields = []field{
	{"id", required, (*decoder).orderID},
	{"node", required, (*decoder).orderNode},
	{"side", required, (*decoder).side},
	{"key", optional, func(d *decoder) error { return numberTo(d, &d.order.Key) }},
	{"steps", required, func(d *decoder) error { return d.list((*decoder).readStep) }},
}

var stepFields = []field{
	{"price", required, func(d *decoder) error { return numberTo(d, &d.step.Price) }},
	{"wh", required, func(d *decoder) error { return numberTo(d, &d.step.WattHours) }},
}

// Decode reads a market file to its end.
func Decode(in io.Reader) (*market.Market, error) {
	d := &decoder{scanner: *newScanner(in), m: &market.Market{}, names: map[string]string{}}
	if err := d.object(marketFields); err != nil {
		return nil, err
	}
	if d.peek(); d.pos < len(d.buf) || !errors.Is(d.done, io.EOF) {
		if d.pos >= len(d.buf) {
			return nil, d.done
		}
		return nil, errors.New("there is more after the closing brace")
	}
	d.nameOrders()
	return d.m, nil
}

// object reads an object of the given fields, in any order.
func (d *decoder) object(fields []field) error {
	if d.peek() != '{' {
		return d.mismatch("an object")
	}
	d.pos++
	seen, at := uint(0), 0
	more := d.peek() != '}'
	if !more {
		d.pos++
	}
	for more {
		if d.peek() != '"' {
			return d.broken("a key")
		}
		key, err := d.text()
		if err != nil {
			return err
		}
		// Most files have their keys in one order.
		for range fields {
			if string(key) == fields[at].name {
				break
			}
			at = (at + 1) % len(fields)
		}
		f := &fields[at]
		if string(key) != f.name {
			return unknownField(fields, key)
		}
		if seen&(1<<at) != 0 {
			return under(f.name, errors.New("is there twice"))
		}
		seen |= 1 << at
		at = (at + 1) % len(fields)
		if err = d.take(':'); err == nil && (f.need == required || !d.isNull()) {
			err = f.read(d)
		}
		if err == nil {
			more, err = d.next('}')
		}
		if err != nil {
			return under(f.name, err)
		}
	}
	for i, f := range fields {
		if f.need == required && seen&(1<<i) == 0 {
			return under(f.name, errors.New("is missing"))
		}
	}
	return nil
}

func unknownField(fields []field, key []byte) error {
	var want []string
	for _, f := range fields {
		want = append(want, f.name)
	}
	return fmt.Errorf("unknown field %q, want %s", key, strings.Join(want, ", "))
}

// list reads a list; one reads each element.
func (d *decoder) list(one func(d *decoder, i int) error) error {
	if d.peek() != '[' {
		return d.mismatch("a list")
	}
	d.pos++
	if d.peek() == ']' {
		d.pos++
		return nil
	}
	for i, more := 0, true; more; i++ {
		err := one(d, i)
		if err == nil {
			more, err = d.next(']')
		}
		if err != nil {
			return under(fmt.Sprintf("[%d]", i), err)
		}
	}
	return nil
}

// named reads an object that has an id, for its errors to name it.
func (d *decoder) named(fields []field) error {
	d.id = d.id[:0]
	err := d.object(fields)
	if err != nil && len(d.id) > 0 {
		return under(fmt.Sprintf("%q", d.id), err)
	}
	return err
}

// A pathError says where in the file something is wrong.
type pathError struct {
	path string
	err  error
}

func (e *pathError) Error() string { return e.path + ": " + e.err.Error() }
func (e *pathError) Unwrap() error { return e.err }

// under puts a name before an error, and before the path it may have.
func under(name string, err error) error {
	var p *pathError
	switch {
	case !errors.As(err, &p):
		return &pathError{name, err}
	case p.path[0] == '[':
		p.path = name + p.path
	case p.path[0] == '"':
		p.path = name + " " + p.path
	case name[len(name)-1] == '"':
		p.path = name + ": " + p.path
	default:
		p.path = name + "." + p.path
	}
	return p
}

func (d *decoder) textTo(to *string) error {
	text, err := d.text()
	*to = string(text)
	return err
}

func numberTo[T ~int64](d *decoder, to *T) error {
	n, err := d.number()
	*to = T(n)
	return err
}

// newIn puts a new number where to points.
func newIn[T any](to **T) *T {
	*to = new(T)
	return *to
}

// idTo reads an id, which is not empty.
func (d *decoder) idTo(to *string) error {
	text, err := d.readID()
	*to = string(text)
	return err
}

func (d *decoder) readID() ([]byte, error) {
	text, err := d.text()
	if err == nil && len(text) == 0 {
		err = errors.New("is empty, want a name")
	}
	d.id = append(d.id[:0], text...)
	return text, err
}

func (d *decoder) grid() error {
	if d.isNull() {
		return nil
	}
	d.m.Tariff = &market.Tariff{}
	return d.object(gridFields)
}

func (d *decoder) rule() error {
	if err := d.textTo(&d.m.Rule); err != nil {
		return err
	}
	if d.m.Rule == "" { // which the market itself takes for the default
		return fmt.Errorf("got an empty name, want one of %s: %w", strings.Join(market.Rules(), ", "), market.ErrUnknownRule)
	}
	return nil
}

func (d *decoder) seed() error {
	text, err := d.text()
	if err != nil {
		return err
	}
	d.m.Seed, err = hex.DecodeString(string(text))
	return err
}

func (d *decoder) readNode(int) error {
	d.node = market.Node{}
	if err := d.named(nodeFields); err != nil {
		return err
	}
	d.m.Network.Nodes = append(d.m.Network.Nodes, d.node)
	return nil
}

func (d *decoder) parent() error {
	if err := d.textTo(&d.node.Parent); err != nil {
		return err
	}
	if d.node.Parent == "" {
		return errors.New("is empty, want a node's id, or null for the root")
	}
	return nil
}

const (
	stepsAtOnce = 1 << 12
	idsAtOnce   = 1 << 16 // bytes
)

func (d *decoder) readOrder(i int) error {
	if i >= market.MaxOrders {
		return fmt.Errorf("got more than %d", market.MaxOrders)
	}
	if cap(d.steps)-len(d.steps) < market.MaxSteps {
		d.steps = make([]market.Step, 0, stepsAtOnce)
	}
	first := len(d.steps)
	d.order = market.Order{}
	if err := d.named(orderFields); err != nil {
		return err
	}
	d.order.Steps = d.steps[first:len(d.steps):len(d.steps)]
	d.m.Orders = append(d.m.Orders, d.order)
	d.ends = append(d.ends, len(d.ids))
	if len(d.ids) > idsAtOnce {
		d.nameOrders()
	}
	return nil
}

// nameOrders gives the orders since it was last called their names: parts of one
// string, so that there is not one for each.
func (d *decoder) nameOrders() {
	all, from := string(d.ids), 0
	orders := d.m.Orders[len(d.m.Orders)-len(d.ends):]
	for i, end := range d.ends {
		orders[i].ID = all[from:end]
		from = end
	}
	d.ids, d.ends = d.ids[:0], d.ends[:0]
}

func (d *decoder) orderID() error {
	text, err := d.readID()
	d.ids = append(d.ids, text...)
	return err
}

func (d *decoder) orderNode() error {
	text, err := d.text()
	if err != nil {
		return err
	}
	name, known := d.names[string(text)]
	if !known {
		name = string(text)
		d.names[name] = name
	}
	d.order.Node = name
	return nil
}

func (d *decoder) side() error {
	text, err := d.text()
	if err != nil {
		return err
	}
	if err := d.order.Side.UnmarshalText(text); err != nil {
		return fmt.Errorf("got %q, want bid or offer", text)
	}
	return nil
}

func (d *decoder) readStep(i int) error {
	if i == market.MaxSteps {
		return fmt.Errorf("got one more, want 1 to %d steps", market.MaxSteps)
	}
	d.step = market.Step{}
	if err := d.object(stepFields); err != nil {
		return err
	}
	d.steps = append(d.steps, d.step)
	return nil
}
