package cli

import (
	"context"
	"crypto/ed25519"

	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/p2p"
)

// ask brings a question of this home's ledger to another home.
func (g *gateway) ask(ctx context.Context, to ed25519.PublicKey, question []byte) ([]byte, error) {
	id, err := p2p.IDOf(to)
	if err != nil {
		return nil, err
	}
	return g.host.Request(ctx, id, consensus.AnswerProtocol, question, consensus.MaxAnswer)
}
