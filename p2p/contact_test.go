package p2p_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/commonwatt/commonwatt/p2p/bed"
)

// namesEnv makes the test binary a name server that says of every name that it has the
// address IP, and of every service of libp2p that it is at MULTIADDR: "IP MULTIADDR".
const namesEnv = "P2P_TEST_NAMES"

// serveNames answers until it is killed. It is as much of RFC 1035 as a question needs.
func serveNames(settings string) error {
	ip, service, _ := strings.Cut(settings, " ")
	c, err := net.ListenPacket("udp4", ":53")
	if err != nil {
		return err
	}
	defer c.Close()
	for buf := make([]byte, 1500); ; {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return err
		}
		reply, err := answerName(buf[:n], net.ParseIP(ip).To4(), service)
		if err != nil {
			return err
		}
		if _, err := c.WriteTo(reply, from); err != nil {
			return err
		}
	}
}

func answerName(q []byte, ip net.IP, service string) ([]byte, error) {
	const header, typeA, typeTXT = 12, 1, 16
	end := header
	for end < len(q) && q[end] != 0 {
		end += int(q[end]) + 1
	}
	if end += 5; end > len(q) {
		return nil, errors.New("no question")
	}
	kind := binary.BigEndian.Uint16(q[end-4:])
	var data []byte
	switch kind {
	case typeA:
		data = ip
	case typeTXT:
		text := "dnsaddr=" + service
		data = append([]byte{byte(len(text))}, text...)
	}
	count := byte(min(len(data), 1))
	reply := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0}, q[header:end]...)
	if count > 0 {
		reply = binary.BigEndian.AppendUint16(append(reply, 0xc0, header), kind)
		reply = binary.BigEndian.AppendUint16(append(reply, 0, 1, 0, 0, 0, 60), uint16(len(data)))
		reply = append(reply, data...)
	}
	return reply, nil
}

// TestFirstContact: homes meet the one that they were told of by a name, by a name under
// which its whole address stands, and by IPv6 alone; and two homes of which neither has
// anything but IPv6 meet each other through their filtering routers, and one that has only
// IPv4 by the relay, which has both.
func TestFirstContact(t *testing.T) {
	t.Parallel()
	if !bed.Enter(t) {
		return
	}
	n := newNetworkTest(t, "a1", "b1", "c1", "c2", "p")
	ip4, ip6 := n.bed.Public("p")
	n.bed.House("a", bed.Router{V6: true}, "a1")
	n.bed.House("b", bed.Router{V6: true}, "b1")
	n.bed.House("c", bed.Router{}, "c1", "c2")

	// All look names up with the public home: the namespaces have an /etc of their own.
	etc := t.TempDir()
	if err := os.WriteFile(filepath.Join(etc, "resolv.conf"), []byte("nameserver "+ip4+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.bed.In("p", "mount --bind "+etc+" /etc")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	id := "/p2p/" + string(n.id("p"))
	names := n.bed.Command(t.Context(), "p", self)
	names.Env = append(os.Environ(), namesEnv+"="+ip4+" /ip4/"+ip4+"/udp/8602/quic-v1"+id)
	names.Stderr = os.Stderr
	if err := names.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = names.Process.Kill()
		_ = names.Wait()
	})

	six := homeSettings{Listen: everywhere(8602)[2:], Bootstrap: []string{fmt.Sprintf("/ip6/%s/udp/8602/quic-v1%s", ip6, id)}}
	n.run("p", homeSettings{Listen: everywhere(8602)})
	n.run("a1", six)
	n.run("b1", six)
	n.run("c1", homeSettings{Listen: everywhere(8602), Bootstrap: []string{"/dns4/corner.example/udp/8602/quic-v1" + id}})
	n.run("c2", homeSettings{Listen: everywhere(8603), Bootstrap: []string{"/dnsaddr/street.example" + id}})
	n.await("all meet", map[string]string{"a1 p": "direct", "b1 p": "direct", "c1 p": "direct", "c2 p": "direct", "a1 b1": "direct|punched", "a1 c1": "relayed by p"})
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, way := range [][2]string{{"a1", "p"}, {"b1", "p"}, {"a1", "b1"}, {"b1", "a1"}} {
		if addr := n.seen[way[0]][way[1]].Addr; !strings.HasPrefix(addr, "/ip6/2a10:") {
			t.Errorf("%s reaches %s at %s, want IPv6", way[0], way[1], addr)
		}
	}
}
