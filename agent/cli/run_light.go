package cli

import (
	"context"
	"crypto/ed25519"
	"path/filepath"
	"strings"

	"github.com/commonwatt/commonwatt/agent/bill"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/p2p"
)

// gatewayLedger is the ledger as the rooms of a home use it: a node of its own, or a light
// home's view of the others'.
type gatewayLedger interface {
	household.Ledger
	bill.Source
}

// openLight prepares the ledger and the network of a light home: no engine, no ledger file,
// no gossip. It asks those it is connected to.
func (g *gateway) openLight(keys *household.Keys, genesis []byte) error {
	var err error
	g.light, err = consensus.NewLight(consensus.LightConfig{
		Genesis: genesis, Household: keys.ID(), File: filepath.Join(g.dir, household.HeaderFile),
		Ask: func(ctx context.Context, provider string, question []byte) ([]byte, error) {
			return g.host.Request(ctx, p2p.PeerID(provider), consensus.AnswerProtocol, question, consensus.MaxAnswer)
		},
		Providers: g.providers, Named: namedPeers(g.cfg.Peers.Bootstrap), Log: g.log.With("room", "consensus"),
	})
	if err != nil {
		return err
	}
	g.ledger = g.light
	var chain string
	g.light.Read(func(s *ledger.State) { chain = s.ChainID() })
	if err := g.openAccess(chain); err != nil {
		return err
	}
	return g.openHost(keys, chain, g.light.Connects, nil)
}

// runLedger runs the one of the two that there is.
func (g *gateway) runLedger(ctx context.Context) error {
	if g.light != nil {
		return g.light.Run(ctx)
	}
	return g.node.Run(ctx, g.tunnels)
}

// namedPeers are the network keys of the homes, and of the relays before them, that agent.yaml
// names.
func namedPeers(bootstrap []string) (keys []ed25519.PublicKey) {
	for _, address := range bootstrap {
		for _, part := range strings.Split(address, "/p2p/")[1:] {
			id, _, _ := strings.Cut(part, "/") // what is behind a relay goes on with /p2p-circuit
			if key, err := p2p.KeyOf(p2p.PeerID(id)); err == nil {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// providers are the peers that answer questions: validators and replicas.
func (g *gateway) providers() []consensus.Provider {
	var all []consensus.Provider
	for _, peer := range g.host.Peers() {
		if key, err := p2p.KeyOf(peer.ID); err == nil && g.host.Speaks(peer.ID, consensus.AnswerProtocol) {
			all = append(all, consensus.Provider{ID: string(peer.ID), Key: key})
		}
	}
	return all
}
