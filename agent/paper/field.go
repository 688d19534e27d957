package paper

// A field is GF(2^bits), by tables of the powers of its generator x.
type field struct {
	bits int
	exp  []uint16 // exp[i] = x^i, twice over, so that sums of logarithms need no modulus
	log  []uint16
}

// The fields: a symbol of one is a pair of letters, of the other a word. The polynomials
// are primitive, so the powers of x are all symbols but 0 (a test counts them).
var (
	letterField = newField(10, 1<<10|1<<3|1)
	wordField   = newField(11, 1<<11|1<<2|1)
)

func newField(bits int, polynomial int) *field {
	order := 1<<bits - 1
	f := &field{bits: bits, exp: make([]uint16, 2*order), log: make([]uint16, order+1)}
	for i, x := 0, 1; i < order; i++ {
		f.exp[i], f.exp[i+order] = uint16(x), uint16(x) // below 2^11
		f.log[x] = uint16(i)                            // below 2^11
		if x <<= 1; x > order {
			x ^= polynomial
		}
	}
	return f
}

func (f *field) order() int { return len(f.log) - 1 }

func (f *field) mul(a, b uint16) uint16 {
	if a == 0 || b == 0 {
		return 0
	}
	return f.exp[int(f.log[a])+int(f.log[b])]
}

func (f *field) div(a, b uint16) uint16 {
	if a == 0 {
		return 0
	}
	return f.exp[int(f.log[a])+f.order()-int(f.log[b])]
}

// syndromes are the two sums that are zero in an undamaged row of symbols: of all c[i],
// and of all c[i] x^i.
func (f *field) syndromes(c []uint16) (s0, s1 uint16) {
	for i, v := range c {
		s0 ^= v
		s1 ^= f.mul(v, f.exp[i%f.order()])
	}
	return s0, s1
}

// protect appends two symbols, so that both syndromes are zero: no one or two symbols can
// then be wrong without being noticed, and one that is wrong can be found.
func (f *field) protect(data []uint16) []uint16 {
	n := len(data)
	s0, s1 := f.syndromes(data)
	x0, x1 := f.exp[n%f.order()], f.exp[(n+1)%f.order()]
	second := f.div(s1^f.mul(x0, s0), x0^x1)
	return append(data[:n:n], s0^second, second)
}

// wrong finds the only wrong symbol; ok is false if it takes more than one to explain it.
func (f *field) wrong(c []uint16) (at int, right uint16, ok bool) {
	s0, s1 := f.syndromes(c)
	if s0 == 0 || s1 == 0 {
		return 0, 0, false
	}
	at = (int(f.log[s1]) + f.order() - int(f.log[s0])) % f.order()
	if at >= len(c) {
		return 0, 0, false
	}
	return at, c[at] ^ s0, true
}

// pack turns bytes into symbols; the last is filled up with zero bits.
func (f *field) pack(data []byte) []uint16 {
	var out []uint16
	acc, have := uint32(0), 0
	for _, b := range data {
		acc, have = acc<<8|uint32(b), have+8
		for have >= f.bits {
			have -= f.bits
			out = append(out, uint16(acc>>have)) //nolint:gosec // at most 11 bits, see the mask
			acc &= 1<<have - 1
		}
	}
	if have > 0 {
		out = append(out, uint16(acc<<(f.bits-have))) //nolint:gosec // at most 11 bits
	}
	return out
}

// unpack is the other way, for so many bits; ok is false if there are not as many symbols
// as they take, or what fills the last one up is not zero.
func (f *field) unpack(symbols []uint16, bits int) (data []byte, ok bool) {
	if bits < 0 || len(symbols) != (bits+f.bits-1)/f.bits {
		return nil, false
	}
	data = make([]byte, (len(symbols)*f.bits+7)/8)
	for i, s := range symbols {
		for j := range f.bits {
			if at := i*f.bits + j; s>>(f.bits-1-j)&1 == 1 {
				if at >= bits {
					return nil, false
				}
				data[at/8] |= 1 << (7 - at%8)
			}
		}
	}
	return data[:(bits+7)/8], true
}
