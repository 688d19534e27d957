package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/commonwatt/commonwatt/agent/nemesis/card"
)

// stopTimeout is how long a program may take to end in order.
const stopTimeout = 30 * time.Second

// process is one program in a namespace, which may be started again and again.
type process struct {
	space   *space
	logFile string

	mu       sync.Mutex
	cmd      *exec.Cmd     // nil: it was never started
	ended    chan struct{} // closed when cmd has ended
	asked    bool          // somebody wanted it to end
	surprise []string      // ends that nobody had asked for
}

// begin starts the program; env is added to the environment.
func (p *process) begin(env []string, argv ...string) error {
	if p.runs() {
		return fmt.Errorf("starting %s: it runs already", argv[0])
	}
	log, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the process has its own copy
	argv = append(p.space.enter(), argv...)
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:gosec,noctx // our own programs; ended by signal
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", argv[0], err)
	}
	ended := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.ended, p.asked = cmd, ended, false
	p.mu.Unlock()
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		if !p.asked {
			p.surprise = append(p.surprise, fmt.Sprintf("ended by itself: %v", err))
		}
		p.mu.Unlock()
		close(ended)
	}()
	return nil
}

// runs says whether it has not ended.
func (p *process) runs() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// signal sends one; it may end the process if ends is true.
func (p *process) signal(s syscall.Signal, ends bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	p.asked = p.asked || ends
	_ = p.cmd.Process.Signal(s) // it may have ended; nsenter has become the program
}

// kill ends it as kill -9 does, and returns when it is gone.
func (p *process) kill() {
	p.signal(syscall.SIGKILL, true)
	if p.ended != nil {
		<-p.ended
	}
}

// stop ends it in order.
func (p *process) stop() error {
	if !p.runs() {
		return nil
	}
	p.signal(syscall.SIGTERM, true)
	select {
	case <-p.ended:
		return nil
	case <-time.After(stopTimeout):
		p.kill()
		return fmt.Errorf("%s did not end within %v of SIGTERM", filepath.Base(p.logFile), stopTimeout)
	}
}

func (p *process) pause()  { p.signal(syscall.SIGSTOP, false) }
func (p *process) resume() { p.signal(syscall.SIGCONT, false) }

// surprises are ends that nobody had asked for; they are told once.
func (p *process) surprises() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.surprise
	p.surprise = nil
	return out
}

// home is one of the street's: a folder, a namespace, and its agent.
type home struct {
	process
	name   string
	number int // from 1
	role   string
	dir    string
	card   *card.Card // which dir is on
	id     string     // of the household, hex
	solar  int        // kWp
	signer signer
}

// full says whether it keeps the whole ledger.
func (h *home) full() bool { return h.role != roleLight }

// start starts its agent: commonwatt, or another program in its place, with more in its
// environment.
func (h *home) start(r *rig) error { return h.startAs(r.agent) }

func (h *home) startAs(program string, env ...string) error {
	return h.begin(env, program, "run", "--home", h.dir)
}

// restart ends it in order and starts it again.
func (h *home) restart(r *rig) error { return errors.Join(h.stop(), h.start(r)) }

// ready waits until its page answers and its ledger runs.
func (h *home) ready(ctx context.Context) error {
	return await(ctx, readyTimeout, h.name+" is ready", func() bool {
		s, err := h.status(ctx)
		return err == nil && !s.Ledger.CatchingUp
	})
}

// readyTimeout is for a street on a machine that has other work too.
const readyTimeout = 3 * time.Minute

// await looks until something is so.
func await(ctx context.Context, within time.Duration, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("after %v not so: %s", within, what))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// pause waits; false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
