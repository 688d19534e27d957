package httpjson

import "sync"

// Pool makes sure that there is one client per host, however many meters are behind it. It is safe for concurrent use.
type Pool struct {
	mu     sync.Mutex
	shared map[key]*sharedClient // guarded by mu
}

// key tells clients apart: who asks with another name is another client.
type key struct{ scheme, host, username, password string }

type sharedClient struct {
	client *Client
	users  int
}

// NewPool makes an empty pool.
func NewPool() *Pool { return &Pool{shared: map[key]*sharedClient{}} }

// Get returns the client for a host and a function that gives it back; the last one to do so closes it. The options are
// those of whoever asked first.
func (p *Pool) Get(scheme, host string, o Options) (*Client, func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := key{scheme, host, o.Username, o.Password}
	s := p.shared[k]
	if s == nil {
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
