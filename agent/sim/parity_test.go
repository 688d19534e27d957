package sim

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/commonwatt/commonwatt/market/ledger"
)

var record = flag.Bool("sim.record", false, "record the chains of TestRecordedChains anew")

// chainFile is a recorded chain: all that a machine needs to apply it, and what came of it.
type chainFile struct {
	ChainID string          `json:"chain_id"`
	Genesis ledger.Genesis  `json:"genesis"`
	Blocks  []recordedBlock `json:"blocks"`
}

type recordedBlock struct {
	Seed    []byte                    `json:"seed"`
	Txs     [][]byte                  `json:"txs"`
	Signed  []ledger.ValidatorAddress `json:"signed"`
	Faulty  []ledger.ValidatorAddress `json:"faulty,omitempty"`
	AppHash string                    `json:"app_hash"`
}

// maxChainFile bounds a recorded chain, so that the repository stays small.
const maxChainFile = 60 << 10

// Chains that were recorded on one kind of machine give the same hash after every block on
// this one, every signature verified (R10). `make parity` runs this for 64-bit ARM.
func TestRecordedChains(t *testing.T) {
	for name, opt := range map[string]Options{
		// A faulty validator that is struck; feeders with fees and a limit; metered clearing.
		"street":  {Seed: 42, Intervals: 20, Homes: 3, Adversaries: []string{"two-faced", "replaying"}},
		"feeders": {Seed: 10, Intervals: 20, Homes: 3, Adversaries: []string{"early", "late"}},
		"metered": {Seed: 22, Intervals: 20, Homes: 3, Adversaries: []string{"equivocating"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name+".chain.gz")
			if *record {
				if err := recordChain(file, opt); err != nil {
					t.Fatal(err)
				}
			}
			c, err := readChain(file)
			if err != nil {
				t.Fatal(err)
			}
			s, err := ledger.NewState(c.ChainID, c.Genesis)
			if err != nil {
				t.Fatal(err)
			}
			settled := 0
			for i, b := range c.Blocks {
				d, _, err := ledger.Apply(s, ledger.Block{Seed: [32]byte(b.Seed), Txs: b.Txs, Signed: b.Signed, Faulty: b.Faulty})
				if err != nil {
					t.Fatalf("block %d: %v", i+1, err)
				}
				s.Absorb(d)
				settled += len(d.History)
				if got := s.AppHash(); hex.EncodeToString(got[:]) != b.AppHash {
					t.Fatalf("block %d on %s/%s: got the hash %x, want %s", i+1, runtime.GOOS, runtime.GOARCH, got, b.AppHash)
				}
			}
			if settled < 3*opt.Intervals {
				t.Errorf("got %d events of history, want the settlements of %d intervals", settled, opt.Intervals)
			}
			t.Logf("%s/%s: %d blocks, %d events, hash %x", runtime.GOOS, runtime.GOARCH, len(c.Blocks), settled, s.AppHash())
		})
	}
}

func recordChain(file string, opt Options) error {
	w, _, err := run(opt)
	if err != nil {
		return err
	}
	c := chainFile{ChainID: chainID, Genesis: w.genesis}
	for i, b := range w.engine.chain {
		c.Blocks = append(c.Blocks, recordedBlock{Seed: b.seed[:], Txs: b.txs, Signed: b.signed, Faulty: b.faulty, AppHash: hex.EncodeToString(w.check.hashes[i][:])})
	}
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(z).Encode(c); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	if out.Len() > maxChainFile {
		return fmt.Errorf("%s: %d bytes, want at most %d", file, out.Len(), maxChainFile)
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}

func readChain(file string) (c chainFile, err error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return c, err
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return c, err
	}
	return c, json.NewDecoder(io.LimitReader(z, 10<<20)).Decode(&c)
}
