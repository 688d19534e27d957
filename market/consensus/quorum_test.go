package consensus

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/p2p"
)

var quorumTrials = flag.Int("quorum", 0, "how often a quorum is lost and found over both transports, with gaps of 6, 8 and 45 s; 0: twice each, with short gaps")

// nodeEnv makes the test binary one node: the path of a nodeSpec.
const nodeEnv = "COMMONWATT_TEST_NODE"

// nodeSpec is all that a node in a process of its own has to know.
type nodeSpec struct {
	Home, Genesis, Key, State string // paths
	Seed                      string // of the network key, in hexadecimal
	Listen, Bootstrap         []string
	Watch                     string // household whose preference it tells
}

// told is what such a node says about itself, a line each time that it changes.
type told struct {
	Height  int64
	Member  bool   // the watched household is one
	Seq     uint64 // of its preference
	Peers   int
	Syncing bool
	End     string // why it ended
}

// runNode is such a process: a node that takes transactions on its input, one a line.
func runNode(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec nodeSpec
	if err := json.Unmarshal(raw, &spec); err != nil {
		return err
	}
	genesis, err := os.ReadFile(spec.Genesis)
	if err != nil {
		return err
	}
	seed, err := hex.DecodeString(spec.Seed)
	if err != nil {
		return err
	}
	watch, err := market.ParseHouseholdID(spec.Watch)
	if err != nil {
		return err
	}
	level := slog.LevelWarn
	if os.Getenv("COMMONWATT_TEST_LOG") == "debug" {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	var topic *p2p.Topic
	var host *p2p.Host
	key := ed25519.NewKeyFromSeed(seed)
	n, err := New(Config{
		Home: spec.Home, Genesis: genesis, NodeKey: key, ValidatorKeyFile: spec.Key, ValidatorStateFile: spec.State,
		Publish: func(ctx context.Context, b []byte) error { return topic.Publish(ctx, b) },
		Ask: func(ctx context.Context, to ed25519.PublicKey, question []byte) ([]byte, error) {
			return askHost(ctx, host, to, question)
		},
		Log: log,
	})
	if err != nil {
		return err
	}
	host, err = p2p.New(p2p.Config{
		Key: key, Listen: spec.Listen, Bootstrap: spec.Bootstrap, Log: log,
		Member: func(pub ed25519.PublicKey) (ok bool) {
			n.Read(func(s *ledger.State) { ok = s.IsMember(pub) })
			return ok
		},
	})
	if err != nil {
		return err
	}
	host.Handle(AnswerProtocol, MaxQuestion, func(ctx context.Context, from p2p.PeerID, question []byte) ([]byte, error) {
		key, err := p2p.KeyOf(from)
		if err != nil {
			return nil, err
		}
		return n.Answer(ctx, key, question)
	})
	tunnels, err := host.Tunnel(TunnelProtocol, TunnelsPerPeer)
	if err != nil {
		return err
	}
	topic, err = host.Join(topicName, MaxBundleBytes,
		func(_ context.Context, _ p2p.PeerID, b []byte) p2p.Verdict { return p2p.Verdict(n.Validate(b)) },
		func(p2p.PeerID, []byte) {})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			if tx, err := hex.DecodeString(lines.Text()); err != nil || n.Submit(ctx, tx) != nil {
				fmt.Fprintln(os.Stderr, "not submitted:", lines.Text())
			}
		}
		stop() // whoever started us has gone
	}()
	var telling sync.WaitGroup
	telling.Go(func() { tell(ctx, n, watch) })
	err = n.Run(ctx, tunnels)
	stop()
	telling.Wait()
	if err != nil {
		say(told{End: err.Error()})
	}
	return host.Close()
}

func tell(ctx context.Context, n *Node, watch market.HouseholdID) {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for last := (told{Height: -1}); ; {
		st := n.Status()
		now := told{Height: st.Height, Peers: st.Peers, Syncing: st.CatchingUp}
		n.Read(func(s *ledger.State) {
			if h, ok := s.Household(watch); ok {
				now.Member, now.Seq = true, h.PreferenceSeq
			}
		})
		if now != last {
			say(now)
			last = now
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func say(t told) {
	if err := json.NewEncoder(os.Stdout).Encode(t); err != nil {
		os.Exit(1) // nobody listens any more
	}
}

// process is a node in a process of its own, as its parent sees it.
type process struct {
	t    testing.TB
	spec nodeSpec
	dir  string

	cmd    *exec.Cmd
	stdin  io.WriteCloser
	output bytes.Buffer // what it logs
	ended  chan struct{}

	mu   sync.Mutex
	last told
}

func (p *process) start() {
	p.t.Helper()
	raw, err := json.Marshal(p.spec)
	if err != nil {
		p.t.Fatal(err)
	}
	path := filepath.Join(p.dir, "node.json")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.last = told{}
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), nodeEnv+"="+path)
	p.cmd.Stderr = &p.output
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.ended = make(chan struct{})
	go func(ended chan struct{}) {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var now told
			if json.Unmarshal(lines.Bytes(), &now) == nil {
				p.mu.Lock()
				if p.last = now; now.End != "" {
					p.mu.Unlock()
					return
				}
				p.mu.Unlock()
			}
		}
	}(p.ended)
}

func (p *process) says() told {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

func (p *process) kill() {
	p.t.Helper()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
	_ = p.cmd.Wait() // it was killed
	p.cmd = nil
}

func (p *process) submit(tx []byte) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.stdin, "%x\n", tx); err != nil {
		p.t.Fatal(err)
	}
}

