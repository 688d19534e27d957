package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/commonwatt/commonwatt/firmware-sim/device"
	"github.com/commonwatt/commonwatt/firmware-sim/wire"
)

// Meter gives a device's readings.
type Meter interface {
	// Latest is the newest refresh that has come.
	Latest() int64
	// Messages are what the device publishes at a refresh.
	Messages(ctx context.Context, index int64) ([]device.Message, error)
	// Spoil changes how a message leaves, Dead says that the device
	// has no power, or nobody to publish to.
	Spoil(a *wire.Answer)
	Dead() bool
}

// ClientOptions tell one Client from another.
type ClientOptions struct {
	Broker string // HOST:PORT
	Login  Login
	ID     string // unique on the broker and the same each time
	Device device.Publisher
	Meter  Meter
	Log    *slog.Logger
}

// Client is the connection of one device.
type Client struct {
	ClientOptions
	requests chan request
	ended    chan struct{}
	held     []device.Message // back until the next ones
	swapped  bool             // and then after them
}

// request asks for the reading of a refresh, or only to look whether the device
// has power; the answer is taken in any case.
type request struct {
	index int64
	look  bool
	done  chan error
}

// NewClient makes a client, of which Run is called once.
func NewClient(o ClientOptions) *Client {
	return &Client{ClientOptions: o, requests: make(chan request), ended: make(chan struct{})}
}

// Push publishes the reading of a refresh. While the broker is away that is a
// try to reach it, and an error if it fails.
func (c *Client) Push(ctx context.Context, index int64) error {
	return c.ask(ctx, request{index: index, done: make(chan error, 1)})
}

// Look has the device notice that it lost its power, or has it again.
func (c *Client) Look(ctx context.Context) error {
	return c.ask(ctx, request{look: true, done: make(chan error, 1)})
}

func (c *Client) ask(ctx context.Context, r request) error {
	select {
	case c.requests <- r:
	case <-c.ended:
		return errGone
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

const (
	retryAfter     = time.Second
	connectTimeout = 3 * time.Second
	writeTimeout   = 3 * time.Second
	keepAlive      = 15 * time.Second
	goodbyeTimeout = 300 * time.Millisecond
	quiesce        = 100 // milliseconds
)

// errGone is returned when the connection has gone, errDead while the device has
// no power.
var (
	errGone = errors.New("the broker is gone")
	errDead = errors.New("the device has no power")
)

// Run publishes until the context ends, through any number of connections. It
// says goodbye (the device's will) before it returns.
func (c *Client) Run(ctx context.Context) error {
	defer close(c.ended)
	log := c.Log.With("client", c.ID, "broker", c.Broker)
	reachable := true // so that the first failure is told, and the ones after it not
	var pending *request
	for {
		connected, err := c.connection(ctx, pending)
		if ctx.Err() != nil {
			return nil // the connection ended because we were told to end
		}
		if (connected || reachable) && !errors.Is(err, errDead) {
			log.WarnContext(ctx, "mqtt connection lost, trying again", "err", err, "every", retryAfter)
		}
		reachable, pending = false, nil
		timer := time.NewTimer(retryAfter)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case r := <-c.requests:
			timer.Stop()
			pending = &r
		case <-timer.C:
		}
	}
}

// connection connects once and publishes until the connection or the context
// ends. A request that was the reason to connect is answered in any case.
func (c *Client) connection(ctx context.Context, pending *request) (connected bool, err error) {
	defer func() {
		if pending != nil && !connected {
			pending.done <- err
		}
	}()
	if c.Meter.Dead() {
		return false, errDead
	}
	lost := make(chan error, 1)
	guards := make(chan func() bool, 1)
	conns := make(chan net.Conn, 1)
	client := paho.NewClient(c.options(ctx, lost, guards, conns))
	if err := wait(ctx, client.Connect(), connectTimeout+writeTimeout); err != nil {
		client.Disconnect(0)
		select {
		case stopGuard := <-guards:
			stopGuard()
		default:
		}
		return false, fmt.Errorf("connecting: %w", err)
	}
	defer client.Disconnect(quiesce)
	stopGuard := <-guards // from here on the end of the context is no reason to cut the connection
	stopGuard()
	c.Log.DebugContext(ctx, "mqtt connected", "client", c.ID, "broker", c.Broker)
	err = c.session(ctx, client, lost, pending)
	if errors.Is(err, errDead) {
		select {
		case conn := <-conns:
			_ = conn.Close() // without a word, so that the broker publishes the will
		default:
		}
		return true, err
	}
	if ctx.Err() != nil && client.IsConnectionOpen() {
		// A clean disconnection makes the broker forget the will: say it ourselves.
		goodbye, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTimeout)
		defer cancel()
		err = publish(goodbye, client, c.Device.Will())
	}
	return true, err
}

