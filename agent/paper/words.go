package paper

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tyler-smith/go-bip39"
	"github.com/tyler-smith/go-bip39/wordlists"
)

var (
	list  = wordlists.English
	index = func() map[string]uint16 {
		m := make(map[string]uint16, len(list))
		for i, w := range list {
			m[w] = uint16(i) // below 2048
		}
		return m
	}()
)

const (
	maxWords     = 64
	maxWordBytes = 24 // no word has more than 8
	checkWords   = 2
)

// SplitWords takes words as people write them: with spaces, commas, numbers or hyphens
// between them, on several lines, in capitals.
func SplitWords(text string) []string {
	if len(text) > maxWords*maxWordBytes {
		text = text[:maxWords*maxWordBytes]
	}
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return strings.ContainsRune(" \t\r\n,;.-)(0123456789", r)
	})
}

// WordCount is how many words EncodeWords makes of so many bits.
func WordCount(bits int) int { return (bits+10)/11 + checkWords }

// EncodeWords writes the first bits of data; what is behind them has to be zero.
func EncodeWords(data []byte, bits int) []string {
	symbols := wordField.pack(data)[:(bits+10)/11]
	words := make([]string, 0, len(symbols)+checkWords)
	for _, s := range wordField.protect(symbols) {
		words = append(words, list[s])
	}
	return words
}

// DecodeWords reads what EncodeWords wrote, or names the mistake.
func DecodeWords(words []string, bits int) ([]byte, error) {
	if want := WordCount(bits); len(words) != want {
		return nil, &Mistake{Text: fmt.Sprintf("got %d words, want %d", len(words), want)}
	}
	symbols, unknown := lookUp(words)
	switch len(unknown) {
	case 0:
	case 1:
		// The others say what it has to be; that they agree is the second check.
		at := unknown[0]
		s0, _ := wordField.syndromes(symbols)
		symbols[at] = s0
		m := notListed(words, at)
		if _, s1 := wordField.syndromes(symbols); s1 == 0 {
			m.Right, m.Sure = list[s0], true
		}
		return nil, m
	default:
		var all []error
		for _, at := range unknown[:min(len(unknown), 5)] {
			all = append(all, notListed(words, at))
		}
		return nil, errors.Join(all...)
	}
	if s0, s1 := wordField.syndromes(symbols); s0 != 0 || s1 != 0 {
		return nil, wrongWord(words, symbols)
	}
	data, ok := wordField.unpack(symbols[:len(symbols)-checkWords], bits)
	if !ok {
		return nil, &Mistake{Text: fmt.Sprintf("these %d words are none that were given out", len(words))}
	}
	return data, nil
}

func lookUp(words []string) (symbols []uint16, unknown []int) {
	symbols = make([]uint16, len(words))
	for i, w := range words {
		s, ok := index[w]
		if !ok {
			unknown = append(unknown, i)
		}
		symbols[i] = s
	}
	return symbols, unknown
}

func notListed(words []string, at int) *Mistake {
	return &Mistake{Place: fmt.Sprintf("word %d", at+1), Got: shorten(words[at]), Text: "is not one of the words used", Right: nearest(words[at])}
}

func shorten(word string) string { return word[:min(len(word), maxWordBytes)] }

func wrongWord(words []string, symbols []uint16) error {
	if at, right, ok := wordField.wrong(symbols); ok {
		return &Mistake{Place: fmt.Sprintf("word %d", at+1), Got: words[at], Text: "cannot be right", Right: list[right], Sure: true}
	}
	for i := range len(symbols) - 1 {
		swapped := slices.Clone(symbols)
		swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
		if s0, s1 := wordField.syndromes(swapped); s0 == 0 && s1 == 0 {
			return &Mistake{
				Place: fmt.Sprintf("words %d and %d", i+1, i+2), Got: words[i] + " " + words[i+1], Text: "have changed places",
				Right: words[i+1] + " " + words[i], Sure: true,
			}
		}
	}
	return &Mistake{Text: "more than one of the words is another than was given out: compare them with the paper"}
}

// RecoveryWords are the 24 words of BIP-39 for a seed of 32 bytes.
func RecoveryWords(seed [32]byte) []string {
	text, err := bip39.NewMnemonic(seed[:])
	if err != nil {
		panic("paper: " + err.Error()) // only a seed of another length can cause it
	}
	return strings.Fields(text)
}

// RecoveryCount is how many recovery words there are.
const RecoveryCount = 24

// SeedOf reads recovery words. Their checksum has eight bits: one wrong word in 256 that
// is in the list passes it, and no place can be named.
func SeedOf(words []string) (seed [32]byte, err error) {
	if len(words) != RecoveryCount {
		return seed, &Mistake{Text: fmt.Sprintf("got %d words, want %d", len(words), RecoveryCount)}
	}
	if _, unknown := lookUp(words); len(unknown) > 0 {
		var all []error
		for _, at := range unknown[:min(len(unknown), 5)] {
			all = append(all, notListed(words, at))
		}
		return seed, errors.Join(all...)
	}
	raw, err := bip39.EntropyFromMnemonic(strings.Join(words, " "))
	if err != nil || len(raw) != len(seed) {
		return seed, &Mistake{Text: "all words are in the list, but one of them is another than was shown, or two have changed places: compare them with the paper"}
	}
	return [32]byte(raw), nil
}

// Differ names the first word that is another than it should be; for those who know what
// the words have to be.
func Differ(got, want []string) error {
	for i, word := range want {
		if i < len(got) && got[i] != word {
			return &Mistake{Place: fmt.Sprintf("word %d", i+1), Got: shorten(got[i]), Text: "is not the word that was shown"}
		}
	}
	if len(got) != len(want) {
		return &Mistake{Text: fmt.Sprintf("got %d words, want %d", len(got), len(want))}
	}
	return nil
}
