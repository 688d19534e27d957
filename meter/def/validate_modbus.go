package def

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

func (d *Definition) checkModbus(c *checker) {
	m := d.Modbus
	c.want(d.SignedBy == SignedByAgent, "signed_by", d.SignedBy, "agent: a Modbus device does not sign")
	c.want(len(m.Blocks) > 0 && len(m.Blocks) <= maxList, "modbus.blocks", len(m.Blocks), "1 to 64 blocks")
	for i, b := range m.Blocks {
		field := fmt.Sprintf("modbus.blocks[%d]", i)
		_, twice := d.block(b.Name)
		c.want(b.Name != "" && twice == i, field+".name", strconv.Quote(b.Name), "a name of its own")
		c.want(b.Function == 3 || b.Function == 4, field+".function", b.Function, "3 (holding) or 4 (input)")
		c.want(b.Count >= 1 && b.Count <= maxBlock && int(b.Address)+int(b.Count) <= 1<<16, field+".count", b.Count, "1 to 125, within 65536")
	}
	c.want(len(d.Points) > 0, "points", "none", "at least one of import, export, power")
	for _, name := range slices.Sorted(maps.Keys(d.Points)) {
		d.checkRegisterPoint(c, "points."+name, name, d.Points[name])
	}
	for i, f := range m.Faults {
		field, p := fmt.Sprintf("modbus.faults[%d]", i), Point{Block: f.Block, Address: f.Address, Type: f.Type, Order: f.Order}
		d.checkRegister(c, field, p)
		d.checkAlways(c, field, f.Block)
		c.want(strings.HasPrefix(f.Type, "uint"), field+".type", strconv.Quote(f.Type), "uint16, uint32 or uint64")
		c.want(len(f.Values) > 0, field+".values", "none", "the values that mean a fault")
		checkRaw(c, field+".values", p, f.Values)
	}
	c.want(len(m.Faults) <= maxList, "modbus.faults", len(m.Faults), "at most 64")
	d.checkIdentity(c, func(field string, p *IdentityPoint) { d.checkRegisterIdentity(c, field, p) })
}

func (d *Definition) checkRegisterPoint(c *checker, field, name string, p Point) {
	checkUnit(c, field, name, p)
	c.want(len(p.From) == 0 && !p.Sum && !p.Negative, field, "fields of another protocol", "block, address, type")
	c.want(p.WrapBits == 0 || wrapAt(p.WrapBits, p.shift()) > 0, field+".wrap_bits", p.WrapBits, "8 to 63")
	c.want(p.WrapBits == 0 || !isFloat(p.Type), field+".wrap_bits", p.WrapBits, "nothing: a float grows coarse and does not wrap")
	c.want(p.WrapBits == 0 || len(p.Add)+len(p.Subtract) == 0, field+".wrap_bits", p.WrapBits, "nothing: a sum of registers wraps at none of them")
	c.want(len(p.Subtract) == 0 || name == PointPower, field+".subtract", len(p.Subtract), "nothing: only power has a direction, counters rise")
	c.want(len(p.Add) <= maxList && len(p.Subtract) <= maxList, field, len(p.Add)+len(p.Subtract), "at most 64 registers")
	all, minus := p.terms()
	for i, t := range all {
		field := field
		switch {
		case i >= minus:
			field = fmt.Sprintf("%s.subtract[%d]", field, i-minus)
		case i > 0:
			field = fmt.Sprintf("%s.add[%d]", field, i-1)
		}
		d.checkRegister(c, field, t)
		c.want(t.Exponent >= -9 && t.Exponent <= 9, field+".exponent", t.Exponent, "-9 to 9")
		checkRaw(c, field+".invalid", t, t.Invalid)
	}
	if b, i := d.block(p.Block); p.Scale != nil && i >= 0 {
		c.want(p.Scale.Type == "int16" || p.Scale.Type == "uint16", field+".scale.type", strconv.Quote(p.Scale.Type), "int16 or uint16")
		c.want(b.holds(p.Scale.Address, 1), field+".scale.address", p.Scale.Address, "an address within its block, "+b.reach())
	}
}

// checkRegister checks where a value is and how it is written.
func (d *Definition) checkRegister(c *checker, field string, p Point) {
	c.want(p.Words() > 0, field+".type", strconv.Quote(p.Type), "one of "+typeNames())
	c.want(p.Order == "" || p.Order == OrderBig || p.Order == OrderLittle, field+".order", strconv.Quote(p.Order), "big or little")
	d.checkWithin(c, field, p.Block, p.Address, p.Words())
}

func (d *Definition) checkWithin(c *checker, field, block string, address uint16, count int) {
	b, i := d.block(block)
	c.want(i >= 0, field+".block", strconv.Quote(block), "the name of a block")
	if i >= 0 {
		c.want(b.holds(address, count), field+".address", address, "an address within its block, "+b.reach())
	}
}

// checkRaw checks that the register can hold the raw values at all.
func checkRaw(c *checker, field string, p Point, values []uint64) {
	c.want(len(values) <= maxList, field, len(values), "at most 64 values")
	for _, v := range values {
		c.want(p.Words() >= 4 || v>>(16*p.Words()) == 0, field, v, fmt.Sprintf("values of %d bits", 16*p.Words()))
	}
}

func (d *Definition) checkRegisterIdentity(c *checker, field string, p *IdentityPoint) {
	c.want(len(p.From) == 0 && !p.Device, field, "fields of MQTT", "text, or function, address and type")
	if p.Text != "" && len(p.Expect) == 0 {
		return
	}
	c.want(p.words() >= 1 && p.words() <= maxBlock && int(p.Address)+int(p.words()) <= 1<<16, field+".type", strconv.Quote(p.Type), "uint16, uint32, uint64, or string or bcd with a count")
	c.want(p.Order == "" || p.Order == OrderBig || p.Order == OrderLittle, field+".order", strconv.Quote(p.Order), "big or little")
	if p.Block == "" {
		c.want(p.Function == 3 || p.Function == 4, field+".function", p.Function, "3 (holding) or 4 (input)")
		return
	}
	c.want(p.Function == 0 && !p.Optional, field, "function or optional too", "just the block: it is read with the values")
	d.checkWithin(c, field, p.Block, p.Address, int(p.words()))
	d.checkAlways(c, field, p.Block)
}

// checkAlways refuses a block that a device may not have.
func (d *Definition) checkAlways(c *checker, field, block string) {
	b, _ := d.block(block)
	c.want(!b.Optional, field+".block", strconv.Quote(block), "a block that is not optional")
}

// words is the number of registers of an identity point, 0 if its type is none.
func (p *IdentityPoint) words() uint16 {
	switch p.Type {
	case "uint16":
		return 1
	case "uint32":
		return 2
	case "uint64":
		return 4
	case "string", "bcd":
		return p.Count
	}
	return 0
}

// holds reports whether a block has all of these registers.
func (b Block) holds(address uint16, count int) bool {
	return address >= b.Address && int(address)+count <= int(b.Address)+int(b.Count)
}

// reach is the registers of a block, for people.
func (b Block) reach() string {
	return fmt.Sprintf("%d to %d (0x%04x to 0x%04x)", b.Address, int(b.Address)+int(b.Count)-1, b.Address, int(b.Address)+int(b.Count)-1)
}

func (d *Definition) block(name string) (Block, int) {
	i := slices.IndexFunc(d.Modbus.Blocks, func(b Block) bool { return b.Name == name })
	if i < 0 {
		return Block{}, i
	}
	return d.Modbus.Blocks[i], i
}
