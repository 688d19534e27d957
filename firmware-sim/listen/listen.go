// Package listen opens the listeners of firmware-sim and, where a port is in
// use already, says by whom and what to do.
//
// Who holds a port is read from /proc, so it is known on Linux only, and only
// for processes that this user may look at; elsewhere the message does without.
package listen

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// InUseError says that an address is taken.
type InUseError struct {
	Key     string // of the configuration
	Address string
	Holder  string // "mbusd (process 4711)", or "" if it cannot be known
}

// Error says which address, by whom, and how to change it.
func (e *InUseError) Error() string {
	by := "another program"
	if e.Holder != "" {
		by = e.Holder
	}
	host, _, _ := net.SplitHostPort(e.Address)
	return fmt.Sprintf("%s: address %s is in use by %s: end that, or set %s to another port (%s takes a free one)",
		e.Key, e.Address, by, e.Key, net.JoinHostPort(host, "0"))
}

// Unwrap makes it an EADDRINUSE.
func (e *InUseError) Unwrap() error { return syscall.EADDRINUSE }

// TCP listens on an address that the key of the configuration names. An address
// that is taken is an *InUseError.
func TCP(ctx context.Context, key, address string) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &InUseError{Key: key, Address: address, Holder: holder(address)}
	case err != nil:
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return listener, nil
}

// holder finds the process that listens on an address's port.
func holder(address string) string {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return ""
	}
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		if inode := listeningInode(table, uint16(port)); inode != "" {
			if name := processOf(inode); name != "" {
				return name
			}
		}
	}
	return ""
}

// listeningInode looks a listening socket up in the kernel's table; see
// proc_net_tcp in the kernel's documentation for its columns.
func listeningInode(table string, port uint16) string {
	const listening = "0A"
	f, err := os.Open(table) //nolint:gosec // G304: one of two constants
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // nothing was written
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != listening {
			continue
		}
		_, hexPort, _ := strings.Cut(fields[1], ":")
		if p, err := strconv.ParseUint(hexPort, 16, 16); err == nil && uint16(p) == port {
			return fields[9]
		}
	}
	return ""
}

// processOf finds the process that has a socket open.
func processOf(inode string) string {
	target := "socket:[" + inode + "]"
	descriptors, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return ""
	}
	for _, fd := range descriptors {
		if link, err := os.Readlink(fd); err != nil || link != target {
			continue
		}
		process := filepath.Dir(filepath.Dir(fd))
		name, err := os.ReadFile(filepath.Join(process, "comm")) //nolint:gosec // G304: below /proc
		if err != nil {
			return "process " + filepath.Base(process)
		}
		return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), filepath.Base(process))
	}
	return ""
}
