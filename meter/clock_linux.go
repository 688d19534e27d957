package meter

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// queryKernel reads the clock's state with adjtimex(2), which changes nothing if no mode is set and then needs no
// privilege. Sandboxes that forbid it are an error.
func queryKernel() (kernel, error) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	if err != nil {
		return kernel{}, fmt.Errorf("asking the kernel for its clock: %w", err)
	}
	return kernel{
		synchronised: state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0,
		maxError:     time.Duration(t.Maxerror) * time.Microsecond,
	}, nil
}
