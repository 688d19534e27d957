package cli

import (
	"bufio"
	"errors"
	"fmt"
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
	type listener struct{ key, addr string }
	all := []listener{{"listen.api", cfg.Listen.API}, {"listen.engine", cfg.Listen.Engine}}
	for _, g := range cfg.Listen.Gossip {
		if parts := strings.Split(g, "/"); len(parts) == 5 && parts[3] == "tcp" { // /ip4/ADDRESS/tcp/PORT
			all = append(all, listener{"listen.gossip", net.JoinHostPort(parts[2], parts[4])})
		}
	}
	for _, l := range all {
		if !taken(l.addr) {
			continue
		}
		return &problem{
			exitFailed, fmt.Errorf("port %s is in use%s", l.addr, holder(l.addr)),
			fmt.Sprintf("change %s in %s, or end the other program", l.key, file),
		}
	}
	return &problem{exitFailed, err, "change listen.gossip in " + file + ", or end the other program"}
}

// taken says whether nobody else can listen there now.
func taken(addr string) bool {
	l, err := net.Listen("tcp", addr) //nolint:noctx // at once, on this machine
	if err != nil {
		return errors.Is(err, syscall.EADDRINUSE)
	}
	return l.Close() != nil
}

// holder names the process that listens at an address: " by name (process 12)". It is
// empty where the system does not say, for example of another user's process.
func holder(addr string) string {
	_, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return ""
	}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if inode := listening(table, port); inode != "" {
			return owner(inode)
		}
	}
	return ""
}

// listening finds the socket that listens at a port in one of the kernel's tables.
func listening(table string, port uint64) (inode string) {
	f, err := os.Open(table) //nolint:gosec // one of two fixed names
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // only read from
	const listen = "0A"
	suffix := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 9 && strings.HasSuffix(fields[1], suffix) && fields[3] == listen {
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
