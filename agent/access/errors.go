package access

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// What callers tell apart.
var (
	ErrCredentials = errors.New("name and password do not go together")
	ErrCode        = errors.New("that is not the code")
	ErrClaimed     = errors.New("this gateway is claimed already")
	ErrUnclaimed   = errors.New("this gateway is not claimed yet")
	ErrDamaged     = errors.New("damaged")
)

// InputError is something that a person typed and that cannot be, with what would be right.
type InputError struct {
	Field string
	Text  string
}

// Error reads "password: has 5 characters, want ...".
func (e *InputError) Error() string { return e.Field + ": " + e.Text }

// Wait is the answer to somebody who tries too often.
type Wait struct{ For time.Duration }

// Error says how long.
func (w *Wait) Error() string {
	return fmt.Sprintf("too many attempts, wait %d seconds", int64(w.For/time.Second)+1)
}

// ExposedError is a file with a secret that others can read.
type ExposedError struct {
	Path string
	Mode fs.FileMode
}

// Error says how to mend it.
func (e *ExposedError) Error() string {
	return fmt.Sprintf("%s: others can read it (mode %04o): make it yours alone with `chmod 600 %s`", e.Path, e.Mode, e.Path)
}
