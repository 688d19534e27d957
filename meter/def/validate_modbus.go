package def

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
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
		p, field := d.Points[name], "points."+name
		checkUnit(c, field, name, p)
		c.want(p.Words() > 0, field+".type", strconv.Quote(p.Type), "one of "+typeNames())
		c.want(p.Order == "" || p.Order == OrderBig || p.Order == OrderLittle, field+".order", strconv.Quote(p.Order), "big or little")
		c.want(p.Exponent >= -9 && p.Exponent <= 9, field+".exponent", p.Exponent, "-9 to 9")
		c.want(p.WrapBits == 0 || wrapAt(p.WrapBits, p.shift()) > 0, field+".wrap_bits", p.WrapBits, "8 to 63")
		c.want(len(p.From) == 0 && !p.Sum && !p.Negative, field, "fields of another protocol", "block, address, type")
		b, i := d.block(p.Block)
		c.want(i >= 0, field+".block", strconv.Quote(p.Block), "the name of a block")
		if i < 0 {
			continue
		}
		within := "an address within its block, " + b.reach()
		c.want(b.holds(p.Address, p.Words()), field+".address", p.Address, within)
		if p.Scale != nil {
			c.want(p.Scale.Type == "int16" || p.Scale.Type == "uint16", field+".scale.type", strconv.Quote(p.Scale.Type), "int16 or uint16")
			c.want(b.holds(p.Scale.Address, 1), field+".scale.address", p.Scale.Address, within)
		}
	}
	d.checkIdentity(c, func(field string, p *IdentityPoint) {
		c.want(len(p.From) == 0 && !p.Device, field, "fields of MQTT", "text, or function, address and type")
		if p.Text == "" {
			c.want(p.Function == 3 || p.Function == 4, field+".function", p.Function, "3 (holding) or 4 (input)")
			c.want(p.words() >= 1 && p.words() <= maxBlock && int(p.Address)+int(p.words()) <= 1<<16, field+".type", strconv.Quote(p.Type), "uint16, uint32, uint64, or string with a count")
			c.want(p.Order == "" || p.Order == OrderBig || p.Order == OrderLittle, field+".order", strconv.Quote(p.Order), "big or little")
		}
	})
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
	case "string":
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
