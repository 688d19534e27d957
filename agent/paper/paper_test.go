package paper

import (
	"bytes"
	"crypto/rand"
	"errors"
	"image/png"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestFieldsAreFields(t *testing.T) {
	for _, f := range []*field{letterField, wordField} {
		seen := map[uint16]bool{}
		for _, x := range f.exp[:f.order()] {
			seen[x] = true
		}
		if len(seen) != f.order() || seen[0] {
			t.Errorf("GF(2^%d): %d powers of x, want %d", f.bits, len(seen), f.order())
		}
		rapid.Check(t, func(t *rapid.T) {
			symbol := rapid.Uint16Range(0, uint16(f.order()))
			a, b, c := symbol.Draw(t, "a"), symbol.Draw(t, "b"), symbol.Draw(t, "c")
			if f.mul(a, b^c) != f.mul(a, b)^f.mul(a, c) || f.mul(a, b) != f.mul(b, a) || b != 0 && f.div(f.mul(a, b), b) != a {
				t.Fatalf("GF(2^%d): %d, %d, %d", f.bits, a, b, c)
			}
		})
	}
}

// payload draws bytes as long as an invitation's.
func payload(t *rapid.T) []byte { return rapid.SliceOfN(rapid.Byte(), 0, 160).Draw(t, "data") }

func TestW1Letters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := payload(t)
		text := Letters("commonwatt", data)
		spelled := []string{text, strings.ToLower(text), "  " + text + "\n", strings.ReplaceAll(text, "0", "o"), strings.ReplaceAll(text, "1", "l")}
		spelled = append(spelled, text[:13]+" - "+text[13:])
		for _, s := range spelled {
			// The prefix itself has letters that are looked for as they are.
			if !HasPrefix("commonwatt", s) {
				continue
			}
			got, err := ReadLetters("commonwatt", s)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%q: %x, %v", s, got, err)
			}
		}
		if _, err := ReadLetters("commonwatt-share", "commonwatt-share:"+strings.TrimPrefix(text, "commonwatt:")); err == nil {
			t.Fatal("a text of another kind was taken")
		}
	})
}

// W2 for letters: each place, each wrong letter is found and named.
func TestW2OneLetter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := payload(t)
		text := Letters("commonwatt", data)
		head := len("commonwatt:")
		at := rapid.IntRange(head, len(text)-1).Draw(t, "at")
		other := alphabet[rapid.IntRange(0, 31).Draw(t, "other")]
		if other == text[at] {
			return
		}
		_, err := ReadLetters("commonwatt", text[:at]+string(other)+text[at+1:])
		m := (*Mistake)(nil)
		if !errors.As(err, &m) {
			t.Fatalf("got %v", err)
		}
		place := at - head + 1
		if m.Place != "letter "+itoa(place) || m.Got != string(other) || m.Right != string(text[at]) || !m.Sure {
			t.Fatalf("letter %d %q for %q: %v", place, other, text[at], m)
		}
		// Two wrong letters are noticed.
		second := rapid.IntRange(head, len(text)-1).Draw(t, "second")
		swap := alphabet[rapid.IntRange(0, 31).Draw(t, "swap")]
		b := []byte(text)
		b[at], b[second] = other, swap
		if second != at && swap != text[second] {
			if got, err := ReadLetters("commonwatt", string(b)); err == nil {
				t.Fatalf("two wrong letters: %x", got)
			}
		}
	})
}

func itoa(n int) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append(b, byte('0'+n%10))
	}
	slices.Reverse(b)
	return string(b)
}

