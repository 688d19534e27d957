package demo

import (
	"fmt"
	"net"
)

// ports are where the street listens on loopback. They are below 32768, where no
// outgoing connection of this machine can be in the way.
type ports struct {
	base int
}

// Offsets from the base: pages and network of up to MaxHomes homes, then firmware-sim's
// servers.
const (
	portsPage    = 1
	portsNetwork = 80
	portsSim     = 120
	portsAll     = 124
)

func (p ports) at(offset int) string { return fmt.Sprintf("127.0.0.1:%d", p.base+offset) }

func (p ports) api(i int) string  { return p.at(portsPage + i) }
func (p ports) network(i int) int { return p.base + portsNetwork + i }

// choosePorts finds a range in which every port that is needed is free.
func choosePorts(homes int) (ports, error) {
	for base := 8600; base < 32000; base += 200 {
		if p := (ports{base}); p.free(homes) {
			return p, nil
		}
	}
	return ports{}, fmt.Errorf("no free range of %d ports below 32768 on 127.0.0.1", portsAll)
}

func (p ports) free(homes int) bool {
	for i := range homes {
		for _, offset := range []int{portsPage + i, portsNetwork + i} {
			if !canListen(p.at(offset)) {
				return false
			}
		}
	}
	for i := range 3 {
		if !canListen(p.at(portsSim + i)) {
			return false
		}
	}
	return true
}

func canListen(addr string) bool {
	l, err := net.Listen("tcp", addr) //nolint:noctx // at once, on this machine
	if err != nil {
		return false
	}
	return l.Close() == nil
}
