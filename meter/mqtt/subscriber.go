package mqtt

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
)

const (
	keepAlive      = 15 * time.Second
	pingTimeout    = 5 * time.Second
	writeTimeout   = 5 * time.Second
	connectTimeout = 5 * time.Second
	// retryEvery and retryAtMost bound how long a broker that is back is not noticed.
	retryEvery  = time.Second
	retryAtMost = 5 * time.Second
	// queueLength bounds the messages that nobody has taken yet.
	queueLength = 64
	// packetOverhead is what a PUBLISH needs beside its payload: header, topic, packet id.
	packetOverhead = 1 << 10
	// refused is the return code of a topic that one may not subscribe to.
	refused = 0x80
	// quiesce is how long Close lets paho finish, in milliseconds.
	quiesce = 100
)

// ErrClosed: the subscriber was closed.
var ErrClosed = errors.New("subscriber is closed")

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
	// MaxPayload bounds a payload in bytes.
	MaxPayload int
	// Now is the clock that messages are stamped with.
	Now func() time.Time
	Log *slog.Logger
}

// Subscriber hears the messages on some topics. It is safe for concurrent use.
type Subscriber struct {
	config   Config
	client   paho.Client
	queue    chan Message
	closed   chan struct{}
	once     sync.Once
	pending  sync.WaitGroup // subscriptions under way
	mu       sync.Mutex     // guards closing against a new subscription
	dropped  atomic.Uint64
	attempts atomic.Uint64
}

// Open begins to look for the broker and returns at once.
func Open(c Config) (*Subscriber, error) {
	if c.ClientID == "" {
		var random [8]byte
		_, _ = rand.Read(random[:]) // cannot fail
		c.ClientID = "commonwatt-" + hex.EncodeToString(random[:])
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Subscriber{config: c, queue: make(chan Message, queueLength), closed: make(chan struct{})}
	o := paho.NewClientOptions()
	o.AddBroker("tcp://" + c.Address)
	o.SetClientID(c.ClientID)
	o.SetUsername(c.Username)
	o.SetPassword(c.Password)
	o.SetOrderMatters(true)
	o.SetCleanSession(true)
	o.SetResumeSubs(false)
	o.SetAutoReconnect(true)
	o.SetConnectRetry(true)
	o.SetConnectRetryInterval(retryEvery)
	o.SetMaxReconnectInterval(retryAtMost)
	o.SetConnectTimeout(connectTimeout)
	o.SetKeepAlive(keepAlive)
	o.SetPingTimeout(pingTimeout)
	o.SetWriteTimeout(writeTimeout)
	o.SetDefaultPublishHandler(s.receive)
	o.SetOnConnectHandler(s.connected)
	o.SetConnectionLostHandler(func(_ paho.Client, err error) {
		c.Log.Warn("broker lost", "address", c.Address, "err", err)
	})
	o.SetCustomOpenConnectionFn(s.dial)
	s.client = paho.NewClient(o)
	s.client.Connect() // with ConnectRetry the token ends with the first success; nothing to wait for
	return s, nil
}

// Messages is the queue of what came; it is never closed.
func (s *Subscriber) Messages() <-chan Message { return s.queue }

// Done is closed by Close.
func (s *Subscriber) Done() <-chan struct{} { return s.closed }

// Connected reports whether there is a connection to the broker.
func (s *Subscriber) Connected() bool { return s.client.IsConnectionOpen() }

// Dropped counts the messages that were thrown away because nobody took them or because they were too large.
func (s *Subscriber) Dropped() uint64 { return s.dropped.Load() }

// Close ends the connection and waits for the goroutines.
func (s *Subscriber) Close() error {
	s.once.Do(func() {
		s.mu.Lock()
		close(s.closed)
		s.mu.Unlock()
		s.client.Disconnect(quiesce)
		s.pending.Wait()
	})
	return nil
}

func (s *Subscriber) dial(uri *url.URL, _ paho.ClientOptions) (net.Conn, error) {
	s.attempts.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), connectTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", uri.Host)
	if err != nil {
		return nil, fmt.Errorf("dialling broker: %w", err)
	}
	return newLimited(conn, s.config.MaxPayload+packetOverhead, func(size int) {
		s.dropped.Add(1)
		s.config.Log.Warn("mqtt message too large", "address", s.config.Address, "bytes", size, "limit", s.config.MaxPayload)
	}), nil
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

func (s *Subscriber) connected(client paho.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
		return
	default:
	}
	s.pending.Go(func() { s.subscribe(client) })
}

// subscribe asks until the broker agrees, the connection is gone, or the subscriber is closed.
func (s *Subscriber) subscribe(client paho.Client) {
	filters := make(map[string]byte, len(s.config.Topics))
	for _, t := range s.config.Topics {
		filters[t] = 0 // what is lost while we are away is said again by the next counter
	}
	for client.IsConnectionOpen() {
		err := s.await(client.SubscribeMultiple(filters, nil))
		switch {
		case err == nil:
			s.config.Log.Info("subscribed", "address", s.config.Address, "topics", s.config.Topics)
			return
		case errors.Is(err, ErrClosed):
			return
		}
		s.config.Log.Warn("subscription failed", "address", s.config.Address, "topics", s.config.Topics, "err", err)
		timer := time.NewTimer(retryAtMost)
		select {
		case <-timer.C:
		case <-s.closed:
			timer.Stop()
			return
		}
	}
}

// await waits for a subscription; a broker may accept the packet and refuse a topic.
func (s *Subscriber) await(token paho.Token) error {
	timer := time.NewTimer(connectTimeout)
	defer timer.Stop()
	select {
	case <-token.Done():
	case <-s.closed:
		return ErrClosed
	case <-timer.C:
		return errors.New("broker does not confirm")
	}
	if err := token.Error(); err != nil {
		return err
	}
	if granted, ok := token.(*paho.SubscribeToken); ok {
		for topic, code := range granted.Result() {
			if code == refused {
				return fmt.Errorf("broker refuses topic %s", topic)
			}
		}
	}
	return nil
}
