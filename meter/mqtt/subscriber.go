package mqtt

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

const (
	keepAlive      = 15 * time.Second
	pingTimeout    = 5 * time.Second
	writeTimeout   = 5 * time.Second
	connectTimeout = 5 * time.Second
	// retryFirst doubles to retryLast: they bound how long a broker that is back is not noticed.
	retryFirst = time.Second
	retryLast  = 5 * time.Second
	// standing is how long a connection must have stood to count as sound, and maxThrown how often in a row it may end
	// sooner before that is said: two clients of one id throw each other off.
	standing  = time.Minute
	maxThrown = 2
	// quiet is for how long the log is left alone after a line.
	quiet = time.Minute
	// queueLength bounds the messages that nobody has taken yet.
	queueLength = 64
	// packetOverhead is what a PUBLISH needs beside its payload: header, topic, packet id.
	packetOverhead = 1 << 10
	// refused is the return code of a topic that one may not subscribe to.
	refused = 0x80
	// quiesce is how long paho may take to say goodbye, in milliseconds.
	quiesce = 1000
	// version is MQTT 3.1.1; without it paho tries every broker that refuses a second time as 3.1.
	version = 4
)

// Message is what a device published.
type Message struct {
	Topic    string
	Payload  []byte
	Retained bool
	// At is the arrival, by the clock of the Config.
	At time.Time
}

// Config of a Subscriber.
type Config struct {
	// Address is host:port of the broker.
	Address string
	// Topics are subscribed to as they are; no wildcards.
	Topics []string
	// ClientID must be the client's own: two with one id throw each other off the broker for ever. A random one is
	// made up if it is empty.
	ClientID           string
	Username, Password string
	// TLS is for brokers that are reached through it; nil means plain TCP.
	TLS *tls.Config
	// MaxPayload bounds a payload in bytes.
	MaxPayload int
	// Now is the clock that messages are stamped with.
	Now func() time.Time
	Log *slog.Logger
}

// Subscriber hears the messages on some topics. It is safe for concurrent use.
type Subscriber struct {
	config    Config
	queue     chan Message
	end       context.CancelFunc
	done      <-chan struct{} // closed when Close began
	ended     chan struct{}   // closed when the goroutine ended
	connected atomic.Bool
	dropped   atomic.Uint64
	failure   atomic.Pointer[error] // why it is not connected; nil at the beginning
	quietTill atomic.Int64          // when the log may be used again, in Unix seconds
}

