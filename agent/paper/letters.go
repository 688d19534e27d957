package paper

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"
)

const alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

const (
	sumBytes = 4
	// MaxLetters bounds the bytes of a text: their number is its first symbol, and the code
	// protects up to 1023 symbols.
	MaxLetters = 512
	maxText    = 4096 // characters, with spaces, before anything is looked at
)

// Letters writes bytes as prefix:LETTERS; data has at most MaxLetters bytes.
func Letters(prefix string, data []byte) string {
	if len(data) > MaxLetters {
		panic(fmt.Sprintf("paper: %d bytes, want at most %d", len(data), MaxLetters)) // the caller's bound
	}
	symbols := append([]uint16{uint16(len(data))}, letterField.pack(append(slices.Clip(data), sum(prefix, data)...))...) //nolint:gosec // at most 512
	var b strings.Builder
	b.WriteString(prefix)
	b.WriteByte(':')
	for _, s := range letterField.protect(symbols) {
		b.WriteByte(alphabet[s>>5])
		b.WriteByte(alphabet[s&31])
	}
	return b.String()
}

func sum(prefix string, data []byte) []byte {
	h := sha256.New()
	fmt.Fprintf(h, "commonwatt/paper/1\x00%s\x00", strings.ToLower(prefix))
	h.Write(data)
	return h.Sum(nil)[:sumBytes]
}

// HasPrefix says whether a text is of that kind.
func HasPrefix(prefix, text string) bool {
	before, _, found := strings.Cut(strings.TrimSpace(text), ":")
	return found && strings.EqualFold(before, prefix)
}

// ReadLetters reads what Letters wrote, or names the mistake.
func ReadLetters(prefix, text string) ([]byte, error) {
	if len(text) > maxText {
		return nil, &Mistake{Text: fmt.Sprintf("got more than %d letters", maxText)}
	}
	before, rest, found := strings.Cut(strings.TrimSpace(text), ":")
	if !found || !strings.EqualFold(before, prefix) {
		return nil, &Mistake{Text: fmt.Sprintf("got %.40q, want a text that begins with %q", text, prefix+":")}
	}
	letters, err := clean(rest)
	if err != nil {
		return nil, err
	}
	if data, ok := decodeLetters(prefix, letters); ok {
		return data, nil
	}
	return nil, explainLetters(prefix, letters)
}

// clean drops what does not count, and turns letters into their values.
func clean(text string) ([]byte, error) {
	var values []byte
	for _, r := range text {
		switch r {
		case ' ', '\t', '\r', '\n', '-':
			continue
		case 'i', 'I', 'l', 'L':
			r = '1'
		case 'o', 'O':
			r = '0'
		}
		up := r
		if r >= 'a' && r <= 'z' {
			up = r - 'a' + 'A'
		}
		v := strings.IndexRune(alphabet, up)
		if v < 0 {
			return nil, &Mistake{
				Place: fmt.Sprintf("letter %d", len(values)+1), Got: string(r),
				Text: "cannot be there: there are only digits, and letters without I, L, O and U",
			}
		}
		values = append(values, byte(v)) //nolint:gosec // below 32
	}
	return values, nil
}

func toSymbols(values []byte) []uint16 {
	symbols := make([]uint16, len(values)/2)
	for i := range symbols {
		symbols[i] = uint16(values[2*i])<<5 | uint16(values[2*i+1])
	}
	return symbols
}

// decodeLetters is strict: length, check symbols, checksum and filling have to be right.
func decodeLetters(prefix string, values []byte) ([]byte, bool) {
	if len(values)%2 != 0 || len(values) < 2*3 || len(values)/2 > letterField.order() {
		return nil, false
	}
	symbols := toSymbols(values)
	if s0, s1 := letterField.syndromes(symbols); s0 != 0 || s1 != 0 {
		return nil, false
	}
	n := int(symbols[0])
	if n > MaxLetters {
		return nil, false
	}
	data, ok := letterField.unpack(symbols[1:len(symbols)-2], 8*(n+sumBytes))
	if !ok || subtle.ConstantTimeCompare(data[n:], sum(prefix, data[:n])) != 1 {
		return nil, false
	}
	return data[:n], true
}

