package demo

import (
	"fmt"
	"net"
)

// ports are where the street listens on loopback. They are below 32768, where no
// outgoing connection of this machine can be in the way. The base itself is listened to for
// as long as the street lives, so that a second street, begun before the homes of this one
// listen, takes another range.
type ports struct {
	base int
	held net.Listener
}

// Offsets from the base: the mark of the street that has the range, pages and network of
// up to MaxHomes homes, then firmware-sim's servers.
const (
	portsPage    = 1
	portsNetwork = 80
	portsSim     = 120
	portsAll     = 124
)

func (p ports) at(offset int) string { return fmt.Sprintf("127.0.0.1:%d", p.base+offset) }

func (p ports) api(i int) string  { return p.at(portsPage + i) }
func (p ports) network(i int) int { return p.base + portsNetwork + i }

// choosePorts finds a range in which every port that is needed is free, and holds it until
// release.
func choosePorts(homes int) (ports, error) {
	for base := 8600; base < 32000; base += 200 {
		p := ports{base: base}
		var err error
		if p.held, err = net.Listen("tcp", p.at(0)); err != nil { //nolint:noctx // at once, on this machine
			continue
		}
		if p.free(homes) {
			return p, nil
		}
		p.release()
	}
	return ports{}, fmt.Errorf("no free range of %d ports below 32768 on 127.0.0.1", portsAll)
}

// release lets others have the range.
func (p ports) release() {
	if p.held != nil {
		_ = p.held.Close() // nobody ever connected
	}
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
