// Package bed lays out networks as homes have them, for tests: houses behind routers that
// translate and filter, a place with a public address, and an internet between them, all in
// network namespaces of one Linux machine, with the kernel's own NAT and with real processes
// at its ends. Nothing in it reaches the network outside.
//
// A test that needs one begins with [Enter], which runs the test again as a child in
// namespaces of its own (network, mounts, processes; and users, if it is not root's): they
// vanish with the child and all that it started, however it ends, and parallel tests do not
// see each other. It takes unshare and nsenter (util-linux), ip (iproute2) and iptables.
//
// Addresses: the internet gives each place the /24 and the /64 of its number, 11.0.N.0/24
// and 2a10:0:0:N::/64. They count as public, as documentation ranges do not; nobody else is
// in there. All houses use 192.168.178.0/24 inside, as they do.
package bed

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// insideEnv tells a test that it runs in namespaces of its own.
const insideEnv = "COMMONWATT_TEST_BED"

// patience bounds one command, which takes milliseconds.
const patience = time.Minute

// Enter returns true in a process that has network namespaces to itself. Elsewhere it runs
// the calling test, or once the benchmark, in such a process, with these variables (KEY=VALUE) added to its
// environment, fails the test if that fails, and returns false.
func Enter(tb testing.TB, env ...string) bool {
	tb.Helper()
	if os.Getenv(insideEnv) != "" {
		return true
	}
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	args := []string{"--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"}
	if os.Getuid() != 0 {
		args = append(args, "--user", "--map-root-user")
	}
	passed := "--- PASS: " + tb.Name()
	if _, ok := tb.(*testing.B); ok {
		passed = "PASS"
		args = append(args, self, "-test.run=^$", "-test.bench=^"+tb.Name()+"$", "-test.benchtime=1x", "-test.v")
	} else {
		args = append(args, self, "-test.run=^"+tb.Name()+"$", "-test.v", "-test.count=1")
	}
	cmd := exec.CommandContext(tb.Context(), "unshare", args...)
	cmd.Env = append(append(os.Environ(), insideEnv+"=1"), env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	tb.Logf("in namespaces of its own:\n%s", out.String())
	if err != nil {
		tb.Fatalf("%v (it takes unshare, nsenter, ip and iptables)", err)
	}
	if !strings.Contains(out.String(), passed) {
		tb.Fatal("the test did not run in the namespaces")
	}
	return false
}

// Bed is a network. Its methods fail the test if the machine will not do it.
type Bed struct {
	tb testing.TB

	mu     sync.Mutex
	places map[string]int // name -> number
}

// New prepares the internet. The test must have entered.
func New(tb testing.TB) *Bed {
	tb.Helper()
	b := &Bed{tb: tb, places: make(map[string]int)}
	// ip keeps its namespaces in /run/netns, iptables its lock in /run.
	b.sh("mount -t tmpfs tmpfs /run && ip link set lo up")
	b.space("internet")
	b.In("internet", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
	return b
}

// Public adds a place with an open public address, which it returns, of IPv4 and IPv6.
func (b *Bed) Public(name string) (ip4, ip6 string) {
	b.tb.Helper()
	b.space(name)
	return b.uplink(name, name)
}

// Router is what stands between a house and the internet.
type Router struct {
	// Symmetric routers use another port for each destination, so that nobody can tell from
	// one connection where the next one will come from.
	Symmetric bool
	// V6 gives the house public IPv6 addresses, which the router filters.
	V6 bool
}

// House adds a router and the homes behind it, which have 192.168.178.11 and so on, and,
// with V6, 2a10:0:0:10N::11 and so on. Nothing comes in that was not asked for.
func (b *Bed) House(name string, r Router, homes ...string) {
	b.tb.Helper()
	router := name + "-router"
	b.space(router)
	b.uplink(name, router)
	n := b.number(name)
	b.In(router, fmt.Sprintf(`
		echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
		ip link add lan type bridge; ip link set lan up; ip addr add 192.168.178.1/24 dev lan
		iptables -t nat -A POSTROUTING -o wan -j MASQUERADE %s
		for t in iptables ip6tables; do
			$t -P FORWARD DROP
			$t -A FORWARD -i lan -j ACCEPT
			$t -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
			$t -A INPUT -i wan -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
		done
		iptables -A INPUT -i wan -j DROP
		ip6tables -A INPUT -i wan -p ipv6-icmp -j ACCEPT; ip6tables -A INPUT -i wan -j DROP`,
		map[bool]string{true: "--random-fully"}[r.Symmetric]))
	if r.V6 {
		b.In(router, fmt.Sprintf("ip addr add 2a10:0:0:10%d::1/64 dev lan nodad", n))
		b.In("internet", fmt.Sprintf("ip route add 2a10:0:0:10%d::/64 via 2a10:0:0:%d::2", n, n))
	}
	for i, home := range homes {
		b.space(home)
		b.sh(fmt.Sprintf("ip -n %s link add eth0 type veth peer name home%d netns %s", home, i, router))
		b.In(router, fmt.Sprintf("ip link set home%d master lan up", i))
		b.In(home, fmt.Sprintf("ip link set eth0 up; ip addr add 192.168.178.%d/24 dev eth0; ip route add default via 192.168.178.1", 11+i))
		if r.V6 {
			b.In(home, fmt.Sprintf("ip addr add 2a10:0:0:10%d::%d/64 dev eth0 nodad; ip route add default via 2a10:0:0:10%d::1", n, 11+i, n))
		}
	}
}

// Cut takes a house's or a public place's line to the internet away, Mend gives it back.
func (b *Bed) Cut(name string) {
	b.tb.Helper()
	b.In("internet", fmt.Sprintf("ip link set to%d down", b.number(name)))
}

// Mend ends what Cut did.
func (b *Bed) Mend(name string) {
	b.tb.Helper()
	n := b.number(name)
	b.In("internet", fmt.Sprintf("ip link set to%d up; ip -6 addr replace 2a10:0:0:%d::1/64 dev to%d nodad", n, n, n))
	b.In("internet", fmt.Sprintf("ip route replace 2a10:0:0:10%d::/64 via 2a10:0:0:%d::2", n, n))
}

// Command prepares a program in a place or a home. It is killed if it outlives the context.
func (b *Bed) Command(ctx context.Context, name string, argv ...string) *exec.Cmd {
	args := append([]string{"--net=/run/netns/" + name, "--"}, argv...)
	return exec.CommandContext(ctx, "nsenter", args...) //nolint:gosec // a test's own programs
}

// In runs a line of shell in a place, a home or a router (which is NAME-router).
func (b *Bed) In(name, script string) {
	b.tb.Helper()
	ctx, cancel := context.WithTimeout(b.tb.Context(), patience)
	defer cancel()
	b.run(b.Command(ctx, name, "sh", "-e", "-c", script))
}

// space makes a namespace.
func (b *Bed) space(name string) {
	b.tb.Helper()
	b.sh(fmt.Sprintf("ip netns add %s && ip -n %s link set lo up", name, name))
}

// uplink connects a namespace with the internet by a line called wan.
func (b *Bed) uplink(name, space string) (ip4, ip6 string) {
	b.tb.Helper()
	b.mu.Lock()
	n := len(b.places) + 1
	b.places[name] = n
	b.mu.Unlock()
	b.sh(fmt.Sprintf("ip -n internet link add to%d type veth peer name wan netns %s", n, space))
	b.In("internet", fmt.Sprintf("ip link set to%d up; ip addr add 11.0.%d.1/24 dev to%d; ip addr add 2a10:0:0:%d::1/64 dev to%d nodad", n, n, n, n, n))
	b.In(space, fmt.Sprintf(`ip link set wan up
		ip addr add 11.0.%d.2/24 dev wan; ip route add default via 11.0.%d.1
		ip addr add 2a10:0:0:%d::2/64 dev wan nodad; ip route add default via 2a10:0:0:%d::1`, n, n, n, n))
	return fmt.Sprintf("11.0.%d.2", n), fmt.Sprintf("2a10:0:0:%d::2", n)
}

func (b *Bed) number(name string) int {
	b.tb.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	n, ok := b.places[name]
	if !ok {
		b.tb.Fatalf("no place %q in this network", name)
	}
	return n
}

func (b *Bed) sh(script string) {
	b.tb.Helper()
	ctx, cancel := context.WithTimeout(b.tb.Context(), patience)
	defer cancel()
	b.run(exec.CommandContext(ctx, "sh", "-e", "-c", script)) //nolint:gosec // the bed's own scripts
}

func (b *Bed) run(cmd *exec.Cmd) {
	b.tb.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.tb.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}
