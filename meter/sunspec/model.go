package sunspec

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/goccy/go-yaml"
)

// Common is the model that says who the device is.
const Common = 1

// maxRepeats bounds the groups of a model that repeats one.
const maxRepeats = 100

// Model is the layout of a SunSpec model.
type Model struct {
	ID uint16 `yaml:"model"`
	// Lengths that devices give it; the first is the usual one. What repeats is not counted.
	Lengths []uint16 `yaml:"lengths"`
	Facts   string   `yaml:"facts"`
	// Points of the fixed part, those of groups too: "PFWInj.PF".
	Points []Point `yaml:"points"`
	// Groups of the file; LoadModel appends their points to Points.
	Groups []Group `yaml:"groups,omitempty"`
	// Repeat is the group that follows the fixed part as often as the device says.
	Repeat *Group `yaml:"repeat,omitempty"`
}

// Group is a named run of points.
type Group struct {
	Name   string  `yaml:"name"`
	Points []Point `yaml:"points"`
}

// Point is a value in a model.
type Point struct {
	Name string `yaml:"name"`
	// Offset counts from the model id, which is at 0; in a repeated group from the beginning of the group.
	Offset uint16 `yaml:"-"`
	Size   uint16 `yaml:"size"`
	// Type is the SunSpec type; Kinds has them.
	Type string `yaml:"type"`
	// SF names the point that holds the power of ten, if there is one.
	SF   string `yaml:"sf,omitempty"`
	Unit string `yaml:"unit,omitempty"`
	// RW: it can be written.
	RW bool `yaml:"rw,omitempty"`
}

// Point returns a point by name: "W", "PFWInj.PF", or "module[2].DCW" of the third group that repeats.
func (m *Model) Point(name string) (Point, bool) {
	for _, p := range m.Points {
		if p.Name == name {
			return p, true
		}
	}
	group, rest, ok := strings.Cut(name, "].")
	prefix, index, ok2 := strings.Cut(group, "[")
	if !ok || !ok2 || m.Repeat == nil || prefix != m.Repeat.Name {
		return Point{}, false
	}
	n, err := strconv.ParseUint(index, 10, 8)
	if err != nil || n >= maxRepeats || index != strconv.FormatUint(n, 10) {
		return Point{}, false
	}
	for _, p := range m.Repeat.Points {
		if p.Name == rest {
			p.Name = name
			p.Offset += m.Lengths[0] + 2 + uint16(n)*m.Repeat.size()
			return p, true
		}
	}
	return Point{}, false
}

func (g *Group) size() (n uint16) {
	for _, p := range g.Points {
		n += p.Size
	}
	return n
}

// Fits reports whether a device may give the model this length.
func (m *Model) Fits(length uint16) bool {
	if slices.Contains(m.Lengths, length) {
		return true
	}
	if m.Repeat == nil || length < m.Lengths[0] {
		return false
	}
	rest, size := length-m.Lengths[0], m.Repeat.size()
	return rest%size == 0 && rest/size <= maxRepeats
}

// Find returns the first block of a model whose length is one that the model's layout has.
func Find(blocks []Block, m *Model) (Block, error) {
	for _, b := range blocks {
		if b.Model != m.ID {
			continue
		}
		if m.Fits(b.Length) {
			return b, nil
		}
		return Block{}, fmt.Errorf("model %d at %d: got length %d, expected one of %v: %w", m.ID, b.Address, b.Length, m.Lengths, ErrBadChain)
	}
	return Block{}, fmt.Errorf("device has no model %d: %w", m.ID, ErrNoModel)
}

//go:embed models/*.yaml
var modelFiles embed.FS

// IDs are the models whose layout is known, in order. Nothing is parsed for that.
var IDs = sync.OnceValue(func() []uint16 {
	names, _ := fs.Glob(modelFiles, "models/*.yaml") // the pattern is a good one
	ids := make([]uint16, 0, len(names))
	for _, name := range names {
		if id, err := strconv.ParseUint(strings.TrimSuffix(path.Base(name), ".yaml"), 10, 16); err == nil {
			ids = append(ids, uint16(id))
		}
	}
	slices.Sort(ids)
	return ids
})

// parsed holds a func() (*Model, error) by id: each layout is parsed once, when it is first needed, and never written to.
var parsed sync.Map

// Lookup returns the layout of a model.
func Lookup(id uint16) (*Model, error) {
	if !slices.Contains(IDs(), id) {
		return nil, fmt.Errorf("model %d: expected one of %v: %w", id, IDs(), ErrNoModel)
	}
	load, _ := parsed.LoadOrStore(id, sync.OnceValues(func() (*Model, error) { return loadModel(id) }))
	return load.(func() (*Model, error))() //nolint:forcetypeassert // nothing else is stored
}

func loadModel(id uint16) (*Model, error) {
	name := fmt.Sprintf("models/%d.yaml", id)
	data, err := modelFiles.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("reading SunSpec model: %w", err)
	}
	var m Model
	if err := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict()).Decode(&m); err != nil {
		return nil, fmt.Errorf("SunSpec model %s: %w", path.Base(name), err)
	}
	for _, g := range m.Groups {
		for _, p := range g.Points {
			p.Name = g.Name + "." + p.Name
			m.Points = append(m.Points, p)
		}
	}
	length := layOut(m.Points)
	if m.Repeat != nil {
		layOut(m.Repeat.Points)
	}
	if m.ID != id || len(m.Lengths) == 0 || length != m.Lengths[0]+2 {
		return nil, fmt.Errorf("SunSpec model %s: points of model %d take %d registers, expected 2 + %v", path.Base(name), m.ID, length, m.Lengths)
	}
	return &m, nil
}

func layOut(points []Point) (length uint16) {
	for i := range points {
		points[i].Offset = length
		length += points[i].Size
	}
	return length
}
