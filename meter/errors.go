package meter

import (
	"errors"
	"fmt"
)

var (
	// ErrUnknown is returned when a reading was asked of a sample that knows no counter.
	ErrUnknown = errors.New("no counter is known")
	// ErrNoMessage is returned by Read of a push source when nothing had come by the time the context ended.
	ErrNoMessage = errors.New("no message")
	// ErrPayload is returned by Read of a push source when a message was not of the form that the definition says.
	ErrPayload = errors.New("unreadable message")
	// ErrClosed is returned by a source that was closed.
	ErrClosed = errors.New("source is closed")
)

// ConfigError is a mistake in a Config. It names the field and says what is allowed.
type ConfigError struct {
	// Field is the name as in the configuration file and on the command line: definition, address, unit, …
	Field string
	// Got is what was given.
	Got string
	// Want is what is allowed.
	Want string
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("%s: got %q, expected %s", e.Field, e.Got, e.Want)
}