// explainLetters finds the mistake, if one alone explains it: a letter that is another, is
// missing, is too many, or has changed places with its neighbour.
func explainLetters(prefix string, values []byte) error {
	if len(values)%2 == 0 && len(values) >= 6 && len(values)/2 <= letterField.order() {
		symbols := toSymbols(values)
		if at, right, ok := letterField.wrong(symbols); ok {
			return wrongPair(prefix, values, at, right)
		}
		for i := 0; i+1 < len(values); i++ {
			values[i], values[i+1] = values[i+1], values[i]
			_, ok := decodeLetters(prefix, values)
			values[i], values[i+1] = values[i+1], values[i]
			if ok {
				return &Mistake{
					Place: fmt.Sprintf("letters %d and %d", i+1, i+2), Got: spell(values[i : i+2]),
					Text: "have changed places", Right: spell([]byte{values[i+1], values[i]}), Sure: true,
				}
			}
		}
	}
	if len(values)%2 == 1 && len(values)/2 <= letterField.order() {
		if m := missingLetter(prefix, values); m != nil {
			return m
		}
	}
	return &Mistake{Text: fmt.Sprintf("of these %d letters more than one is wrong or missing: copy it again, or scan the picture", len(values))}
}

// wrongPair names the letter, or both, that make a symbol wrong.
func wrongPair(prefix string, values []byte, at int, right uint16) error {
	want := []byte{byte(right >> 5), byte(right & 31)} //nolint:gosec // a symbol has ten bits
	got := values[2*at : 2*at+2]
	mended := append([]byte(nil), values...)
	copy(mended[2*at:], want)
	_, sure := decodeLetters(prefix, mended)
	if !sure {
		return &Mistake{Text: fmt.Sprintf("of these %d letters more than one is wrong: copy it again, or scan the picture", len(values))}
	}
	m := &Mistake{Text: "cannot be right", Sure: true}
	switch {
	case got[0] == want[0]:
		m.Place, m.Got, m.Right = fmt.Sprintf("letter %d", 2*at+2), spell(got[1:]), spell(want[1:])
	case got[1] == want[1]:
		m.Place, m.Got, m.Right = fmt.Sprintf("letter %d", 2*at+1), spell(got[:1]), spell(want[:1])
	default:
		m.Place, m.Got, m.Right = fmt.Sprintf("letters %d and %d", 2*at+1, 2*at+2), spell(got), spell(want)
	}
	return m
}

// missingLetter tries what one letter less or more would have been.
func missingLetter(prefix string, values []byte) *Mistake {
	for i := range values {
		less := append(append([]byte(nil), values[:i]...), values[i+1:]...)
		if _, ok := decodeLetters(prefix, less); ok {
			return &Mistake{Place: fmt.Sprintf("letter %d", i+1), Got: spell(values[i : i+1]), Text: "is one too many"}
		}
	}
	more := make([]byte, len(values)+1)
	for i := range more {
		copy(more, values[:i])
		copy(more[i+1:], values[i:])
		for v := range byte(len(alphabet)) {
			more[i] = v
			if s0, s1 := letterField.syndromes(toSymbols(more)); s0 != 0 || s1 != 0 {
				continue
			}
			if _, ok := decodeLetters(prefix, more); ok {
				return &Mistake{Text: fmt.Sprintf("letter %d is missing: if the rest is right it is %q", i+1, spell([]byte{v}))}
			}
		}
	}
	return nil
}

func spell(values []byte) string {
	b := make([]byte, len(values))
	for i, v := range values {
		b[i] = alphabet[v]
	}
	return string(b)
}
