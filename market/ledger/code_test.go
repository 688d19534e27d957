package ledger_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
)

// provocations are, for each Code, lines of a block (see street.tx) whose last one is
// refused with it. Before them A and B have joined with meters, the gates +0 and +1
// have closed, A has reported +0, and the rules are those of provokedStreet.
var provocations = map[ledger.Code][]string{
	ledger.CodeOversized:         {"bytes " + string(make([]byte, ledger.MaxTxBytes+1))},
	ledger.CodeMalformed:         {"bytes garbage"},
	ledger.CodeUnknownKind:       {"bytes \x84\x17\x50" + string(make([]byte, 16)) + "\xf6\xf6"},
	ledger.CodeBadSignature:      {"prefer A seq=1 min_sell=1 max_buy=1 forged"},
	ledger.CodeGateClosed:        {"order A +1 bid seq=1 1x1"},
	ledger.CodeTooFarAhead:       {"order A +98 bid seq=1 1x1"},
	ledger.CodeUnknownHousehold:  {"prefer C seq=1 min_sell=1 max_buy=1"},
	ledger.CodeSequenceUsed:      {"order A +2 bid seq=1 1x1", "order A +2 bid seq=1 1x1"},
	ledger.CodeBadQuantity:       {"order A +2 bid seq=1 1x20001"},
	ledger.CodePriceOutOfBounds:  {"order A +2 bid seq=1 4000001x1"},
	ledger.CodeCrossed:           {"order A +2 bid seq=1 5x1", "order A +2 offer seq=1 5x1"},
	ledger.CodeTooManySteps:      {"order A +2 offer seq=1 1x1 2x1 3x1 4x1 5x1 6x1 7x1 8x1 9x1 10x1 11x1 12x1 13x1 14x1 15x1 16x1 17x1"},
	ledger.CodeCreditLimit:       {"order B +2 bid seq=1 1x1"},
	ledger.CodeBadSteps:          {"order A +2 bid seq=1 1x1 2x1"},
	ledger.CodeBadPreference:     {"prefer A seq=1 min_sell=-1000001 max_buy=1"},
	ledger.CodeAlreadyRegistered: {"join A"},
	ledger.CodeNotApproved:       {"join C approvals=1"},
	ledger.CodeUnknownMeter:      {"join C", "report C +1"},
	ledger.CodeNotCleared:        {"report A +2"},
	ledger.CodeAlreadyReported:   {"report A +0"},
	ledger.CodeBadReading:        {"report A +1 late=90000"},
	ledger.CodeBadShare:          {"move A root seq=1 other:1"},
	ledger.CodeNoDevice:          {"device A seq=1 revoke=1", "prefer A seq=1 min_sell=1 max_buy=1"},
	ledger.CodeLeft:              {"leave A +2", "order A +2 bid seq=1 1x1"},
	ledger.CodeNotValidator:      {"unvote A number=1"},
	ledger.CodeLastValidator:     {"unvote home/0 number=1 founder=1", "unvote home/1 number=2 founder=1"},
	ledger.CodeBadNetwork:        {"network +2 number=1 set a<b;b<a"},
	ledger.CodeBadRules:          {"rules +2 number=1 interval=60"},
	ledger.CodeBadTariff:         {"rules +2 number=1 export=400000"},
	ledger.CodeInThePast:         {"rules +1 number=1 fee=1"},
	ledger.CodeNotOperator:       {"envelope root +2 seq=1 export_w=1 operator=1"},
	ledger.CodeBadLimit:          {"envelope root +2 seq=1 export_w=1"},
	ledger.CodeBelowFloor:        {"network +2 number=1 set f1<root", "envelope f1 +2 seq=1 import_w=100", "move A f1 seq=1", "envelope f1 +2 seq=2 import_w=4199"},
	ledger.CodeNotSettled:        {"correct A +1 version=1 import=1 export=1"},
	ledger.CodeBadProof:          {"correct A +0 version=1 import=1 export=1 proof=0"},
	ledger.CodeTickNotNext:       {"tick +3"},
	ledger.CodeTickMisplaced:     {"tick +2", "prefer A seq=1 min_sell=1 max_buy=1"},
}

