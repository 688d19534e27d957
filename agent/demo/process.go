package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/commonwatt/commonwatt/agent/household"
)

// process is one program of the street. Its supervisor goroutine owns cmd; the
// others read pid under mu.
type process struct {
	name    string
	argv    []string
	logFile string
	pidFile string // who runs it, also when a person started it

	mu    sync.Mutex
	cmd   *exec.Cmd
	ended []string // ends that nobody asked for, with their times
	off   bool     // an outage keeps it from being started again
}

// startAgent starts the agent of home i and keeps it running until ctx ends.
func startAgent(ctx context.Context, g *errgroup.Group, s *street, i int) (*process, error) {
	h := s.plan.Homes[i]
	p := &process{
		name: h.Name, argv: []string{s.opt.Agent, "run", "--home", h.dir(s.opt.Dir)},
		logFile: filepath.Join(s.opt.Dir, "logs", h.Name+".log"),
		pidFile: filepath.Join(h.dir(s.opt.Dir), household.PIDFile),
	}
	if err := p.start(); err != nil {
		return nil, err
	}
	g.Go(func() error { return p.supervise(ctx, s) })
	return p, nil
}

func (p *process) start() error {
	log, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	defer log.Close()                             //nolint:errcheck // the process has its own copy
	cmd := exec.Command(p.argv[0], p.argv[1:]...) //nolint:gosec,noctx // our own programs; ended by signal, in order
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us: we end the others in order
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", p.name, err)
	}
	p.mu.Lock()
	p.cmd = cmd
	p.mu.Unlock()
	return nil
}

// supervise waits for the process, and starts it again some time after an end that
// nobody asked for, unless a person has done so meanwhile.
func (p *process) supervise(ctx context.Context, s *street) error {
	for {
		err := p.cmd.Wait()
		if ctx.Err() != nil {
			return nil //nolint:nilerr // we asked for this end
		}
		how := "ended by itself"
		if err != nil {
			how = err.Error()
		}
		p.mu.Lock()
		p.ended = append(p.ended, fmt.Sprintf("%s: %s", p.name, how))
		p.mu.Unlock()
		if !p.isOff() {
			fmt.Fprintf(s.opt.Say, "%s: %s; the street goes on. It is started again in %v, or by: %s\n",
				p.name, how, restartAfter, strings.Join(p.argv, " "))
		}
		if !p.awaitTurn(ctx) {
			return nil
		}
		if err := p.start(); err != nil {
			return err
		}
		fmt.Fprintf(s.opt.Say, "%s: started again\n", p.name)
	}
}

// awaitTurn waits until the process may be started again; false if ctx ended first.
func (p *process) awaitTurn(ctx context.Context) bool {
	due := time.Now().Add(restartAfter)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		switch {
		case p.isOff():
			due = time.Now() // at once when the power is back
		case runningPID(p.pidFile) != 0:
			due = time.Now().Add(restartAfter) // somebody else runs it
		case time.Now().After(due):
			return true
		}
	}
}

func (p *process) isOff() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.off
}

// switchOff ends the process as a power cut does, whoever started it, until switchOn.
func (p *process) switchOff() {
	p.mu.Lock()
	p.off = true
	pid := p.cmd.Process.Pid
	p.mu.Unlock()
	_ = syscall.Kill(pid, syscall.SIGKILL)
	if other := runningPID(p.pidFile); other != 0 && other != pid {
		_ = syscall.Kill(other, syscall.SIGKILL)
	}
}

func (p *process) switchOn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.off = false
}

// stop asks the process to end, whoever started it, and makes it end if it does not.
func (p *process) stop() {
	p.mu.Lock()
	cmd := p.cmd
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	pids := []int{cmd.Process.Pid}
	if other := runningPID(p.pidFile); other != 0 && other != pids[0] {
		pids = append(pids, other)
	}
	for _, pid := range pids {
		endProcess(pid, stopTimeout)
	}
}

// endProcess ends a process with SIGTERM, and with SIGKILL after the limit.
func endProcess(pid int, limit time.Duration) {
	if syscall.Kill(pid, syscall.SIGTERM) != nil {
		return
	}
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if !alive(pid) {
			return
		}
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			deadline = deadline.Add(time.Hour)
		}
	}
}

// alive says whether a process runs; one that has ended and waits to be collected
// does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	return !ok || !strings.HasPrefix(rest, "Z")
}

// runningPID returns the process that a file names, if it runs and its command line
// has the file's folder in it; else 0.
func runningPID(pidFile string) int {
	raw, err := os.ReadFile(pidFile) //nolint:gosec // a file of this street
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid < 2 || !alive(pid) {
		return 0
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(cmdline), filepath.Dir(pidFile)) {
		return 0
	}
	return pid
}

// stopLeftovers ends what an earlier demonstration left running, as when it was killed.
func stopLeftovers(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "homes", "*", household.PIDFile))
	if err != nil {
		return err
	}
	files = append(files, filepath.Join(dir, simulatorPID))
	var wait sync.WaitGroup
	for _, f := range files {
		if pid := runningPID(f); pid != 0 {
			wait.Go(func() { endProcess(pid, stopTimeout) })
		}
	}
	wait.Wait()
	return nil
}

func (s *street) stopAgents() {
	var wait sync.WaitGroup
	for _, p := range s.agents {
		wait.Go(p.stop)
	}
	wait.Wait()
}

// simulatorReady is the line that firmware-sim prints when all of it listens.
type simulatorReady struct {
	Ready   bool   `json:"ready"`
	Modbus  string `json:"modbus"`
	MQTT    string `json:"mqtt"`
	Control string `json:"control"`
}

const simulatorPID = "firmware-sim.pid"

// startSimulator starts firmware-sim and waits until it is ready. It is not started
// again: without the physical world there is nothing to measure.
func (s *street) startSimulator(ctx, run context.Context, g *errgroup.Group) error {
	log, err := os.OpenFile(filepath.Join(s.opt.Dir, "logs", "firmware-sim.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("starting firmware-sim: %w", err)
	}
	defer log.Close()                                                                                  //nolint:errcheck // the process has its own copy
	cmd := exec.Command(s.opt.Simulator, "run", "--config", filepath.Join(s.opt.Dir, simulatorConfig)) //nolint:gosec,noctx // our own program; ended by signal, last
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("starting firmware-sim: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting firmware-sim: %w", err)
	}
	s.sim = &process{name: "firmware-sim", cmd: cmd, pidFile: filepath.Join(s.opt.Dir, simulatorPID)}
	if err := os.WriteFile(s.sim.pidFile, []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o600); err != nil {
		return err
	}
	lines := make(chan string, 1)
	ended := make(chan error, 1)
	go func() {
		r := bufio.NewReader(out)
		line, _ := r.ReadString('\n')
		lines <- line
		ended <- cmd.Wait()
	}()
	g.Go(func() error {
		select {
		case <-run.Done():
			return nil
		case err := <-ended:
			return fmt.Errorf("firmware-sim ended by itself (%w): see %s", err, log.Name())
		}
	})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case line := <-lines:
		if err := json.Unmarshal([]byte(line), &s.ready); err != nil || !s.ready.Ready {
			return fmt.Errorf("firmware-sim did not start: see %s", log.Name())
		}
		return nil
	case <-time.After(startTimeout):
		return fmt.Errorf("firmware-sim was not ready after %v: see %s", startTimeout, log.Name())
	}
}

func (s *street) stopSimulator() {
	if s.sim != nil {
		endProcess(s.sim.cmd.Process.Pid, stopTimeout)
		_ = os.Remove(s.sim.pidFile)
	}
}
