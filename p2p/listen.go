package p2p

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	ma "github.com/multiformats/go-multiaddr"
)

// listen listens on each address separately, because libp2p is content if one of many
// succeeds. All must, but for "all addresses of IPv6" where there is no IPv6.
func (h *Host) listen(addrs []ma.Multiaddr) error {
	listening := 0
	for _, a := range addrs {
		err := h.host.Network().Listen(a)
		switch {
		case err == nil:
			listening++
		case isAnyIPv6(a) && noFamily(err):
			h.log.Info("this machine has no IPv6, listening without", "addr", a.String())
		default:
			return fmt.Errorf("%w on %s: %w", ErrListen, a, err)
		}
	}
	if len(addrs) > 0 && listening == 0 {
		return fmt.Errorf("%w on %s: this machine has no IPv6", ErrListen, addrs[0])
	}
	return nil
}

// noFamily recognises what a kernel without IPv6 says; libp2p keeps only the text of it.
func noFamily(err error) bool {
	for _, e := range []syscall.Errno{syscall.EAFNOSUPPORT, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, e) || strings.Contains(err.Error(), e.Error()) {
			return true
		}
	}
	return false
}

func isAnyIPv6(a ma.Multiaddr) bool {
	value, err := a.ValueForProtocol(ma.P_IP6)
	return err == nil && value == "::"
}