// scripted are provoked by made transactions in TestCodes instead of by lines.
var scripted = map[ledger.Code]func(t *testing.T, s *street) []byte{
	ledger.CodeBadKey: func(_ *testing.T, s *street) []byte {
		c := s.home("C")
		r := ledger.RegisterHousehold{Key: ledgertest.Public(c.Household), Device: ledgertest.Public(c.Household), Network: ledgertest.Public(c.Network), Node: ledger.RootNode}
		r.Approvals = s.Approve(r.AdmissionBytes(ledgertest.ChainID), 2)
		return r.Sign(ledgertest.ChainID, c.Household)
	},
	ledger.CodeUnknownNode: func(_ *testing.T, s *street) []byte {
		c := s.home("C")
		r := ledger.RegisterHousehold{Key: ledgertest.Public(c.Household), Device: ledgertest.Public(c.Device), Network: ledgertest.Public(c.Network), Node: "feeder"}
		r.Approvals = s.Approve(r.AdmissionBytes(ledgertest.ChainID), 2)
		return r.Sign(ledgertest.ChainID, c.Household)
	},
	ledger.CodeTooManyPending: func(t *testing.T, s *street) []byte {
		t.Helper()
		for i := range 16 {
			if _, err := s.run([]string{"block"}, []string{fmt.Sprintf("rules +%d number=%d fee=1", 2+i, 1+i)}); err != nil {
				t.Fatal(err)
			}
		}
		return s.Decide(ledger.SetRules{Number: 17, From: s.First + 30, Rules: ledger.DefaultRules()}, 2)
	},
	ledger.CodeTooManyValidators: func(t *testing.T, s *street) []byte {
		t.Helper()
		var block []string
		for i := range ledger.MaxValidators - 2 {
			block = append(block, fmt.Sprintf("join V%d", i), fmt.Sprintf("vote V%d number=%d", i, 1+i))
		}
		if _, err := s.run([]string{"block"}, block); err != nil {
			t.Fatal(err)
		}
		return s.Vote(s.home("A"), ledger.MaxValidators-1, s.home("A").Validator, 2)
	},
	ledger.CodeWindowClosed: func(t *testing.T, s *street) []byte {
		t.Helper()
		if _, err := s.run([]string{"block"}, []string{fmt.Sprintf("tick +2..+%d", 96*31)}); err != nil {
			t.Fatal(err)
		}
		return s.Report(s.home("A"), s.First+1, 1)
	},
}

