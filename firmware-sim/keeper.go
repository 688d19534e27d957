package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/commonwatt/commonwatt/firmware-sim/broker"
	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/fault"
	"github.com/commonwatt/commonwatt/firmware-sim/street"
)

// keeper does to the broker of our own what the faults have in mind for it. It is
// asked at each refresh before anything is pushed, and when a rule is started or
// ended by hand.
type keeper struct {
	street *street.Street
	book   *fault.Book
	broker *broker.Server // nil: none
	log    *slog.Logger

	mu    sync.Mutex
	stale map[fault.Key][]device.Message // that the broker was told to keep
}

func (k *keeper) look(ctx context.Context) {
	if k.broker == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.street.Now()
	if k.book.BrokerDown(now) {
		k.stale = nil // it forgets them
		if err := k.broker.Away(); err != nil {
			k.log.ErrorContext(ctx, "the broker does not go", "err", err)
		}
		return
	}
	if err := k.broker.Back(ctx); err != nil {
		k.log.ErrorContext(ctx, "the broker does not come back", "err", err)
		return
	}
	for _, h := range k.street.Houses() {
		for _, m := range h.Meters {
			if m.Config.Topic != "" {
				k.keep(ctx, m)
			}
		}
	}
}

// keep needs k.mu.
func (k *keeper) keep(ctx context.Context, m *street.Meter) {
	at, wanted := k.book.Stale(m.Key(), k.street.Now())
	kept := k.stale[m.Key()]
	switch {
	case wanted && kept == nil:
		messages, err := m.Messages(ctx, max(m.First(), k.street.IndexOf(at)))
		if err != nil {
			k.log.ErrorContext(ctx, "an old message was not made", "err", err)
			return
		}
		for _, message := range messages {
			k.broker.Keep(message)
		}
		if k.stale == nil {
			k.stale = map[fault.Key][]device.Message{}
		}
		k.stale[m.Key()] = messages
	case !wanted && kept != nil:
		for _, message := range kept {
			k.broker.Keep(device.Message{Topic: message.Topic})
		}
		delete(k.stale, m.Key())
	}
}

// quiet lets only errors of the embedded broker pass: it warns of every client
// that goes without a word, which is what devices do.
func quiet(log *slog.Logger) *slog.Logger { return slog.New(quietHandler{log.Handler()}) }

type quietHandler struct{ slog.Handler }

func (h quietHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelError && h.Handler.Enabled(ctx, level)
}

func (h quietHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quietHandler{h.Handler.WithAttrs(attrs)}
}

func (h quietHandler) WithGroup(name string) slog.Handler {
	return quietHandler{h.Handler.WithGroup(name)}
}
