package p2p_test

import (
	"bufio"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/p2p"
	"github.com/commonwatt/commonwatt/p2p/bed"
)

// networkEnv makes the test binary one home of a network test: its settings as JSON.
const networkEnv = "P2P_TEST_HOME"

// homeSettings are what a home of a network test needs.
type homeSettings struct {
	Seed        string
	Listen      []string
	Bootstrap   []string
	MDNS        string
	AddressFile string
	Members     []string // network keys
	Verbose     bool
}

// homePeer is what such a home says of a peer.
type homePeer struct {
	p2p.PeerInfo
	Relayed bool // by one of its connections, be there a better one or not
}

// networkHome runs a home that prints its peers every 100 ms, one line of JSON each time,
// and says every second on the topic where it is.
func networkHome(settings string) error {
	var s homeSettings
	if err := json.Unmarshal([]byte(settings), &s); err != nil {
		return err
	}
	seed, err := hex.DecodeString(s.Seed)
	if err != nil {
		return err
	}
	cfg := p2p.Config{
		Key: ed25519.NewKeyFromSeed(seed), Listen: s.Listen, Bootstrap: s.Bootstrap, MDNS: s.MDNS, AddressFile: s.AddressFile,
		Member: func(pub ed25519.PublicKey) bool { return slices.Contains(s.Members, hex.EncodeToString(pub)) },
	}
	if s.Verbose {
		cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	h, err := p2p.New(cfg)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	for tick := time.NewTicker(100 * time.Millisecond); ; {
		<-tick.C
		var peers []homePeer
		for _, p := range h.Peers() {
			peers = append(peers, homePeer{p, h.Relayed(p.ID)})
		}
		if err := out.Encode(peers); err != nil {
			return err
		}
	}
}

// networkTest is a bed with homes in it.
type networkTest struct {
	tb   testing.TB
	bed  *bed.Bed
	keys map[string]ed25519.PrivateKey
	mu   sync.Mutex
	seen map[string]map[string]homePeer // home -> peer -> what it last said
	stop map[string]func()
}

func newNetworkTest(tb testing.TB, homes ...string) *networkTest {
	n := &networkTest{
		tb: tb, bed: bed.New(tb), keys: make(map[string]ed25519.PrivateKey),
		seen: make(map[string]map[string]homePeer), stop: make(map[string]func()),
	}
	for _, home := range homes {
		n.keys[home] = newKey(tb)
	}
	return n
}

func (n *networkTest) id(home string) p2p.PeerID {
	n.tb.Helper()
	id, err := p2p.IDOf(n.keys[home].Public().(ed25519.PublicKey))
	if err != nil {
		n.tb.Fatal(err)
	}
	return id
}

// run starts a home's process in its namespace.
func (n *networkTest) run(home string, s homeSettings) {
	n.tb.Helper()
	s.Seed = hex.EncodeToString(n.keys[home].Seed())
	for _, key := range n.keys {
		s.Members = append(s.Members, hex.EncodeToString(key.Public().(ed25519.PublicKey)))
	}
	s.Verbose = os.Getenv("P2P_TEST_VERBOSE") != ""
	settings, err := json.Marshal(s)
	if err != nil {
		n.tb.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		n.tb.Fatal(err)
	}
	cmd := n.bed.Command(n.tb.Context(), home, self)
	cmd.Env = append(os.Environ(), networkEnv+"="+string(settings))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		n.tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		n.tb.Fatal(err)
	}
	names := make(map[p2p.PeerID]string)
	for name := range n.keys {
		names[n.id(name)] = name
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var peers []homePeer
			if err := json.Unmarshal(lines.Bytes(), &peers); err != nil {
				n.tb.Errorf("%s says %q: %v", home, lines.Text(), err)
				return
			}
			now := make(map[string]homePeer)
			for _, p := range peers {
				p.Via = p2p.PeerID(names[p.Via])
				now[names[p.ID]] = p
			}
			n.mu.Lock()
			n.seen[home] = now
			n.mu.Unlock()
		}
	}()
	var once sync.Once
	n.stop[home] = func() {
		once.Do(func() {
			_ = cmd.Process.Kill()
			<-done
			_ = cmd.Wait()
			n.mu.Lock()
			delete(n.seen, home)
			n.mu.Unlock()
		})
	}
	n.tb.Cleanup(n.stop[home])
}

// path is how one home says that it reaches another, and by nothing else; "" if it does not.
func (n *networkTest) path(from, to string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, ok := n.seen[from][to]
	switch {
	case !ok:
		return ""
	case p.Path == p2p.PathRelayed:
		return "relayed by " + string(p.Via)
	case p.Relayed: // that connection is given up soon
		return string(p.Path) + ", and by relay"
	default:
		return string(p.Path)
	}
}

