package consensus

import (
	"context"
	"log/slog"
	"slices"

	cmtlog "github.com/cometbft/cometbft/libs/log"
)

// engineLog hands the engine's log to slog. What the engine calls information is of
// interest to those who look for a fault in it, hence debug; what it calls an error it
// mostly recovers from by itself (a peer that went away), hence a warning. Its own debug
// level, several lines per message and peer, is dropped.
type engineLog struct {
	log   *slog.Logger
	pairs []any // of With; not given to slog before a line is written, which would print them
}

var _ cmtlog.Logger = engineLog{}

func newEngineLog(log *slog.Logger) cmtlog.Logger {
	return engineLog{log: log.With("component", "engine")}
}

// Debug drops the line.
func (l engineLog) Debug(string, ...any) {}

// Info writes at debug level.
func (l engineLog) Info(msg string, keyvals ...any) { l.write(slog.LevelDebug, msg, keyvals) }

// Warn writes a warning.
func (l engineLog) Warn(msg string, keyvals ...any) { l.write(slog.LevelWarn, msg, keyvals) }

// Error writes a warning.
func (l engineLog) Error(msg string, keyvals ...any) { l.write(slog.LevelWarn, msg, keyvals) }

// With keeps the pairs for every later line.
func (l engineLog) With(keyvals ...any) cmtlog.Logger {
	return engineLog{log: l.log, pairs: slices.Concat(l.pairs, keyvals)}
}

func (l engineLog) write(level slog.Level, msg string, keyvals []any) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	// The engine's messages are not constants, so they are a value here.
	l.log.With(l.pairs...).With(keyvals...).Log(context.Background(), level, "engine", "event", msg)
}
