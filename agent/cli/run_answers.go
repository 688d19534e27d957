package cli

import (
	"context"

	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/p2p"
)

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
