package access

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"path/filepath"
)

const tokenBytes = 32

// newToken makes a secret: 256 random bits in hexadecimal.
func newToken() string {
	var b [tokenBytes]byte
	_, _ = rand.Read(b[:]) // never fails: the program would have ended
	return hex.EncodeToString(b[:])
}

// writeToken makes the token of the machine's own commands, another one at each start, and puts
// it where only the home's owner can read it.
func writeToken(dir string) (string, error) {
	token := newToken()
	return token, replaceFile(filepath.Join(dir, TokenFile), []byte(token+"\n"))
}

// ReadToken reads the token that the running agent of a home takes. A file that others can read
// is an *ExposedError; one that is not there wraps fs.ErrNotExist.
func ReadToken(dir string) (string, error) {
	path := filepath.Join(dir, TokenFile)
	raw, err := readPrivate(path, 2*tokenBytes+1)
	if err != nil {
		return "", err
	}
	raw = bytes.TrimSuffix(raw, []byte("\n"))
	if b, err := hex.DecodeString(string(raw)); err != nil || len(b) != tokenBytes {
		return "", fmt.Errorf("%w: %s: want %d hexadecimal digits; the agent writes it at its next start", ErrDamaged, path, 2*tokenBytes)
	}
	return string(raw), nil
}
