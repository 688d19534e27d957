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
)

// Schedule says when counters are refreshed.
type Schedule interface {
	// Latest is the newest refresh that has come.
	Latest() int64
	// Until is how long a refresh is still away on the wall clock.
	Until(index int64) time.Duration
}

// Meter gives a device's readings.
type Meter interface {
	Reading(ctx context.Context, index int64) (device.Reading, error)
}

// Client is the connection of one device. Its fields are set before Run and
// not changed after.
type Client struct {
	Broker   string // HOST:PORT
	ID       string // unique on the broker and the same each time
	Device   device.Publisher
	Meter    Meter
	Schedule Schedule
	Log      *slog.Logger
}

const (
	retryAfter     = time.Second
	connectTimeout = 3 * time.Second
	writeTimeout   = 3 * time.Second
	keepAlive      = 15 * time.Second
	goodbyeTimeout = 300 * time.Millisecond
	quiesce        = 100 // milliseconds
)

// errGone is returned when the connection has gone.
var errGone = errors.New("the broker is gone")

// Run publishes until the context ends, through any number of connections. It
// says goodbye (the device's will) before it returns.
func (c *Client) Run(ctx context.Context) error {
	log := c.Log.With("client", c.ID, "broker", c.Broker)
	reachable := true // so that the first failure is told, and the ones after it not
	for {
		connected, err := c.connection(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the connection ended because we were told to end
		}
		if connected || reachable {
			log.WarnContext(ctx, "mqtt connection lost, trying again", "err", err, "every", retryAfter)
		}
		reachable = false
		timer := time.NewTimer(retryAfter)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// connection connects once and publishes until the connection or the context
// ends.
func (c *Client) connection(ctx context.Context) (connected bool, err error) {
	lost := make(chan error, 1)
	guards := make(chan func() bool, 1)
	client := paho.NewClient(c.options(ctx, lost, guards))
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
	err = c.session(ctx, client, lost)
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
func (c *Client) options(ctx context.Context, lost chan<- error, guards chan<- func() bool) *paho.ClientOptions {
	will := c.Device.Will()
	return paho.NewClientOptions().
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
			}
			return conn, err
		}).
		SetConnectionLostHandler(func(_ paho.Client, err error) { lost <- err })
}

// session publishes at once and at each refresh.
func (c *Client) session(ctx context.Context, client paho.Client, lost <-chan error) error {
	if err := publish(ctx, client, c.Device.Birth()); err != nil {
		return err
	}
	for {
		index := c.Schedule.Latest()
		if err := c.publishReading(ctx, client, index); err != nil {
			return err
		}
		timer := time.NewTimer(max(0, c.Schedule.Until(index+1)))
		select {
		case <-timer.C:
		case err := <-lost:
			timer.Stop()
			return fmt.Errorf("%w: %w", errGone, err)
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (c *Client) publishReading(ctx context.Context, client paho.Client, index int64) error {
	reading, err := c.Meter.Reading(ctx, index)
	if err != nil {
		return fmt.Errorf("reading the meter: %w", err)
	}
	messages, err := c.Device.Messages(ctx, reading)
	if err != nil {
		return fmt.Errorf("making messages: %w", err)
	}
	for _, m := range messages {
		if err := publish(ctx, client, m); err != nil {
			return err
		}
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