// Open begins to look for the broker and returns at once.
func Open(c Config) *Subscriber {
	if c.ClientID == "" {
		var random [8]byte
		_, _ = rand.Read(random[:]) // cannot fail
		c.ClientID = "commonwatt-" + hex.EncodeToString(random[:])
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Subscriber{config: c, queue: make(chan Message, queueLength), end: cancel, done: ctx.Done(), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.run(ctx)
	}()
	return s
}

// Messages is the queue of what came; it is never closed.
func (s *Subscriber) Messages() <-chan Message { return s.queue }

// Done is closed by Close.
func (s *Subscriber) Done() <-chan struct{} { return s.done }

// Connected reports whether the broker has confirmed the subscription on a connection that stands.
func (s *Subscriber) Connected() bool { return s.connected.Load() }

// Err is why the last connection failed or ended, for a person to read; nil if none has.
func (s *Subscriber) Err() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// level is the usual one once a minute, and that of details for all that is said in between.
func (s *Subscriber) level(usual slog.Level) slog.Level {
	now, till := time.Now().Unix(), s.quietTill.Load()
	if now < till || !s.quietTill.CompareAndSwap(till, now+int64(quiet/time.Second)) {
		return slog.LevelDebug
	}
	return usual
}

// Dropped counts the messages that were thrown away because nobody took them or because they were too large.
func (s *Subscriber) Dropped() uint64 { return s.dropped.Load() }

// Close ends the connection and waits for the goroutines.
func (s *Subscriber) Close() error {
	s.end()
	<-s.ended
	return nil
}

// run keeps a connection until the context ends.
func (s *Subscriber) run(ctx context.Context) {
	log := s.config.Log.With("broker", s.config.Address)
	wait, thrown := retryFirst, 0
	for ctx.Err() == nil {
		begin := time.Now()
		stood, err := s.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		switch {
		case stood && time.Since(begin) > standing:
			wait, thrown = retryFirst, 0
		case stood:
			thrown++
		}
		if thrown > maxThrown {
			err = fmt.Errorf("%w, %d times soon after it was made: another client may have the id %s", err, thrown, s.config.ClientID)
		}
		s.failure.Store(&err)
		log.Log(ctx, s.level(slog.LevelWarn), "broker not connected", "retry_in", wait, "err", err)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		wait = min(2*wait, retryLast)
	}
}

// connect makes one connection, subscribes, and returns when it is lost or the context ends. stood reports whether the
// subscription was confirmed.
func (s *Subscriber) connect(ctx context.Context) (stood bool, err error) {
	lost := make(chan error, 1)
	var line connection
	client := paho.NewClient(s.options(func(uri *url.URL, _ paho.ClientOptions) (net.Conn, error) {
		return line.dial(ctx, s, uri.Host)
	}, lost))
	// Until the broker has answered, a context that ends cuts the line, for paho knows no other way to stop.
	stop := context.AfterFunc(ctx, line.cut)
	token := client.Connect()
	<-token.Done()
	stop()
	if err := token.Error(); err != nil {
		return false, fmt.Errorf("connecting: %w", err)
	}
	defer line.cut() // after Disconnect, in case that it ran out of time
	defer client.Disconnect(quiesce)
	filters := make(map[string]byte, len(s.config.Topics))
	for _, t := range s.config.Topics {
		filters[t] = 0 // what is lost while we are away is said again by the next counter
	}
	if err := await(ctx, client.SubscribeMultiple(filters, nil)); err != nil {
		return false, fmt.Errorf("subscribing: %w", err)
	}
	s.config.Log.Log(ctx, s.level(slog.LevelInfo), "subscribed", "broker", s.config.Address, "topics", s.config.Topics)
	s.connected.Store(true)
	defer s.connected.Store(false)
	select {
	case err := <-lost:
		return true, fmt.Errorf("connection lost: %w", err)
	case <-ctx.Done():
		return true, ctx.Err()
	}
}

func (s *Subscriber) options(dial paho.OpenConnectionFunc, lost chan<- error) *paho.ClientOptions {
	o := paho.NewClientOptions()
	o.AddBroker("tcp://" + s.config.Address) // the dial function below makes TLS of it
	o.SetClientID(s.config.ClientID)
	o.SetUsername(s.config.Username)
	o.SetPassword(s.config.Password)
	o.SetProtocolVersion(version)
	o.SetOrderMatters(true)
	o.SetCleanSession(true)
	o.SetAutoReconnect(false)
	o.SetConnectRetry(false)
	o.SetConnectTimeout(connectTimeout)
	o.SetKeepAlive(keepAlive)
	o.SetPingTimeout(pingTimeout)
	o.SetWriteTimeout(writeTimeout)
	o.SetDefaultPublishHandler(s.receive)
	o.SetConnectionLostHandler(func(_ paho.Client, err error) { lost <- err })
	o.SetCustomOpenConnectionFn(dial)
	return o
}

// receive runs in paho's only handler goroutine and must not wait.
func (s *Subscriber) receive(_ paho.Client, m paho.Message) {
	if len(m.Payload()) > s.config.MaxPayload {
		s.dropped.Add(1)
		return
	}
	msg := Message{Topic: m.Topic(), Payload: append([]byte(nil), m.Payload()...), Retained: m.Retained(), At: s.config.Now()}
	for {
		select {
		case s.queue <- msg:
			return
		default:
		}
		select {
		case <-s.queue:
			s.dropped.Add(1)
		default:
		}
	}
}

// await waits for a subscription; a broker may accept the packet and refuse a topic.
func await(ctx context.Context, token paho.Token) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	select {
	case <-token.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := token.Error(); err != nil {
		return err
	}
	if granted, ok := token.(*paho.SubscribeToken); ok {
		for topic, code := range granted.Result() {
			if code == refused {
				return fmt.Errorf("broker refuses topic %s: %w", topic, errRefused)
			}
		}
	}
	return nil
}

var errRefused = errors.New("not allowed")
