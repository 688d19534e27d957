package modbus

import (
	"fmt"
	"sync"
)

// Pool makes sure that there is one bus per line, however many meters are behind it. It is safe for concurrent use.
type Pool struct {
	options Options
	mu      sync.Mutex
	shared  map[string]*sharedBus // by the key of the line; guarded by mu
}

type sharedBus struct {
	line  Line
	bus   *Bus
	users int
}

// NewPool makes a pool whose buses have these options.
func NewPool(o Options) *Pool {
	return &Pool{options: o, shared: map[string]*sharedBus{}}
}

// Get returns the bus for a line and a function that gives it back; the last one to do so closes it. A line that is
// described wrongly, or in another way than its users have it already, is an ErrLine.
func (p *Pool) Get(l Line) (*Bus, func() error, error) {
	if err := l.check(); err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := l.key()
	s := p.shared[key]
	if s == nil {
		s = &sharedBus{line: l, bus: NewBus(l, p.options)}
		p.shared[key] = s
	}
	if !s.line.same(l) {
		return nil, nil, fmt.Errorf("line: got %s, but another meter has it open as %s; expected the same for both: %w", l.describe(), s.line.describe(), ErrLine)
	}
	s.users++
	var once sync.Once
	return s.bus, func() (err error) {
		once.Do(func() { err = p.release(key, s) })
		return err
	}, nil
}

func (p *Pool) release(key string, s *sharedBus) error {
	p.mu.Lock()
	s.users--
	last := s.users == 0
	if last {
		delete(p.shared, key)
	}
	p.mu.Unlock()
	if !last {
		return nil
	}
	return s.bus.Close()
}