func TestLettersMissingOrTooMany(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 1, 12).Draw(t, "data")
		text := Letters("commonwatt", data)
		at := rapid.IntRange(len("commonwatt:"), len(text)-1).Draw(t, "at")
		for s, want := range map[string]string{
			text[:at] + text[at+1:]:                    "is missing",
			text[:at] + "7" + text[at:]:                "one too many",
			text[:at] + string(text[at]) + text[at+1:]: "",
		} {
			got, err := ReadLetters("commonwatt", s)
			if s == text {
				if err != nil || !bytes.Equal(got, data) {
					t.Fatal(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), want) {
				t.Fatalf("%q: %v", s, err)
			}
		}
		if at+1 < len(text) && text[at] != text[at+1] {
			b := []byte(text)
			b[at], b[at+1] = b[at+1], b[at]
			_, err := ReadLetters("commonwatt", string(b))
			if err == nil || !strings.HasPrefix(err.Error(), "letters ") {
				t.Fatalf("swapped at %d: %v", at, err)
			}
		}
	})
}

const testBits = 132

func wordData(t *rapid.T) []byte {
	data := rapid.SliceOfN(rapid.Byte(), 17, 17).Draw(t, "data")
	data[16] &= 0xf0
	return data
}

func TestW1W2Words(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := wordData(t)
		words := EncodeWords(data, testBits)
		if len(words) != 14 {
			t.Fatalf("%d words", len(words))
		}
		got, err := DecodeWords(SplitWords("1. "+strings.ToUpper(strings.Join(words, ", "))), testBits)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%x, %v", got, err)
		}
		at := rapid.IntRange(0, 13).Draw(t, "at")
		other := list[rapid.IntRange(0, 2047).Draw(t, "other")]
		if other != words[at] {
			bad := slices.Clone(words)
			bad[at] = other
			checkMistake(t, bad, at, words[at])
			second := rapid.IntRange(0, 13).Draw(t, "second")
			bad[second] = list[rapid.IntRange(0, 2047).Draw(t, "third")]
			if got, err := DecodeWords(bad, testBits); err == nil && !slices.Equal(bad, words) {
				t.Fatalf("two wrong words: %x", got)
			}
		}
		bad := slices.Clone(words)
		bad[at] = "x" + words[at]
		checkMistake(t, bad, at, words[at])
		if at < 13 && words[at] != words[at+1] {
			bad = slices.Clone(words)
			bad[at], bad[at+1] = bad[at+1], bad[at]
			if _, err := DecodeWords(bad, testBits); err == nil {
				t.Fatal("swapped words were taken")
			}
		}
	})
}

func checkMistake(t *rapid.T, bad []string, at int, right string) {
	_, err := DecodeWords(bad, testBits)
	m := (*Mistake)(nil)
	if !errors.As(err, &m) || m.Place != "word "+itoa(at+1) || m.Right != right || !m.Sure || m.Got != bad[at] {
		t.Fatalf("word %d %q for %q: %v", at+1, bad[at], right, err)
	}
}

func TestRecoveryWords(t *testing.T) {
	// A vector of BIP-39's own: 24 words of a seed of zeros.
	want := append(slices.Repeat([]string{"abandon"}, 23), "art")
	if got := RecoveryWords([32]byte{}); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		seed := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "seed"))
		words := RecoveryWords(seed)
		got, err := SeedOf(SplitWords(strings.Join(words, "\n")))
		if err != nil || got != seed {
			t.Fatalf("%x, %v", got, err)
		}
	})
	for text, part := range map[string]string{
		strings.Join(want[1:], " "):                                 "got 23 words, want 24",
		strings.Join(append([]string{"abandno"}, want[1:]...), " "): `word 1: got "abandno", which is not one of the words used; did you mean "abandon"?`,
		strings.Join(append([]string{"zoo"}, want[1:]...), " "):     "one of them is another",
	} {
		if _, err := SeedOf(SplitWords(text)); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got %v, want %q", err, part)
		}
	}
	if err := Differ([]string{"a", "b"}, []string{"a", "c"}); err == nil || !strings.HasPrefix(err.Error(), `word 2: got "b"`) {
		t.Errorf("got %v", err)
	}
}

