package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/commonwatt/commonwatt/agent/household"
)

// isAddressInUse recognises a taken port also where a library kept only the text.
func isAddressInUse(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) || strings.Contains(err.Error(), syscall.EADDRINUSE.Error())
}

// portProblem says which port is taken, by whom if that can be known, and how to
// choose another.
func portProblem(err error, cfg household.Config, file string) error {
	type listener struct{ key, network, addr string }
	all := []listener{{"listen.api", "tcp", cfg.Listen.API}}
	for _, a := range cfg.Listen.Network {
		// /ip4/ADDRESS/tcp/PORT or /ip4/ADDRESS/udp/PORT/quic-v1
		if parts := strings.Split(a, "/"); len(parts) >= 5 && (parts[3] == "tcp" || parts[3] == "udp") {
			all = append(all, listener{"listen.network", parts[3], net.JoinHostPort(parts[2], parts[4])})
		}
	}
	for _, l := range all {
		if !taken(l.network, l.addr) {
			continue
		}
		return &problem{
			exitFailed, fmt.Errorf("%sport %s is in use%s", map[string]string{"udp": "UDP "}[l.network], l.addr, holder(l.network, l.addr)),
			fmt.Sprintf("change %s in %s, or end the other program", l.key, file),
		}
	}
	return &problem{exitFailed, err, "change listen.network in " + file + ", or end the other program"}
}

// taken says whether nobody else can listen there now.
func taken(network, addr string) bool {
	var l io.Closer
	var err error
	if network == "udp" {
		l, err = net.ListenPacket(network, addr) //nolint:noctx // at once, on this machine
	} else {
		l, err = net.Listen(network, addr) //nolint:noctx // at once, on this machine
	}
	if err != nil {
		return errors.Is(err, syscall.EADDRINUSE)
	}
	return l.Close() != nil
}

// holder names the process that listens at an address: " by name (process 12)". It is
// empty where the system does not say, for example of another user's process.
func holder(network, addr string) string {
	_, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return ""
	}
	for _, table := range []string{"/proc/net/" + network, "/proc/net/" + network + "6"} {
		if inode := listening(table, port); inode != "" {
			return owner(inode)
		}
	}
	return ""
}

// listening finds the socket that listens at a port in one of the kernel's tables.
func listening(table string, port uint64) (inode string) {
	f, err := os.Open(table) //nolint:gosec // one of four fixed names
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // only read from
	state := "0A"   // it listens
	if strings.Contains(table, "udp") {
		state = "07" // it is bound
	}
	suffix := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 9 && strings.HasSuffix(fields[1], suffix) && fields[3] == state {
			return fields[9]
		}
	}
	return ""
}

// owner finds the process that has a socket.
func owner(inode string) string {
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, fd := range fds {
		if link, err := os.Readlink(fd); err == nil && link == "socket:["+inode+"]" {
			pid := strings.Split(fd, "/")[2]
			name, err := os.ReadFile("/proc/" + pid + "/comm") //nolint:gosec // a process id from the kernel
			if err != nil {
				return " by process " + pid
			}
			return fmt.Sprintf(" by %s (process %s)", strings.TrimSpace(string(name)), pid)
		}
	}
	return ""
}
