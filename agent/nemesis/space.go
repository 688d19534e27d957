package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/p2p/bed"
)

// patience bounds one command that takes milliseconds.
const patience = time.Minute

// space is a network namespace with one line, eth0, to the street's bridge.
type space struct {
	name   string
	ip     string
	client *http.Client // as a program inside would ask
}

// shell runs a line of shell.
func shell(ctx context.Context, argv ...string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // the rig's own scripts
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out.String())
	}
	return nil
}

// newBridge prepares the street's wire. The command must be in namespaces of its own: ip keeps its names in
// /run/netns, iptables its lock in /run.
func newBridge(ctx context.Context) error {
	return shell(ctx, "sh", "-e", "-c", "mount -t tmpfs tmpfs /run; ip link set lo up; ip link add street type bridge; ip link set street up")
}

// newSpace makes a namespace with the n-th address.
func newSpace(ctx context.Context, name string, n int) (*space, error) {
	s := &space{name: name, ip: fmt.Sprintf("10.77.0.%d", n)}
	path := "/run/netns/" + name
	s.client = &http.Client{Timeout: askTimeout, Transport: &http.Transport{
		MaxIdleConnsPerHost: 2, IdleConnTimeout: 10 * time.Second,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return bed.DialIn(ctx, path, network, addr)
		},
	}}
	return s, shell(ctx, "sh", "-e", "-c", fmt.Sprintf(`ip netns add %[1]s; ip -n %[1]s link set lo up
		ip link add to-%[1]s type veth peer name eth0 netns %[1]s
		ip link set to-%[1]s master street up
		ip -n %[1]s addr add %[2]s/24 dev eth0; ip -n %[1]s link set eth0 up`, name, s.ip))
}

// in runs a line of shell inside.
func (s *space) in(ctx context.Context, script string) error {
	return shell(ctx, append(s.enter(), "sh", "-e", "-c", script)...)
}

// enter is what to write before a command that is to run inside.
func (s *space) enter() []string { return []string{"nsenter", "--net=/run/netns/" + s.name, "--"} }

// deafTo drops all that comes from the others.
func (s *space) deafTo(ctx context.Context, others ...*space) error {
	var script strings.Builder
	for _, o := range others {
		fmt.Fprintf(&script, "iptables -w -A INPUT -s %s -j DROP\n", o.ip)
	}
	return s.in(ctx, script.String())
}

// lossy drops a share of all that comes in.
func (s *space) lossy(ctx context.Context, share float64) error {
	return s.in(ctx, fmt.Sprintf("iptables -w -A INPUT -i eth0 -m statistic --mode random --probability %.3f -j DROP", share))
}

// slow makes the line out so narrow.
func (s *space) slow(ctx context.Context, kbit int) error {
	return s.in(ctx, fmt.Sprintf("tc qdisc add dev eth0 root tbf rate %dkbit burst 16kbit latency 400ms", kbit))
}

// mend undoes what was done to the line.
func (s *space) mend(ctx context.Context) error {
	return errors.Join(
		s.in(ctx, "iptables -w -F INPUT; ip link set eth0 up; tc qdisc del dev eth0 root 2>/dev/null || true"),
		shell(ctx, "ip", "link", "set", "to-"+s.name, "up"))
}