func TestW4Shares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "secret"))
		n := rapid.IntRange(2, MaxShares).Draw(t, "n")
		need := rapid.IntRange(2, n).Draw(t, "need")
		shares, err := Split(secret, n, need, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		some := rapid.Permutation(shares).Draw(t, "order")
		got, err := Combine(some[:rapid.IntRange(need, n).Draw(t, "given")])
		if err != nil || got != secret {
			t.Fatalf("%d of %d: %x, %v", need, n, got, err)
		}
		if _, err := Combine(some[:need-1]); !errors.Is(err, ErrShares) {
			t.Fatalf("too few: %v", err)
		}
		if _, err := Combine(append(slices.Clone(some), some[0])); !errors.Is(err, ErrShares) {
			t.Fatalf("twice: %v", err)
		}
		// One less than needed fits every secret: with the right last share it is any other one.
		other := secret
		other[0] ^= 1
		few := slices.Clone(some[:need])
		last := forge(few, other)
		if got, err := Combine(append(few[:need-1:need-1], last)); err != nil || got != other {
			t.Fatalf("another secret: %x, %v", got, err)
		}
	})
}

// forge gives the last share such a first byte that the secret is the other one.
func forge(shares []Share, secret [32]byte) Share {
	last := shares[len(shares)-1]
	for v := range 256 {
		last.Value[0] = byte(v)
		if got, err := Combine(append(shares[:len(shares)-1:len(shares)-1], last)); err == nil && got == secret {
			break
		}
	}
	return last
}

func TestMul256(t *testing.T) {
	for a := range 256 {
		for b := range 256 {
			if got, want := mul256(byte(a), byte(b)), slowMul(a, b); got != want {
				t.Fatalf("%d * %d: got %d, want %d", a, b, got, want)
			}
		}
		if a > 0 && mul256(byte(a), inverse256(byte(a))) != 1 {
			t.Fatalf("inverse of %d", a)
		}
	}
}

// slowMul multiplies polynomials and divides by hand.
func slowMul(a, b int) byte {
	p := 0
	for i := range 8 {
		if b>>i&1 == 1 {
			p ^= a << i
		}
	}
	for i := 14; i >= 8; i-- {
		if p>>i&1 == 1 {
			p ^= 0x11b << (i - 8)
		}
	}
	return byte(p)
}

func TestPictures(t *testing.T) {
	text := Letters("commonwatt", make([]byte, 150))
	var b bytes.Buffer
	if err := PNG(&b, text); err != nil {
		t.Fatal(err)
	}
	img, err := png.Decode(&b)
	if err != nil || img.Bounds().Dx() < 8*21 || img.Bounds().Dx() != img.Bounds().Dy() {
		t.Fatalf("%v, %v", img.Bounds(), err)
	}
	var screen strings.Builder
	if err := Terminal(&screen, text, true); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(screen.String(), "\n"), "\n")
	if width := len([]rune(lines[0])); width > 80 || len(lines) != (width+1)/2 {
		t.Errorf("%d lines of %d", len(lines), width)
	}
}

func FuzzLetters(f *testing.F) {
	f.Add("commonwatt:" + strings.Repeat("A", 100))
	f.Add(Letters("commonwatt", []byte("hello")))
	f.Fuzz(func(t *testing.T, text string) {
		data, err := ReadLetters("commonwatt", text)
		if err != nil {
			return
		}
		// W1: the one spelling, but for what does not count.
		again, err := clean(strings.TrimPrefix(Letters("commonwatt", data), "commonwatt:"))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(text, ":")
		was, err := clean(rest)
		if err != nil || !bytes.Equal(was, again) {
			t.Fatalf("%q is a second spelling of %x", text, data)
		}
	})
}

func FuzzWords(f *testing.F) {
	f.Add(strings.Join(EncodeWords(make([]byte, 17), testBits), " "))
	f.Add("abandon " + strings.Repeat("zoo ", 13))
	f.Fuzz(func(t *testing.T, text string) {
		words := SplitWords(text)
		if data, err := DecodeWords(words, testBits); err == nil && !slices.Equal(EncodeWords(data, testBits), words) {
			t.Fatalf("%q is a second spelling of %x", text, data)
		}
		if seed, err := SeedOf(words); err == nil && !slices.Equal(RecoveryWords(seed), words) {
			t.Fatalf("%q is a second spelling of %x", text, seed)
		}
	})
}
