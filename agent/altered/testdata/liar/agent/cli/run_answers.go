package cli

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"os"
	"strings"

	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
	"github.com/fxamacker/cbor/v2"

	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/p2p"
)

// lieEnv names the file that has the kind of lie to tell from now on. Without it this home
// tells the truth.
const lieEnv = "COMMONWATT_LIE"

// lies are told in answers to one kind of question each; the validator votes and proposes as
// an honest one does.
var lies = map[string]struct {
	about  consensus.Question
	tamper func(raw []byte) ([]byte, error)
}{
	"balance": {consensus.AskState, tampered(func(a *consensus.StateAnswer) error {
		for i, r := range a.Records {
			if !ledger.IsHouseholdKey(string(r.Key)) {
				continue
			}
			h, err := ledger.DecodeHousehold(r.Value)
			if err != nil {
				return err
			}
			h.Balance += 1_000_000
			a.Records[i].Value = h.Encode()
		}
		return nil
	})},
	"settlement": {consensus.AskLines, tampered(func(a *consensus.LinesAnswer) error {
		a.Lines = a.Lines[:max(0, len(a.Lines)-1)]
		return nil
	})},
	"header": {consensus.AskHeader, tampered(forge)},
}

// answerOthers lets other homes ask this one's ledger, and lies to them.
func answerOthers(host *p2p.Host, node *consensus.Node) {
	host.Handle(consensus.AnswerProtocol, consensus.MaxQuestion,
		func(ctx context.Context, from p2p.PeerID, question []byte) ([]byte, error) {
			key, err := p2p.KeyOf(from)
			if err != nil {
				return nil, err
			}
			return lie(ctx, node, key, question)
		})
}

func lie(ctx context.Context, node *consensus.Node, from ed25519.PublicKey, question []byte) ([]byte, error) {
	answer, err := node.Answer(ctx, from, question)
	if err != nil {
		return nil, err
	}
	kind, err := os.ReadFile(os.Getenv(lieEnv))
	if err != nil || len(kind) == 0 {
		return answer, nil
	}
	l, ok := lies[strings.TrimSpace(string(kind))]
	switch {
	case !ok:
		return nil, fmt.Errorf("%s: no lie is called %q", lieEnv, kind)
	case consensus.Question(question[0]) != l.about:
		return answer, nil
	}
	return l.tamper(answer)
}

// tampered decodes an answer, changes it, and encodes it as an honest home would.
func tampered[A any](change func(*A) error) func([]byte) ([]byte, error) {
	return func(raw []byte) ([]byte, error) {
		a := new(A)
		if err := cbor.Unmarshal(raw, a); err != nil {
			return nil, err
		}
		if err := change(a); err != nil {
			return nil, err
		}
		enc, err := cbor.CoreDetEncOptions().EncMode()
		if err != nil {
			return nil, err
		}
		return enc.Marshal(a)
	}
}

// forge has the header prove another state, under the signatures of the true one.
func forge(a *consensus.HeaderAnswer) error {
	if a.Block == nil {
		return nil
	}
	var block cmtproto.LightBlock
	if err := block.Unmarshal(a.Block); err != nil {
		return err
	}
	b, err := types.LightBlockFromProto(&block)
	if err != nil {
		return err
	}
	b.AppHash = bytes.Repeat([]byte{7}, len(b.AppHash))
	b.Commit.BlockID.Hash = b.Header.Hash()
	p, err := b.ToProto()
	if err != nil {
		return err
	}
	a.Block, err = p.Marshal()
	return err
}
