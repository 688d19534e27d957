package access

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// What a password costs to check: 19 MiB and 3 passes, some 0.1 s on a PC and less than a second on a
// Raspberry Pi. The memory is that of the OWASP password storage cheat sheet's recommendation for argon2id.
const (
	argonMemory  = 19 << 10 // KiB
	argonPasses  = 3
	argonThreads = 1
	saltBytes    = 16
	hashBytes    = 32

	// A file that says more than these is not ours, and would eat the machine's memory.
	maxArgonMemory = 256 << 10
	maxArgonPasses = 16
)

// Bounds of a password.
const (
	minPassword      = 12  // characters
	maxPasswordBytes = 256 // of which each could be three in a form
	minDistinct      = 5   // characters
	minOwn           = 8   // characters beside names that anybody would guess
)

// checkPassword refuses what would be guessed before the throttle can help.
func checkPassword(password, account string) error {
	bad := func(format string, args ...any) error {
		return &InputError{"password", fmt.Sprintf(format, args...)}
	}
	n := utf8.RuneCountInString(password)
	switch {
	case len(password) > maxPasswordBytes:
		return bad("has %d bytes, want at most %d", len(password), maxPasswordBytes)
	case !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl):
		return bad("has characters that cannot be typed, want letters, digits, signs and spaces")
	case n < minPassword:
		return bad("has %d characters, want at least %d; a few words in a row are good", n, minPassword)
	}
	distinct := map[rune]bool{}
	own := strings.ToLower(password)
	for _, r := range own {
		distinct[r] = true
	}
	if len(distinct) < minDistinct {
		return bad("has %d different characters, want at least %d", len(distinct), minDistinct)
	}
	for _, known := range []string{account, "commonwatt", "password", "passwort", "123456789", "12345678", "abcdefgh", "qwertyuiop", "qwertzuiop"} {
		if known != "" {
			own = strings.ReplaceAll(own, strings.ToLower(known), "")
		}
	}
	if rest := utf8.RuneCountInString(own); rest < minOwn {
		return bad("has %d characters beside words that anybody would guess, want at least %d", rest, minOwn)
	}
	return nil
}

// hashPassword makes what is kept of a password, in the usual form of argon2 ($argon2id$v=19$...).
func hashPassword(password string) string {
	var salt [saltBytes]byte
	_, _ = rand.Read(salt[:]) // never fails: the program would have ended
	sum := argon2.IDKey([]byte(password), salt[:], argonPasses, argonMemory, argonThreads, hashBytes)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonPasses, argonThreads, b64.EncodeToString(salt[:]), b64.EncodeToString(sum))
}

// kept is a hash as it is written in the accounts' file.
type kept struct {
	memory, passes uint32
	threads        uint8
	salt, sum      []byte
}

// parseHash reads what hashPassword wrote, within bounds.
func parseHash(text string) (kept, error) {
	var k kept
	var version int
	parts := strings.Split(text, "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || len(text) > 200 {
		return k, fmt.Errorf("%w: want a password kept as $argon2id$", ErrDamaged)
	}
	if _, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &k.memory, &k.passes, &k.threads); err != nil || version != argon2.Version {
		return k, fmt.Errorf("%w: the parameters of a kept password", ErrDamaged)
	}
	var err error
	b64 := base64.RawStdEncoding.Strict()
	if k.salt, err = b64.DecodeString(parts[4]); err != nil || len(k.salt) < 8 {
		return k, fmt.Errorf("%w: the salt of a kept password", ErrDamaged)
	}
	if k.sum, err = b64.DecodeString(parts[5]); err != nil || len(k.sum) < 16 {
		return k, fmt.Errorf("%w: a kept password", ErrDamaged)
	}
	if k.memory < 8 || k.memory > maxArgonMemory || k.passes < 1 || k.passes > maxArgonPasses || k.threads < 1 || k.threads > 8 {
		return k, fmt.Errorf("%w: the parameters of a kept password are out of bounds", ErrDamaged)
	}
	return k, nil
}

// fits says whether a password is the kept one. It takes as long for a wrong one as for the right one.
func (k kept) fits(password string) bool {
	sum := argon2.IDKey([]byte(password), k.salt, k.passes, k.memory, k.threads, uint32(len(k.sum))) //nolint:gosec // at most 200 bytes, see parseHash
	return subtle.ConstantTimeCompare(sum, k.sum) == 1
}

// newPassword makes one for a person to type once: 100 bits in five groups.
func newPassword() string {
	return strings.ToLower(strings.Join([]string{random(4), random(4), random(4), random(4), random(4)}, "-"))
}

// alphabet has no letters or digits that look alike.
const alphabet = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"

// random makes n characters that a person can read aloud.
func random(n int) string {
	out := make([]byte, 0, n)
	var b [1]byte
	for len(out) < n {
		_, _ = rand.Read(b[:])
		if i := int(b[0]); i < 256/len(alphabet)*len(alphabet) { // the rest would favour the first letters
			out = append(out, alphabet[i%len(alphabet)])
		}
	}
	return string(out)
}
