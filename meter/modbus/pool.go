package modbus

import "sync"

// Pool makes sure that there is one bus per host:port, however many meters are behind it. It is safe for concurrent use.
type Pool struct {
	options Options
	mu      sync.Mutex
	shared  map[string]*sharedBus // guarded by mu
}

type sharedBus struct {
	bus   *Bus
	users int
}

// NewPool makes a pool whose buses have these options.
func NewPool(o Options) *Pool {
	return &Pool{options: o, shared: map[string]*sharedBus{}}
}

// Get returns the bus for an address and a function that gives it back; the last one to do so closes it.
func (p *Pool) Get(address string) (*Bus, func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.shared[address]
	if s == nil {
		s = &sharedBus{bus: NewBus(address, p.options)}
		p.shared[address] = s
	}
	s.users++
	var once sync.Once
	return s.bus, func() (err error) {
		once.Do(func() { err = p.release(address, s) })
		return err
	}
}

func (p *Pool) release(address string, s *sharedBus) error {
	p.mu.Lock()
	s.users--
	last := s.users == 0
	if last {
		delete(p.shared, address)
	}
	p.mu.Unlock()
	if !last {
		return nil
	}
	return s.bus.Close()
}
