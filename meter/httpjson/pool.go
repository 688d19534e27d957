package httpjson

import (
	"cmp"
	"sync"
)

// Pool makes sure that there is one client per host, however many meters are behind it. It is safe for concurrent use.
type Pool struct {
	defaults Options
	mu       sync.Mutex
	shared   map[key]*sharedClient // guarded by mu
}

// key tells clients apart: who asks with another name is another client.
type key struct{ scheme, host, username, password string }

type sharedClient struct {
	client *Client
	users  int
}

// NewPool makes an empty pool. Its defaults are for the times and the log that whoever asks for a client does not name.
func NewPool(defaults Options) *Pool {
	return &Pool{defaults: defaults, shared: map[key]*sharedClient{}}
}

// Get returns the client for a host and a function that gives it back; the last one to do so closes it. The options are
// those of whoever asked first.
func (p *Pool) Get(scheme, host string, o Options) (*Client, func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := key{scheme, host, o.Username, o.Password}
	s := p.shared[k]
	if s == nil {
		o.Timeout = cmp.Or(o.Timeout, p.defaults.Timeout)
		o.DialEvery = cmp.Or(o.DialEvery, p.defaults.DialEvery)
		o.BackoffStep = cmp.Or(o.BackoffStep, p.defaults.BackoffStep)
		o.BackoffMax = cmp.Or(o.BackoffMax, p.defaults.BackoffMax)
		o.Log = cmp.Or(o.Log, p.defaults.Log)
		s = &sharedClient{client: New(scheme, host, o)}
		p.shared[k] = s
	}
	s.users++
	var once sync.Once
	return s.client, func() (err error) {
		once.Do(func() { err = p.release(k, s) })
		return err
	}
}

func (p *Pool) release(k key, s *sharedClient) error {
	p.mu.Lock()
	s.users--
	last := s.users == 0
	if last {
		delete(p.shared, k)
	}
	p.mu.Unlock()
	if !last {
		return nil
	}
	return s.client.Close()
}
