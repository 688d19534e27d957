package httpjson

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

var (
	// ErrBackoff says that the host failed lately and is left alone for a while.
	ErrBackoff = errors.New("host is left alone after failures")
	// ErrClosed says that the client was closed.
	ErrClosed = errors.New("client is closed")
	// ErrTooLong says that an answer is longer than anything that the device can have to say.
	ErrTooLong = errors.New("answer is too long")
	// ErrRedirect says that the host sent us elsewhere.
	ErrRedirect = errors.New("redirect")
	// ErrLogin says that a name and a password are needed, or are wrong.
	ErrLogin = errors.New("login")
)

// StatusError is an answer other than 200.
type StatusError struct {
	Code int
}

func (e *StatusError) Error() string {
	hint := ""
	switch e.Code {
	case http.StatusForbidden:
		hint = "; the device does not allow it, its local API may be switched off"
	case http.StatusNotFound:
		hint = "; it is not the kind of device that the definition describes, or its firmware is too old"
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		hint = "; the device is busy"
	}
	return fmt.Sprintf("got status %d %s, expected 200%s", e.Code, http.StatusText(e.Code), hint)
}

// Options of a Client. The zero value is right for devices in the field; tests shorten the times.
type Options struct {
	// Username and Password are shown to a host that asks for them.
	Username, Password string
	// TLS is for https; nil trusts the authorities of the system.
	TLS *tls.Config
	// Timeout of one request, connection included; default 5 s.
	Timeout time.Duration
	// DialEvery is the shortest time between two dials; default 1 s.
	DialEvery time.Duration
	// BackoffStep is how long the host is left alone per failure in a row, BackoffMax the longest; default 2 s and 5 min.
	BackoffStep, BackoffMax time.Duration
	// MaxBody bounds an answer in bytes; default 64 kB.
	MaxBody int64
	Log     *slog.Logger
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.Timeout, 5 * time.Second}, {&o.DialEvery, time.Second}, {&o.BackoffStep, 2 * time.Second}, {&o.BackoffMax, 5 * time.Minute}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if o.MaxBody <= 0 {
		o.MaxBody = 64 << 10
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

const (
	maxHeader    = 16 << 10
	maxRedirects = 3
	idle         = 90 * time.Second
)

// Client asks one host.
type Client struct {
	base      url.URL // scheme and host:port
	options   Options
	http      *http.Client
	transport *http.Transport
	turn      chan struct{}   // holds one token: who has it owns everything below
	life      context.Context // ends with Close and interrupts what is under way
	end       context.CancelFunc
	dialled   struct { // its own lock: a dial may outlast the request that it is for
		sync.Mutex
		last time.Time
	}

	failures int
	until    time.Time
	login    login
}

// New makes a client for http or https and host:port. It dials with the first request.
func New(scheme, host string, o Options) *Client {
	c := &Client{base: url.URL{Scheme: scheme, Host: host}, options: o.withDefaults(), turn: make(chan struct{}, 1)}
	c.life, c.end = context.WithCancel(context.Background())
	c.transport = &http.Transport{
		DialContext: c.dial, TLSClientConfig: c.options.TLS,
		MaxConnsPerHost: 1, MaxIdleConnsPerHost: 1, IdleConnTimeout: idle,
		DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
		// No proxy, and no HTTP/2: devices speak HTTP/1.1.
		TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
	c.http = &http.Client{Transport: c.transport, CheckRedirect: c.redirect}
	c.turn <- struct{}{}
	return c
}

// Close interrupts the request that is under way and closes the connection.
func (c *Client) Close() error {
	c.end()
	<-c.turn
	defer func() { c.turn <- struct{}{} }()
	c.transport.CloseIdleConnections()
	return nil
}

// Get asks for a path, which may have a query, and returns the body of the answer.
func (c *Client) Get(ctx context.Context, path string) ([]byte, error) {
	select {
	case <-c.turn:
		defer func() { c.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for %s: %w", c.base.Host, ctx.Err())
	}
	if c.life.Err() != nil {
		return nil, ErrClosed
	}
	if wait := time.Until(c.until); wait > 0 {
		return nil, fmt.Errorf("%s failed %d times, for another %v: %w", c.base.Host, c.failures, wait.Round(time.Millisecond), ErrBackoff)
	}
	body, err := c.request(ctx, path)
	c.judge(ctx, err)
	if err != nil {
		return nil, fmt.Errorf("asking %s for %s: %w", c.base.Host, path, err)
	}
	return body, nil
}

// judge keeps the back-off of the host.
func (c *Client) judge(ctx context.Context, err error) {
	switch {
	case err == nil:
		c.failures, c.until = 0, time.Time{}
	case errors.Is(ctx.Err(), context.Canceled), c.life.Err() != nil:
	default:
		c.failures++
		wait := min(c.options.BackoffStep*time.Duration(c.failures), c.options.BackoffMax)
		c.until = time.Now().Add(wait)
		c.options.Log.DebugContext(ctx, "http host left alone", "host", c.base.Host, "failures", c.failures, "wait", wait, "err", err)
	}
}

// request asks once, and once more if the host wants to know who asks.
func (c *Client) request(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	stop := context.AfterFunc(c.life, cancel) //nolint:contextcheck // Close interrupts, whoever asked
	defer stop()
	for attempt := 0; ; attempt++ {
		body, challenges, err := c.exchange(ctx, path)
		status := (*StatusError)(nil)
		if !errors.As(err, &status) || status.Code != http.StatusUnauthorized {
			return body, err
		}
		switch {
		case c.options.Username == "":
			return nil, fmt.Errorf("%w: the device wants a user name and a password", ErrLogin)
		case attempt > 0:
			c.login = login{}
			return nil, fmt.Errorf("%w: the user name or the password is wrong", ErrLogin)
		}
		if c.login, err = answer(challenges); err != nil {
			return nil, err
		}
	}
}

func (c *Client) exchange(ctx context.Context, path string) (body []byte, challenges []string, err error) {
	target := c.base.String() + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("path: %w", err)
	}
	req.Header.Set("Accept", "application/json, text/plain, */*")
	req.Header.Set("User-Agent", "commonwatt")
	if header := c.login.header(c.options.Username, c.options.Password, req.Method, req.URL.RequestURI()); header != "" {
		req.Header.Set("Authorization", header)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, plain(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read, or is given up
	body, err = io.ReadAll(io.LimitReader(resp.Body, c.options.MaxBody+1))
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("reading the answer: %w", plain(err))
	case int64(len(body)) > c.options.MaxBody:
		return nil, nil, fmt.Errorf("got more than %d bytes: %w", c.options.MaxBody, ErrTooLong)
	case resp.StatusCode != http.StatusOK:
		return nil, resp.Header.Values("WWW-Authenticate"), &StatusError{resp.StatusCode}
	}
	return body, nil, nil
}

// plain takes the address out of an error: it is said once already.
func plain(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// redirect follows a host that moved a path, but not to another host.
func (c *Client) redirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("got %d in a row, expected at most %d: %w", len(via), maxRedirects, ErrRedirect)
	}
	if req.URL.Scheme != c.base.Scheme || req.URL.Host != c.base.Host {
		return fmt.Errorf("got one to %s://%s, expected none to another host: %w", req.URL.Scheme, req.URL.Host, ErrRedirect)
	}
	return nil
}

// dial waits until the last dial is long enough ago.
func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	stop := context.AfterFunc(c.life, cancel) //nolint:contextcheck // Close interrupts, whoever asked
	defer stop()
	if err := c.wait(ctx); err != nil {
		return nil, err
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

func (c *Client) wait(ctx context.Context) error {
	c.dialled.Lock()
	defer c.dialled.Unlock()
	if !c.dialled.last.IsZero() {
		timer := time.NewTimer(time.Until(c.dialled.last.Add(c.options.DialEvery)))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting to dial: %w", ctx.Err())
		}
	}
	c.dialled.last = time.Now()
	return nil
}
