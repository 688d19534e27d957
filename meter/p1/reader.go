package p1

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// retryFirst doubles to retryLast: they bound how long a port that is back is not noticed.
	retryFirst = time.Second
	retryLast  = 30 * time.Second
	// silence is how long a port may say nothing before it is opened anew: meters speak every 1 to 10 s.
	silence = time.Minute
	// quiet is for how long the log is left alone after a line.
	quiet = time.Minute
	// queueLength bounds the telegrams that nobody has taken yet.
	queueLength = 8
	readSize    = 4 << 10
)

// Message is what was heard: a telegram, or what was wrong with it.
type Message struct {
	Telegram Telegram
	Raw      []byte
	Err      error
	// At is the arrival of the last byte, by the clock of the Config.
	At time.Time
}

// Config of a Reader.
type Config struct {
	// Name of the port, for messages.
	Name string
	// Dial opens the port. It must return when the context ends.
	Dial func(context.Context) (Port, error)
	// Now is the clock that telegrams are stamped with.
	Now func() time.Time
	Log *slog.Logger
	// Silence is after how long without a byte the port is opened anew; 0 means a minute.
	Silence time.Duration
}

// Reader hears one port. It is safe for concurrent use.
type Reader struct {
	config  Config
	queue   chan Message
	end     context.CancelFunc
	done    <-chan struct{} // closed when Close began
	ended   chan struct{}   // closed when the goroutine ended
	bytes   atomic.Uint64
	dropped atomic.Uint64

	mu    sync.Mutex
	state error // why the port is not open; nil while it is; guarded by mu
}

var errNotYet = errors.New("is being opened")

// Open begins to hear and returns at once.
func Open(c Config) *Reader {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Silence <= 0 {
		c.Silence = silence
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Reader{config: c, queue: make(chan Message, queueLength), end: cancel, done: ctx.Done(), ended: make(chan struct{}), state: errNotYet}
	go func() {
		defer close(r.ended)
		r.run(ctx)
	}()
	return r
}

// Messages is the queue of what came; it is never closed.
func (r *Reader) Messages() <-chan Message { return r.queue }

// Done is closed by Close.
func (r *Reader) Done() <-chan struct{} { return r.done }

// Dropped counts the messages that nobody took.
func (r *Reader) Dropped() uint64 { return r.dropped.Load() }

// State says, for a person, why nothing may be coming: the error of the port, or how many bytes have come.
func (r *Reader) State() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch n := r.bytes.Load(); {
	case r.state != nil:
		return fmt.Sprintf("%s cannot be read: %v", r.config.Name, r.state)
	case n == 0:
		return r.config.Name + " is open, but nothing comes"
	default:
		return fmt.Sprintf("%s is open, %d bytes came; if that never becomes a telegram, the speed or the parity is wrong, or it is encrypted", r.config.Name, n)
	}
}

// Close closes the port and waits for the goroutine.
func (r *Reader) Close() error {
	r.end()
	<-r.ended
	return nil
}

func (r *Reader) setState(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = err
}

// run keeps a port until the context ends.
func (r *Reader) run(ctx context.Context) {
	log := r.config.Log.With("port", r.config.Name)
	wait := retryFirst
	var quietTill time.Time // a line a minute is enough
	for ctx.Err() == nil {
		before := r.bytes.Load()
		err := r.hear(ctx)
		if ctx.Err() != nil {
			return
		}
		r.setState(err)
		if r.bytes.Load() != before {
			wait = retryFirst
		}
		level := slog.LevelDebug
		if now := time.Now(); now.After(quietTill) {
			level, quietTill = slog.LevelWarn, now.Add(quiet)
		}
		log.Log(ctx, level, "p1 port not open", "retry_in", wait, "err", err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		wait = min(2*wait, retryLast)
	}
}

// hear opens the port and reads it until it fails, falls silent, or the context ends.
func (r *Reader) hear(ctx context.Context) error {
	port, err := r.config.Dial(ctx)
	if err != nil {
		return err
	}
	defer port.Close()                                          //nolint:errcheck // it is being given up
	stop := context.AfterFunc(ctx, func() { _ = port.Close() }) // interrupts Read
	defer stop()
	r.setState(nil)
	var framer Framer
	buffer := make([]byte, readSize)
	for {
		if err := port.SetReadDeadline(time.Now().Add(r.config.Silence)); err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		n, err := port.Read(buffer)
		now := r.config.Now()
		if n > 0 {
			r.bytes.Add(uint64(n))
			framer.Feed(buffer[:n], func(raw []byte, err error) { r.put(raw, err, now) })
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("nothing came for %v", r.config.Silence)
		case err != nil:
			return fmt.Errorf("reading: %w", err)
		}
	}
}

func (r *Reader) put(raw []byte, err error, at time.Time) {
	m := Message{Raw: raw, Err: err, At: at}
	if err == nil {
		m.Telegram, m.Err = Parse(raw)
	}
	for {
		select {
		case r.queue <- m:
			return
		default:
		}
		select {
		case <-r.queue:
			r.dropped.Add(1)
		default:
		}
	}
}
