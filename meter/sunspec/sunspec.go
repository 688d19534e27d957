// Package sunspec finds SunSpec models in a device and knows the layout of the models that Commonwatt reads.
//
// The layouts are data (models/*.yaml): point names, types and sizes as published by the SunSpec Alliance in
// https://github.com/sunspec/models (Apache-2.0); models/NOTICE says so too. A layout is parsed when it is first asked
// for. The chain is hostile input: its length, its sizes and its addresses are bounded, and a model is only found under
// a length that its layout has.
//
// A value and its scale factor belong together: whoever reads one reads the other in the same request. All models here
// allow that, since a value and its factor are never more than 125 registers apart; [Span] says what to ask for.
// "Not implemented" has a pattern of its own in every type; [Point.Implemented] knows them. Unknown is never 0.
package sunspec

import (
	"context"
	"errors"
	"fmt"
)

// Marker is what the two registers at the base address hold: "SunS".
const (
	MarkerHigh uint16 = 0x5375
	MarkerLow  uint16 = 0x6e53
)

// Bases are the addresses at which a chain may begin, in the order in which they are tried.
var Bases = [...]uint16{40000, 0, 50000}

const (
	// EndModel is the model id that ends the chain.
	EndModel = 0xffff
	// maxModels bounds the chain.
	maxModels = 64
)

var (
	// ErrNoChain says that there is no SunSpec marker at any of the base addresses.
	ErrNoChain = errors.New("no SunSpec marker at 40000, 0 or 50000")
	// ErrBadChain says that the chain does not follow the rules.
	ErrBadChain = errors.New("broken SunSpec chain")
	// ErrNoModel says that the device has none of the models that were looked for, or that a model is none of those
	// whose layout is known.
	ErrNoModel = errors.New("no such SunSpec model")
	// ErrRefused is returned by a Read whose device answered, but has no such registers: discovery then tries the
	// next base. Every other error ends discovery.
	ErrRefused = errors.New("device refused")
)

// Read reads count holding registers.
type Read func(ctx context.Context, address, count uint16) ([]uint16, error)

// Block is a model in a device.
type Block struct {
	Model uint16
	// Address is that of the model id; the length follows it.
	Address uint16
	// Length counts the registers after the length register.
	Length uint16
}

// Discover walks the chain.
func Discover(ctx context.Context, read Read) ([]Block, error) {
	for _, base := range Bases {
		words, err := read(ctx, base, 2)
		if errors.Is(err, ErrRefused) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("looking for SunSpec at %d: %w", base, err)
		}
		if len(words) == 2 && words[0] == MarkerHigh && words[1] == MarkerLow {
			return walk(ctx, read, base)
		}
	}
	return nil, ErrNoChain
}

func walk(ctx context.Context, read Read, base uint16) ([]Block, error) {
	var blocks []Block
	address := uint32(base) + 2
	for range maxModels {
		if address+2 > 1<<16 {
			return nil, fmt.Errorf("model %d of the chain at %d lies beyond the last register: %w", len(blocks)+1, base, ErrBadChain)
		}
		words, err := read(ctx, uint16(address), 2)
		if err != nil {
			return nil, fmt.Errorf("reading the head of model %d at %d: %w", len(blocks)+1, address, err)
		}
		if len(words) != 2 {
			return nil, fmt.Errorf("reading the head of model %d at %d: got %d registers, expected 2: %w", len(blocks)+1, address, len(words), ErrBadChain)
		}
		if words[0] == EndModel {
			return blocks, nil
		}
		if words[0] == 0 || words[1] == 0 {
			return nil, fmt.Errorf("model %d at %d: got id %d and length %d, expected both above 0: %w", len(blocks)+1, address, words[0], words[1], ErrBadChain)
		}
		blocks = append(blocks, Block{Model: words[0], Address: uint16(address), Length: words[1]})
		address += 2 + uint32(words[1])
	}
	return nil, fmt.Errorf("chain at %d: more than %d models without an end: %w", base, maxModels, ErrBadChain)
}