func provokedStreet(t *testing.T) *street {
	t.Helper()
	s := newStreet(func(r *ledger.Rules) { r.CreditLimit = 1000 })
	steps := [][]string{
		{"count", "B +0 import=20000 export=0"},
		{"block", "join A", "join B", "meter A", "meter B", "tick +0..+1"},
		{"block", "report A +0", "report B +0"},
	}
	for _, step := range steps {
		if _, err := s.run(step[:1], step[1:]); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// TestCodes provokes every Code: what is refused changes nothing (L3), and CheckTx
// gives the same answer as the block wherever it can.
func TestCodes(t *testing.T) {
	for _, code := range ledger.Codes() {
		if code == ledger.CodeOK {
			continue
		}
		t.Run(code.String(), func(t *testing.T) {
			s := provokedStreet(t)
			var txs [][]byte
			if provoke := scripted[code]; provoke != nil {
				txs = append(txs, provoke(t, s))
			} else if lines := provocations[code]; lines != nil {
				for _, line := range lines {
					raw, err := s.tx(splitLine(line))
					if err != nil {
						t.Fatal(err)
					}
					txs = append(txs, raw)
				}
			} else {
				t.Fatalf("code %d (%s) is never provoked", code, code)
			}
			at := len(txs) - 1
			if code == ledger.CodeTickMisplaced {
				at = 0
			}
			provoked(t, s.state, txs, at, code)
		})
	}
}

// splitLine splits at spaces; what follows bytes is one piece.
func splitLine(line string) []string {
	if raw, ok := regexp.MustCompile(`(?s)^bytes (.*)$`).FindStringSubmatch(line), true; ok && raw != nil {
		return []string{"bytes", raw[1]}
	}
	return regexp.MustCompile(` +`).Split(line, -1)
}

func provoked(t *testing.T, state *ledger.State, txs [][]byte, at int, code ledger.Code) {
	t.Helper()
	before := state.AppHash()
	_, receipts, err := ledger.Apply(state, ledger.Block{Txs: txs})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range receipts {
		if i != at && r.Refusal != nil {
			t.Errorf("transaction %d: %v, want ok", i, r.Refusal)
		}
	}
	if got := receipts[at].Code(); got != code {
		t.Fatalf("got %v (%v), want %v", got, receipts[at].Refusal, code)
	}
	if !errors.Is(receipts[at].Refusal, &ledger.Refusal{Code: code}) {
		t.Errorf("errors.Is does not find code %v in %v", code, receipts[at].Refusal)
	}
	if state.AppHash() != before {
		t.Error("Apply changed the state")
	}
	// Without the refused transaction the block comes to the same.
	all, _, _ := ledger.Apply(state, ledger.Block{Txs: txs})
	rest, _, err := ledger.Apply(state, ledger.Block{Txs: append(append([][]byte{}, txs[:at]...), txs[at+1:]...)})
	if err != nil {
		t.Fatal(err)
	}
	if all.AppHash() != rest.AppHash() {
		t.Error("the refused transaction changed the state")
	}
}

// TestCodesStable pins the numbers and names, which are part of the protocol.
func TestCodesStable(t *testing.T) {
	var got string
	for _, c := range ledger.Codes() {
		got += fmt.Sprintf("%d %s\n", c, c)
	}
	path := filepath.Join("testdata", "codes.golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("codes:\n%swant:\n%s", got, want)
	}
	if got := ledger.Code(999).String(); got != "code-999" {
		t.Errorf("got %q", got)
	}
}

// TestReadingVector holds Reading.SignedBytes to the bytes that the meter room signs:
// the same vectors are in its own testdata.
func TestReadingVector(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("testdata", "reading.golden"))
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string][]byte{}
	seen := 0
	for _, m := range regexp.MustCompile(`(?m)^(\S+) ([0-9a-f]+)$`).FindAllSubmatch(raw, -1) {
		b, err := hex.DecodeString(string(m[2]))
		if err != nil && string(m[1]) != "seq" {
			t.Fatal(err)
		}
		fields[string(m[1])] = b
		if string(m[1]) == "hash" {
			checkVector(t, seen, fields)
			seen++
		}
	}
	if seen != 3 {
		t.Errorf("got %d vectors, want 3", seen)
	}
}

func checkVector(t *testing.T, i int, fields map[string][]byte) {
	t.Helper()
	counters := [][2]*uint64{{new(uint64(12302420)), new(uint64(4728460))}, {new(uint64(12302421)), nil}, {new(uint64(0)), new(uint64(1 << 40))}}[i]
	key := ledger.Key(fields["public-key"])
	r := ledger.Reading{
		Meter: ledger.MeterIDOf(key), Seq: uint64(i) + 1, Epoch: []uint32{0, 0, 1}[i],
		AtMs:     []int64{1782042300123, 1782043200123, 1782045900123}[i],
		ImportWh: counters[0], ExportWh: counters[1], Quality: []uint64{0, 0, 32}[i], Signature: fields["signature"],
	}
	copy(r.Prev[:], fields["prev"])
	if got, want := fmt.Sprintf("%x", r.SignedBytes()), fmt.Sprintf("%x", fields["signed-bytes"]); got != want {
		t.Errorf("vector %d: signed bytes\n got %s\nwant %s", i, got, want)
	}
	if got, want := r.Hash(), fields["hash"]; string(got[:]) != string(want) {
		t.Errorf("vector %d: hash\n got %x\nwant %x", i, got, want)
	}
	fields["prev"] = fields["hash"]
}

// TestShare holds the shares of a span: whole, even to 1 Wh, their sum exact (ADR 1).
func TestShare(t *testing.T) {
	for _, c := range []struct{ delta, n int64 }{{0, 1}, {1, 1}, {951, 4}, {57, 4}, {3, 7}, {1<<62 + 12345, 2976}, {1<<63 - 1, 2976}} {
		var sum market.WattHours
		for i := range c.n {
			s := ledger.Share(market.WattHours(c.delta), i, c.n)
			if floor := market.WattHours(c.delta / c.n); s < floor || s > floor+1 {
				t.Errorf("share %d of %d in %d: got %d, want %d or one more", i, c.delta, c.n, s, floor)
			}
			sum += s
		}
		if sum != market.WattHours(c.delta) {
			t.Errorf("%d in %d: the shares add up to %d", c.delta, c.n, sum)
		}
	}
}