// await waits until all paths are as they should be: "A B" -> path, in both directions. A
// path of several words separated by | may be any of them.
func (n *networkTest) await(what string, want map[string]string) {
	n.tb.Helper()
	start := time.Now()
	deadline := start.Add(patience)
	for {
		wrong := ""
		for pair, paths := range want {
			a, b, _ := strings.Cut(pair, " ")
			for _, way := range [][2]string{{a, b}, {b, a}} {
				if got := n.path(way[0], way[1]); !slices.Contains(strings.Split(paths, "|"), got) {
					wrong += fmt.Sprintf("\n  %s reaches %s %q, want %q", way[0], way[1], got, paths)
				}
			}
		}
		if wrong == "" {
			n.tb.Logf("%s: after %v\n%s", what, time.Since(start).Round(100*time.Millisecond), n.picture())
			return
		}
		if time.Now().After(deadline) {
			n.tb.Fatalf("%s: waited %v in vain:%s\n%s", what, patience, wrong, n.picture())
		}
		<-time.After(50 * time.Millisecond)
	}
}

// picture lists all paths.
func (n *networkTest) picture() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var s strings.Builder
	for _, home := range slices.Sorted(maps.Keys(n.seen)) {
		for _, peer := range slices.Sorted(maps.Keys(n.seen[home])) {
			p := n.seen[home][peer]
			fmt.Fprintf(&s, "  %s -> %s: %s %s, %s %s, for %v\n", home, peer, p.Path, p.Via, p.Direction, p.Addr, time.Since(p.Since).Round(100*time.Millisecond))
		}
	}
	return s.String()
}

// everywhere listens on all addresses at one port.
func everywhere(port int) []string {
	return []string{
		fmt.Sprintf("/ip4/0.0.0.0/udp/%d/quic-v1", port), fmt.Sprintf("/ip4/0.0.0.0/tcp/%d", port),
		fmt.Sprintf("/ip6/::/udp/%d/quic-v1", port), fmt.Sprintf("/ip6/::/tcp/%d", port),
	}
}

// TestNetworks: two homes of one house, one of another house, both behind routers, and one
// with a public address. Each path is the best there is; when the line of the first house is
// cut its homes keep each other, and when it is mended all find each other again.
func TestNetworks(t *testing.T) {
	t.Parallel()
	if !bed.Enter(t) {
		return
	}
	n := newNetworkTest(t, "a1", "a2", "b1", "p")
	public, _ := n.bed.Public("p")
	n.bed.House("a", bed.Router{}, "a1", "a2")
	n.bed.House("b", bed.Router{}, "b1")
	first := []string{"/ip4/" + public + "/udp/8602/quic-v1/p2p/" + string(n.id("p"))}
	dir := t.TempDir()
	settings := func(home string, port int) homeSettings {
		return homeSettings{Listen: everywhere(port), Bootstrap: first, MDNS: "_cw-bed._udp", AddressFile: filepath.Join(dir, home)}
	}
	n.run("p", homeSettings{Listen: everywhere(8602)})
	n.run("a1", settings("a1", 8602))
	n.run("a2", settings("a2", 8603))
	n.run("b1", settings("b1", 8602))
	whole := map[string]string{
		"a1 a2": "local", "a1 p": "direct", "a2 p": "direct", "b1 p": "direct",
		"a1 b1": "punched", "a2 b1": "punched",
	}
	n.await("all meet", whole)

	n.bed.Cut("a")
	n.await("house a is cut off", map[string]string{"a1 a2": "local", "a1 p": "", "a2 p": "", "a1 b1": "", "a2 b1": "", "b1 p": "direct"})
	n.bed.Mend("a")
	n.await("house a is back", whole)

	// A home that knows nobody but from its file.
	n.stop["a1"]()
	s := settings("a1", 8602)
	s.Bootstrap, s.MDNS = nil, ""
	n.run("a1", s)
	n.await("a1 is back, with its file only", whole)
}

// TestSymmetricRouters: where holes cannot be punched, the relay carries.
func TestSymmetricRouters(t *testing.T) {
	t.Parallel()
	if !bed.Enter(t) {
		return
	}
	n := newNetworkTest(t, "a1", "b1", "p")
	public, _ := n.bed.Public("p")
	n.bed.House("a", bed.Router{Symmetric: true}, "a1")
	n.bed.House("b", bed.Router{Symmetric: true}, "b1")
	s := homeSettings{Listen: everywhere(8602), Bootstrap: []string{"/ip4/" + public + "/udp/8602/quic-v1/p2p/" + string(n.id("p"))}}
	n.run("p", homeSettings{Listen: everywhere(8602)})
	n.run("a1", s)
	n.run("b1", s)
	n.await("all meet", map[string]string{"a1 p": "direct", "b1 p": "direct", "a1 b1": "relayed by p"})
}
