package def

import (
	"context"
	"errors"
	"slices"
)

// readBlock reads a block with one request, so that all in it is of one moment. A device that has no such run of
// registers is asked for each point by itself: smaller and older models, and gateways, have holes where the map of their
// kind has registers that mean nothing here. Points that it does not have even then are absent, and so unknown; a
// device without any of them is an error, unless the block is optional. A block by which the device says who it is or
// how it is, is read whole or not at all.
func (d *Definition) readBlock(ctx context.Context, read ReadRegisters, b Block) (words []uint16, absent map[string]bool, err error) {
	words, err = readExactly(ctx, read, b.Function, b.Address, b.Count)
	if err == nil || !errors.Is(err, ErrRefused) || d.judges(b) {
		return words, nil, err
	}
	refused := err
	words, absent = make([]uint16, b.Count), map[string]bool{}
	found := false
	for name, p := range d.Points {
		if p.Block != b.Name {
			continue
		}
		switch err := p.readInto(ctx, read, b, words); {
		case errors.Is(err, ErrRefused):
			absent[name] = true
		case err != nil:
			return nil, nil, err
		default:
			found = true
		}
	}
	if !found {
		return nil, nil, refused
	}
	return words, absent, nil
}

// counts reports whether a block holds a counter: without power a reading is one, without counters it is not.
func (d *Definition) counts(b Block) bool {
	return d.Points[PointImport].Block == b.Name || d.Points[PointExport].Block == b.Name
}

// faults reports whether a block holds what says that the values are not to be believed.
func (d *Definition) faults(b Block) bool {
	return slices.ContainsFunc(d.Modbus.Faults, func(f RegisterFault) bool { return f.Block == b.Name })
}

// judges reports whether a block holds what decides about the whole look.
func (d *Definition) judges(b Block) bool {
	if d.faults(b) {
		return true
	}
	for _, p := range d.Identify.all() {
		if p != nil && p.Block == b.Name {
			return true
		}
	}
	return false
}

// readInto reads the registers of a point by themselves into those of its block.
func (p Point) readInto(ctx context.Context, read ReadRegisters, b Block, block []uint16) error {
	all, _ := p.terms()
	if p.Scale != nil {
		all = append(all, Point{Type: p.Scale.Type, Address: p.Scale.Address})
	}
	for _, t := range all {
		words, err := readExactly(ctx, read, b.Function, t.Address, uint16(t.Words())) //nolint:gosec // at most 4
		if err != nil {
			return err
		}
		copy(block[t.Address-b.Address:], words)
	}
	return nil
}
