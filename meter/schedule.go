package meter

import (
	"math/rand/v2"
	"time"
)

// Wait is how long a meter that is asked rests after a read: a period, a tenth more or less by chance. So meters that
// were due together, of one line or of one street, are not for long; and none is asked more often than its line has time
// for, since the rest begins when the read has ended.
func Wait(period time.Duration) time.Duration {
	tenth := period / 10
	if tenth <= 0 {
		return period
	}
	return period - tenth + rand.N(2*tenth) //nolint:gosec // chance is all that it is for
}
