package household

import (
	"strconv"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/market/consensus"
)

// How agent.yaml says what a home without a ledger begins with, and how long one keeps what
// is old.
const (
	JoinAuto     = "auto"
	RetentionAll = "all"

	maxRetentionDays = 36_500
)

// JoinMode is join in consensus's words.
func (c *Config) JoinMode() string {
	if c.Join == JoinAuto {
		return consensus.JoinAuto
	}
	return c.Join
}

// KeptFor is retention as a time; 0: all is kept.
func (c *Config) KeptFor() time.Duration {
	days, _ := retentionDays(c.Retention)
	return time.Duration(days) * 24 * time.Hour
}

// retentionDays reads all, nothing (which is all), or a number of days such as 400d.
func retentionDays(text string) (int, bool) {
	if text == "" || text == RetentionAll {
		return 0, true
	}
	digits, ok := strings.CutSuffix(text, "d")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 1 || n > maxRetentionDays || strconv.Itoa(n) != digits {
		return 0, false
	}
	return n, true
}

func (c *Config) validateKept() *ConfigError {
	switch c.Join {
	case "", JoinAuto, consensus.JoinSnapshot, consensus.JoinGenesis:
	default:
		return bad("join", "got %q, want auto, snapshot or genesis", c.Join)
	}
	if _, ok := retentionDays(c.Retention); !ok {
		return bad("retention", "got %q, want all, or days such as 400d, 1d to %dd", c.Retention, maxRetentionDays)
	}
	return nil
}