// processes are the nodes of a street, each in a process of its own.
func (s *street) processes(listen string) []*process {
	s.t.Helper()
	var list []*process
	var addresses []string
	for _, m := range s.nodes {
		port, err := drawPort()
		if err != nil {
			s.t.Fatal(err)
		}
		id, err := p2p.IDOf(m.network.Public().(ed25519.PublicKey))
		if err != nil {
			s.t.Fatal(err)
		}
		own := strings.Replace(listen, "/0", fmt.Sprintf("/%d", port), 1)
		addresses = append(addresses, own+"/p2p/"+string(id))
		dir := filepath.Dir(m.cfg.Home)
		genesis := filepath.Join(dir, "genesis.json")
		if err := os.WriteFile(genesis, s.doc, 0o600); err != nil {
			s.t.Fatal(err)
		}
		list = append(list, &process{t: s.t, dir: dir, spec: nodeSpec{
			Home: m.cfg.Home, Genesis: genesis, Key: m.cfg.ValidatorKeyFile, State: m.cfg.ValidatorStateFile,
			Seed: hex.EncodeToString(m.network.Seed()), Listen: []string{own}, Watch: s.homes[0].id.String(),
		}})
	}
	for i, p := range list {
		p.spec.Bootstrap = slices.Delete(slices.Clone(addresses), i, i+1)
	}
	s.t.Cleanup(func() {
		for _, p := range list {
			p.kill()
			if s.t.Failed() {
				s.t.Logf("%s said:\n%s", p.dir, p.output.String())
			}
		}
	})
	return list
}

// patience bounds what must come, on however busy a machine.
const patience = 3 * time.Minute

func (s *street) awaitProcesses(what string, list []*process, ok func(told) bool) time.Duration {
	s.t.Helper()
	return await(s.t, patience, what, func() bool {
		for _, p := range list {
			if !ok(p.says()) {
				return false
			}
		}
		return true
	})
}

func (s *street) awaitProcessesUp(list []*process) {
	s.t.Helper()
	s.awaitProcesses("all processes up", list, func(t told) bool { return t.Height > 0 && !t.Syncing && t.Peers == len(list)-1 })
}

// enrol admits the first home through a process and waits for its first preference.
func (s *street) enrol(list []*process) {
	s.t.Helper()
	list[0].submit(s.admission(s.homes[0]))
	s.awaitProcesses("a member everywhere", list, func(t told) bool { return t.Member })
	list[0].submit(s.preference(s.homes[0]))
	seq := s.homes[0].seq
	s.awaitProcesses("its preference everywhere", list, func(t told) bool { return t.Seq == seq })
}

// TestQuorum: of four validators one is away, another is killed, so nothing can be decided,
// and returns: what has waited is committed, each time.
func TestQuorum(t *testing.T) {
	t.Parallel()
	for name, listen := range map[string]string{"tcp": listenTCP, "quic": listenQUIC} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gaps := []time.Duration{500 * time.Millisecond, 3 * time.Second}
			if *quorumTrials > 0 {
				gaps = nil
				for i := range *quorumTrials / 2 {
					gaps = append(gaps, []time.Duration{6 * time.Second, 8 * time.Second, 45 * time.Second}[i%3])
				}
			}
			loseQuorum(t, listen, gaps)
		})
	}
}

func loseQuorum(t *testing.T, listen string, gaps []time.Duration) {
	t.Helper()
	s := newStreet(t, streetOptions{validators: 4, homes: 1, interval: time.Hour, rate: 1, next: 50 * time.Minute})
	list := s.processes(listen)
	for _, p := range list {
		p.start()
	}
	s.awaitProcessesUp(list)
	s.enrol(list)
	var took []time.Duration
	for i, gap := range gaps {
		away, killed := list[1+i%3], list[1+(i+1)%3]
		away.kill()
		killed.kill()
		list[0].submit(s.preference(s.homes[0]))
		<-time.After(gap) // the length of the outage is what is tried here
		seq := s.homes[0].seq
		if list[0].says().Seq >= seq {
			t.Fatal("something was decided by two of four")
		}
		begin := time.Now()
		killed.start()
		s.awaitProcesses("what has waited is committed", list[:1], func(t told) bool { return t.Seq >= seq })
		took = append(took, time.Since(begin))
		t.Logf("gap %v: committed %v after the restart", gap, took[i].Round(time.Millisecond))
		away.start()
		s.awaitProcessesUp(list)
		s.awaitProcesses("all have it", list, func(t told) bool { return t.Seq >= seq })
	}
	t.Logf("%d of %d came back; the slowest took %v", len(took), len(gaps), slices.Max(took).Round(time.Millisecond))
}

// TestConnectionsLost: one node loses all its connections at once, and gets them back.
func TestConnectionsLost(t *testing.T) {
	t.Parallel()
	for name, listen := range map[string]string{"tcp": listenTCP, "quic": listenQUIC} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStreet(t, streetOptions{validators: 4, homes: 1, interval: time.Hour, rate: 1, next: 50 * time.Minute, listen: listen})
			s.start(s.nodes...)
			s.awaitUp(s.nodes...)
			s.admitOrPrefer(s.nodes)
			for range 2 {
				m := s.nodes[0]
				m.gone.Store(true)
				m.host.Recheck()
				m.gone.Store(false)
				begin := time.Now()
				await(t, patience, "the engine misses its peers", func() bool { return m.Status().Peers == 0 || len(m.tunnels.Peers()) == 3 })
				s.submit(s.nodes[1], s.preference(s.homes[0]))
				await(t, patience, "all peers are back", func() bool { return m.Status().Peers == 3 })
				back := time.Since(begin)
				s.awaitState("what was submitted meanwhile is everywhere", s.nodes, s.preferred(s.homes[0]))
				t.Logf("all peers back after %v, a transaction of the time between everywhere after %v",
					back.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
			}
		})
	}
}