// options sets paho up for one connection: no reconnecting and no clean-up of
// its own. A guard cuts the connection if the context ends before the broker has
// answered, since paho would wait for it.
func (c *Client) options(ctx context.Context, lost chan<- error, guards chan<- func() bool, conns chan<- net.Conn) *paho.ClientOptions {
	will := c.Device.Will()
	return paho.NewClientOptions().
		SetUsername(c.Login.User).
		SetPassword(c.Login.Password).
		AddBroker("mqtt://"+c.Broker).
		SetClientID(c.ID).
		SetProtocolVersion(4). // 3.1.1; unset, paho would try twice
		SetCleanSession(true).
		SetAutoReconnect(false).
		SetConnectRetry(false).
		SetConnectTimeout(connectTimeout).
		SetWriteTimeout(writeTimeout).
		SetKeepAlive(keepAlive).
		SetBinaryWill(will.Topic, will.Payload, will.QoS, will.Retain).
		SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) {
			dialer := net.Dialer{Timeout: connectTimeout}
			conn, err := dialer.DialContext(ctx, "tcp", c.Broker)
			if err == nil {
				guards <- context.AfterFunc(ctx, func() { _ = conn.Close() })
				conns <- conn
			}
			return conn, err
		}).
		SetConnectionLostHandler(func(_ paho.Client, err error) { lost <- err })
}

// session publishes at once, and whenever it is asked to.
func (c *Client) session(ctx context.Context, client paho.Client, lost <-chan error, pending *request) error {
	err := publish(ctx, client, c.Device.Birth())
	if err == nil {
		err = c.publishReading(ctx, client, c.Meter.Latest())
	}
	if pending != nil {
		pending.done <- err
	}
	for err == nil {
		select {
		case r := <-c.requests:
			if c.Meter.Dead() {
				err = errDead
			} else if !r.look {
				err = c.publishReading(ctx, client, r.index)
			}
			r.done <- err
		case reason := <-lost:
			return fmt.Errorf("%w: %w", errGone, reason)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (c *Client) publishReading(ctx context.Context, client paho.Client, index int64) error {
	messages, err := c.Meter.Messages(ctx, index)
	if err != nil {
		return fmt.Errorf("making messages: %w", err)
	}
	before, after := c.held, []device.Message(nil)
	if c.swapped {
		before, after = nil, c.held
	}
	c.held, c.swapped = nil, false
	for _, m := range before {
		if err := publish(ctx, client, m); err != nil {
			return err
		}
	}
	for _, m := range messages {
		if err := c.publishSpoilt(ctx, client, m); err != nil {
			return err
		}
	}
	for _, m := range after {
		if err := publish(ctx, client, m); err != nil {
			return err
		}
	}
	return nil
}

// publishSpoilt publishes a message as the faults have it.
func (c *Client) publishSpoilt(ctx context.Context, client paho.Client, m device.Message) error {
	a := wire.Answer{Transport: wire.MQTT, Body: m.Payload, Request: []byte(m.Topic)}
	c.Meter.Spoil(&a)
	m.Payload = a.Spoil(a.Body)
	if a.Later {
		c.held, c.swapped = append(c.held, m), a.Swapped
		return nil
	}
	if !a.Silent {
		for range 1 + a.Copies {
			if err := publish(ctx, client, m); err != nil {
				return err
			}
		}
	}
	if a.Close {
		return errDead
	}
	return nil
}

func publish(ctx context.Context, client paho.Client, m device.Message) error {
	if !client.IsConnectionOpen() {
		return errGone // paho would report success and drop the message
	}
	if err := wait(ctx, client.Publish(m.Topic, m.QoS, m.Retain, m.Payload), writeTimeout); err != nil {
		return fmt.Errorf("publishing on %s: %w", m.Topic, err)
	}
	return nil
}

// wait waits for a token, a time and a context.
func wait(ctx context.Context, token paho.Token, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-token.Done():
		return token.Error()
	case <-timer.C:
		return fmt.Errorf("no answer within %v", limit)
	case <-ctx.Done():
		return ctx.Err()
	}
}
