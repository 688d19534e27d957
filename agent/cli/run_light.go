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

// answerOthers lets other homes ask this one's ledger.
func answerOthers(host *p2p.Host, node *consensus.Node) {
	host.Handle(consensus.AnswerProtocol, consensus.MaxQuestion,
		func(ctx context.Context, from p2p.PeerID, question []byte) ([]byte, error) {
			key, err := p2p.KeyOf(from)
			if err != nil {
				return nil, err
			}
			return node.Answer(ctx, key, question)
		})
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
		Providers: g.providers, Log: g.log.With("room", "consensus"),
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
	return g.openHost(keys, chain, g.lightMember(), nil)
}

// runLedger runs the one of the two that there is.
func (g *gateway) runLedger(ctx context.Context) error {
	if g.light != nil {
		return g.light.Run(ctx)
	}
	return g.node.Run(ctx, g.tunnels)
}

// lightMember says whom a light home connects to: whom its agent.yaml names, whom the genesis
// document names, and those members that it has a record of. Others' records it does not hold;
// and they have nothing to ask of it.
func (g *gateway) lightMember() func(ed25519.PublicKey) bool {
	named := map[string]bool{}
	for _, address := range g.cfg.Peers.Bootstrap {
		_, id, _ := strings.Cut(address, "/p2p/")
		if i := strings.LastIndex(id, "/p2p/"); i >= 0 { // behind a relay
			named[id[:i]], id = true, id[i+len("/p2p/"):]
		}
		named[id] = true
	}
	return func(pub ed25519.PublicKey) (member bool) {
		if id, err := p2p.IDOf(pub); err == nil && named[string(id)] {
			return true
		}
		g.light.Read(func(s *ledger.State) { member = s.IsMember(pub) })
		return member
	}
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
