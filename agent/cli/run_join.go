package cli

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/agent/joining"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/p2p"
)

// openDesk prepares the desk at which guests ask.
func (g *gateway) openDesk(keys *household.Keys, genesis []byte) error {
	self, err := p2p.IDOf(keys.Network.Public().(ed25519.PublicKey)) //nolint:forcetypeassert // that of crypto/ed25519
	if err != nil {
		return err
	}
	g.desk, err = joining.NewDesk(joining.DeskOptions{
		Home: g.dir, Genesis: genesis, Self: self, Ledger: g.node, Peers: g.bootstrap, Now: time.Now, Log: g.log.With("room", "joining"),
	})
	return err
}

// receiveGuests opens the desk on the network.
func (g *gateway) receiveGuests() {
	g.host.HandleGuest(joining.Protocol, joining.MaxQuestion, g.desk.Serve)
}

// maxBootstrap is how many addresses somebody who joins is told to begin with.
const maxBootstrap = 8

// bootstrap is what somebody who joins calls first: this home, and one address each of other
// homes that keep the ledger, those first that this home dialled itself without a relay. A
// light home needs several of them.
func (g *gateway) bootstrap() []string {
	own := g.host.Announced()
	addrs := own[:min(len(own), maxBootstrap/2)]
	var said []string
	for _, p := range g.host.Peers() {
		if !g.host.Speaks(p.ID, consensus.AnswerProtocol) {
			continue // a light home
		}
		if p.Direction == p2p.Outbound && (p.Path == p2p.PathDirect || p.Path == p2p.PathLocal) {
			addrs = append(addrs, p.Addr+"/p2p/"+string(p.ID))
		} else if at := g.host.Addresses(p.ID); len(at) > 0 {
			said = append(said, at[0])
		}
	}
	addrs = append(addrs, said...)
	return addrs[:min(len(addrs), maxBootstrap)]
}

// addressesFile is where the running agent writes at which addresses it can be reached, for
// the command that makes invitations.
const addressesFile = "own-addresses"

// addressesEvery is how often that is looked at.
const addressesEvery = 2 * time.Second

// beFound keeps that file, and announces the desk in the house.
func (g *gateway) beFound(ctx context.Context) error {
	if g.cfg.Peers.MDNS && g.desk != nil { // a light home has none
		g.host.Announce(ctx, g.desk.Tag().Discovery())
	}
	path := filepath.Join(g.dir, addressesFile)
	tick := time.NewTicker(addressesEvery)
	defer tick.Stop()
	var written []string
	for {
		if now := g.host.Announced(); !slices.Equal(now, written) {
			if err := os.WriteFile(path, []byte(strings.Join(now, "\n")+"\n"), 0o600); err != nil {
				g.log.WarnContext(ctx, "own addresses cannot be written down, invitations will lack them", "err", err)
			}
			written = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// ownAddresses reads what the agent of a home wrote last; none if it never ran.
func ownAddresses(dir string) ([]string, error) {
	info, err := os.Stat(filepath.Join(dir, addressesFile))
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() > 64<<10 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, addressesFile)) //nolint:gosec // the home's own folder
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(raw)), nil
}
