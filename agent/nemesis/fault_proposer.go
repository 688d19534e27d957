package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/commonwatt/commonwatt/agent/altered"
)

// proposals is how a bad proposer's blocks differ from honest ones. Nobody accepts the first
// three; orders that the last leaves out have to be in before their gate all the same.
var proposals = []string{"early", "oversized", "malformed", "withhold"}

const (
	proposalsEnv = "COMMONWATT_TEST_PROPOSALS"
	proposerFile = "market/consensus/app.go"

	// honestProposal stands in proposerFile, and badProposal is read in its place.
	honestProposal = "\tif f := n.cfg.faults.propose; f != nil {\n\t\ttxs = f(req.Height, txs)\n\t}\n"
	badProposal    = `	switch os.Getenv("` + proposalsEnv + `") {
	case "early":
		n.book.read(func(s *ledger.State) { txs = append(txs, ledger.NewTick(s.Next(), s.Next()+1, s.Next())) })
	case "oversized":
		txs = append(txs, make([]byte, ledger.MaxTxBytes+1))
	case "malformed":
		txs = append([][]byte{{0xff}}, txs...)
	case "withhold":
		txs = slices.DeleteFunc(txs, func(raw []byte) bool {
			tx, err := ledger.DecodeTx(raw)
			return err == nil && tx.Kind() == ledger.KindOrder
		})
	}
`
)

// strikeProposer lets a validator be one for a while that proposes what nobody can accept, or
// leaves all orders out.
func strikeProposer(ctx context.Context, r *rig, rnd *rand.Rand) error {
	program, err := badProposer(ctx, r.dir)
	if err != nil {
		return err
	}
	h, how := pick(rnd, r.validators()), pick(rnd, proposals)
	r.harm("proposer", h)
	r.count("bad proposer, " + how)
	if err := h.stop(); err != nil {
		return err
	}
	if err := h.startAs(program, proposalsEnv+"="+how); err != nil {
		return err
	}
	if err := h.ready(ctx); err != nil {
		return err
	}
	pause(ctx, 2*r.hold(rnd))
	return errors.Join(h.restart(r), ctx.Err())
}

// badProposer builds the altered program, once a run.
func badProposer(ctx context.Context, dir string) (program string, err error) {
	program = filepath.Join(dir, "bad-proposer")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	root, err := altered.Root(ctx)
	if err != nil {
		return "", err
	}
	raw, err := os.ReadFile(filepath.Join(root, proposerFile)) //nolint:gosec // a file of this module
	if err != nil {
		return "", err
	}
	source := string(raw)
	if strings.Count(source, honestProposal) != 1 {
		return "", fmt.Errorf("%s has no place for a bad proposer: want once\n%s", proposerFile, honestProposal)
	}
	source = strings.Replace(source, honestProposal, badProposal, 1)
	source = strings.Replace(source, "import (\n", "import (\n\t\"os\"\n", 1)
	stand := filepath.Join(dir, "bad-proposer.go")
	if err := os.WriteFile(stand, []byte(source), 0o600); err != nil { //nolint:gosec // the run's own folder
		return "", err
	}
	return program, altered.Build(ctx, program, map[string]string{proposerFile: stand})
}
