package p2p

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/discovery/mdns"
)

// mdnsRetry is how long to wait when there is no interface to announce on.
const mdnsRetry = 30 * time.Second

// A service tag is one label of DNS (RFC 1035, 2.3.1 and 2.3.4) before "._udp": at most 63
// bytes of letters, digits and hyphens behind its underscore, and upper case is lower case.
const (
	tagPrefix = "_commonwatt-"
	maxLabel  = 63
	maxTag    = maxLabel - len(tagPrefix)
	tagHash   = 5 // bytes of a hash in a tag
	guestTags = "join-"
)

// ServiceTag is the Config.MDNS of a community. A name that can stand in a label does so as it
// is. Of any other what can stand there is kept for people to read, and a hash of the whole
// name keeps apart what that makes alike. So are names that would be a tag of guests.
func ServiceTag(community string) string {
	label := make([]byte, 0, len(community))
	for _, c := range []byte(strings.ToLower(community)) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			label = append(label, c)
		case len(label) > 0 && label[len(label)-1] != '-':
			label = append(label, '-')
		}
	}
	name := strings.Trim(string(label), "-")
	if name == "" || name != community || len(name) > maxTag || strings.HasPrefix(name, guestTags) {
		sum := sha256.Sum256([]byte(community))
		name = name[:min(len(name), maxTag-2*tagHash-1)]
		name = strings.TrimLeft(fmt.Sprintf("%s-%x", strings.TrimRight(name, "-"), sum[:tagHash]), "-")
	}
	return tagPrefix + name + "._udp"
}

// found hands what mDNS finds to the dialer. Anybody on the local network may announce
// anything, so strangers are dropped before they cost a dial.
type found struct{ h *Host }

func (f found) HandlePeerFound(info peer.AddrInfo) {
	if info.ID == f.h.host.ID() || !f.h.gate.allows(info.ID) {
		return
	}
	if len(f.h.host.Network().Peers()) >= f.h.limits.Peers {
		return
	}
	f.h.dialer.add(info, false)
}

// discover announces the host on every multicast interface and looks for others. A
// gateway may start before its network does, and may have none that can do multicast:
// that is no reason not to start, so it is tried again.
func (h *Host) discover(ctx context.Context, tag string) {
	for warned := false; ; warned = true {
		s := mdns.NewMdnsService(h.host, tag, found{h})
		err := s.Start()
		if err == nil {
			<-ctx.Done()
		}
		if cerr := s.Close(); cerr != nil {
			h.log.DebugContext(ctx, "ending mdns", "err", cerr)
		}
		if err != nil && !warned {
			h.log.WarnContext(ctx, "mdns is not available, trying again", "every", mdnsRetry, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(mdnsRetry):
		}
	}
}
