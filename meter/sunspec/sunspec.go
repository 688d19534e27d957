// Package sunspec finds SunSpec models in a device and knows the layout of the models that Commonwatt reads.
//
// The layouts are data (models/*.yaml): point names, types and sizes as published by the SunSpec Alliance in
// https://github.com/sunspec/models (Apache-2.0). The chain is hostile input: its length, its sizes and its addresses
// are bounded, and a model is only found under the length that its layout has.
package sunspec

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/goccy/go-yaml"
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

// Find returns the first block of a model whose length is one that the model's layout has.
func Find(blocks []Block, m *Model) (Block, error) {
	for _, b := range blocks {
		if b.Model != m.ID {
			continue
		}
		if slices.Contains(m.Lengths, b.Length) {
			return b, nil
		}
		return Block{}, fmt.Errorf("model %d at %d: got length %d, expected one of %v: %w", m.ID, b.Address, b.Length, m.Lengths, ErrBadChain)
	}
	return Block{}, fmt.Errorf("device has no model %d: %w", m.ID, ErrBadChain)
}

// Model is the layout of a SunSpec model.
type Model struct {
	ID uint16 `yaml:"model"`
	// Lengths that devices give it; the first is the usual one.
	Lengths []uint16 `yaml:"lengths"`
	Facts   string   `yaml:"facts"`
	Points  []Point  `yaml:"points"`
}

// Point is a value in a model.
type Point struct {
	Name string `yaml:"name"`
	// Offset counts from the model id, which is at 0.
	Offset uint16 `yaml:"-"`
	Size   uint16 `yaml:"size"`
	// Type is the SunSpec type: int16, uint16, acc32, sunssf, string, bitfield32, pad.
	Type string `yaml:"type"`
	// SF names the point that holds the power of ten, if there is one.
	SF   string `yaml:"sf,omitempty"`
	Unit string `yaml:"unit,omitempty"`
}

// Point returns a point by name.
func (m *Model) Point(name string) (Point, bool) {
	for _, p := range m.Points {
		if p.Name == name {
			return p, true
		}
	}
	return Point{}, false
}

//go:embed models/*.yaml
var modelFiles embed.FS

// LoadModels returns the layouts by model id.
func LoadModels() (map[uint16]*Model, error) {
	names, err := fs.Glob(modelFiles, "models/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("listing SunSpec models: %w", err)
	}
	models := make(map[uint16]*Model, len(names))
	for _, name := range names {
		data, err := modelFiles.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("reading SunSpec model: %w", err)
		}
		var m Model
		if err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&m); err != nil {
			return nil, fmt.Errorf("SunSpec model %s: %w", path.Base(name), err)
		}
		offset := uint16(0)
		for i := range m.Points {
			m.Points[i].Offset = offset
			offset += m.Points[i].Size
		}
		if len(m.Lengths) == 0 || offset != m.Lengths[0]+2 {
			return nil, fmt.Errorf("SunSpec model %s: points take %d registers, expected 2 + %v", path.Base(name), offset, m.Lengths)
		}
		models[m.ID] = &m
	}
	return models, nil
}
