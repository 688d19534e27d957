package consensus

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"strings"
	"testing"
	"time"

	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// N3: each lie is found, and the one who told it is named; the home goes on with the others.
func TestLightFindsLies(t *testing.T) {
	t.Parallel()
	s := settlingStreet(t, 1)
	own := s.homes[0]
	k := s.nodes[0].next()
	s.submit(s.nodes[0], s.order(own, k, 300))
	s.awaitState("settled", s.nodes, func(st *ledger.State) bool {
		h, _ := st.Household(own.id)
		return h.Settled >= 2
	})
	for _, lie := range []struct {
		name, why string
		f         tamper
	}{
		{"wrong balance", "household", func(kind Question, _, a []byte) []byte {
			if kind != AskState {
				return nil
			}
			return alter(a, func(a *StateAnswer) {
				for i, r := range a.Records {
					if string(r.Key) == ledger.HouseholdKey(own.id) {
						h, err := ledger.DecodeHousehold(r.Value)
						if err != nil {
							panic(err)
						}
						h.Balance += 1_000_000
						a.Records[i].Value = h.Encode()
					}
				}
			})
		}},
		{"other leaves", "leaves", func(kind Question, _, a []byte) []byte {
			if kind != AskState {
				return nil
			}
			return alter(a, func(a *StateAnswer) {
				if a.Full {
					a.Leaves = a.Leaves[1:]
				}
			})
		}},
		{"other state", "the header says", func(kind Question, _, a []byte) []byte {
			if kind != AskState {
				return nil
			}
			return alter(a, func(a *StateAnswer) { a.AppHash[0] ^= 1 })
		}},
		{"withheld settlement", "withholds settlements", func(kind Question, _, a []byte) []byte {
			if kind != AskLines {
				return nil
			}
			return alter(a, func(a *LinesAnswer) { a.Lines = a.Lines[:max(0, len(a.Lines)-1)] })
		}},
		{"changed settlement", "changed settlements", func(kind Question, _, a []byte) []byte {
			if kind != AskLines {
				return nil
			}
			return alter(a, func(a *LinesAnswer) {
				for i, raw := range a.Lines {
					line, err := ledger.DecodeSettlement(own.id, raw)
					if err != nil {
						panic(err)
					}
					line.Price++
					a.Lines[i] = line.Encode()
				}
			})
		}},
		{"changed result", "changed results", func(kind Question, _, a []byte) []byte {
			if kind != AskResults {
				return nil
			}
			return alter(a, func(a *ResultsAnswer) {
				for i, raw := range a.Results {
					r, err := ledger.DecodeMarketResult(raw)
					if err != nil {
						panic(err)
					}
					r.Price += 1000
					a.Results[i] = r.Encode()
				}
			})
		}},
		{"forged header", "does not follow from the genesis", func(kind Question, _, a []byte) []byte {
			if kind != AskHeader {
				return nil
			}
			return alter(a, func(a *HeaderAnswer) {
				if a.Block != nil {
					a.Block = forge(s.chain, a.Block)
				}
			})
		}},
		{"garbage", "cannot be read", func(kind Question, _, a []byte) []byte { return []byte{0xff} }},
	} {
		t.Run(lie.name, func(t *testing.T) {
			liar := s.nodes[3]
			liar.tamperWith(lie.f)
			defer liar.tamper.Store(nil)
			l := s.newLightHome(own, t.TempDir(), liar)
			defer l.stop()
			if why := l.accused(liar); !strings.Contains(why, lie.why) {
				t.Errorf("named for: %s; want %q in it", why, lie.why)
			}
			l.level(s.nodes[0])
			if st := l.Status(); len(st.Accused) != 1 || st.Accused[0].Name != "node3" || st.Fork != nil {
				t.Errorf("accused %+v, fork %v", st.Accused, st.Fork)
			}
		})
	}
}

// askFirst makes the home ask a node first.
func (l *lightHome) askFirst(m *member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trust.first = string(m.host.ID())
}

// A header that a validator forges after the home has begun to follow is found as well,
// whether its forger is asked first or is to confirm.
func TestLightFindsForgery(t *testing.T) {
	t.Parallel()
	s := fourNodes(t, 1)
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admit(s.nodes[0], s.nodes, s.homes...)
	for _, first := range []int{3, 0} {
		liar := s.nodes[3]
		l := s.newLightHome(s.homes[0], t.TempDir(), nil)
		l.level(s.nodes[0])
		l.askFirst(s.nodes[first])
		liar.tamperWith(func(kind Question, _, a []byte) []byte {
			if kind != AskHeader {
				return nil
			}
			return alter(a, func(a *HeaderAnswer) {
				if a.Block != nil {
					a.Block = forge(s.chain, a.Block)
				}
			})
		})
		s.prefer(s.nodes[1], s.nodes...)
		if why := l.accused(liar); !strings.Contains(why, "forged the header") {
			t.Errorf("named for: %s", why)
		}
		l.level(s.nodes[0])
		if st := l.Status(); len(st.Accused) != 1 || st.Fork != nil {
			t.Errorf("accused %+v, fork %v", st.Accused, st.Fork)
		}
		l.stop()
		liar.tamper.Store(nil)
	}
}

// A provider that keeps new blocks back is not believed to be up to date, and holds nobody up.
func TestLightFindsWithheldBlocks(t *testing.T) {
	t.Parallel()
	s := fourNodes(t, 1)
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admit(s.nodes[0], s.nodes, s.homes...)
	s.settled(s.nodes...)
	liar := s.nodes[3]
	// It goes on to say what it would have said now.
	ask := directly(s, s.homes[0])
	state, err := encodeQuestion(AskState, StateQuestion{})
	if err != nil {
		t.Fatal(err)
	}
	oldState, err := ask(t.Context(), liar.name, state)
	if err != nil {
		t.Fatal(err)
	}
	old := mustAsk[HeaderAnswer](t, ask, liar.name, AskHeader, HeaderQuestion{})
	liar.tamperWith(func(kind Question, q, a []byte) []byte {
		if kind == AskState {
			return oldState
		}
		if kind != AskHeader {
			return nil
		}
		return alter(a, func(a *HeaderAnswer) {
			var asked HeaderQuestion
			if a.Newest = old.Newest; decodeAnswer(q, &asked) != nil || asked.Height > old.Newest {
				a.Block = nil
			} else if asked.Height == 0 {
				a.Block = old.Block
			}
		})
	})
	s.prefer(s.nodes[1], s.nodes...)
	l := s.newLightHome(s.homes[0], t.TempDir(), liar)
	l.level(s.nodes[0])
	await(t, 60*time.Second, "found to withhold", func() bool {
		for _, p := range l.Status().Providers {
			if p.ID == string(liar.host.ID()) && p.Withholds {
				return true
			}
		}
		return false
	})
	s.prefer(s.nodes[1], s.nodes...)
	l.level(s.nodes[0])
	if st := l.Status(); len(st.Accused) != 0 || st.Waiting != "" {
		t.Errorf("accused %+v, waiting %q: an old header is no lie", st.Accused, st.Waiting)
	}
}

// N4: when more than two thirds sign two headers of one block, the home stops, and names the
// two providers and the validators that signed both. Two of four are too few: that is a forgery.
func TestLightStopsAtFork(t *testing.T) {
	t.Parallel()
	s := fourNodes(t, 1)
	s.start(s.nodes...)
	s.awaitUp(s.nodes...)
	s.admit(s.nodes[0], s.nodes, s.homes...)
	for _, signers := range []int{2, 3} {
		l := s.newLightHome(s.homes[0], t.TempDir(), nil)
		l.level(s.nodes[0])
		l.askFirst(s.nodes[0])
		var before [32]byte
		l.Read(func(st *ledger.State) { before = st.AppHash() })
		liar := s.nodes[3]
		liar.tamperWith(func(kind Question, _, a []byte) []byte {
			if kind != AskHeader {
				return nil
			}
			return alter(a, func(a *HeaderAnswer) {
				if a.Block != nil {
					a.Block = s.resign(a.Block, signers)
				}
			})
		})
		s.prefer(s.nodes[1], s.nodes...)
		if signers == 2 {
			l.accused(liar)
			l.level(s.nodes[0])
			l.stop()
			liar.tamper.Store(nil)
			continue
		}
		await(t, 60*time.Second, "the fork is found", func() bool { return l.Status().Fork != nil })
		st := l.Status()
		if len(st.Fork.Validators) < 2 || !slices.Contains(st.Fork.Providers[:], string(liar.host.ID())) || !st.CatchingUp ||
			slices.Contains(st.Fork.Validators, "node3") || !strings.HasPrefix(st.Waiting, "stopped:") && st.Waiting != "" {
			t.Errorf("fork %+v, waiting %q", st.Fork, st.Waiting)
		}
		await(t, 60*time.Second, "the status says so", func() bool { return strings.Contains(l.Status().Waiting, "signed both") })
		s.prefer(s.nodes[1], s.nodes...)
		l.Read(func(st *ledger.State) {
			if st.AppHash() != before {
				t.Error("it went on after the fork")
			}
		})
	}
}

// resign makes another block of a header, and has the first of the validators sign it with
// their own keys.
func (s *street) resign(raw []byte, signers int) []byte {
	b, err := decodeLightBlock(s.chain, raw)
	if err != nil {
		panic(err)
	}
	b.AppHash = bytes.Repeat([]byte{7}, 32)
	b.Commit.BlockID.Hash = b.Header.Hash()
	for i := range b.Commit.Signatures {
		b.Commit.Signatures[i] = types.NewCommitSigAbsent()
	}
	for _, m := range s.nodes[:signers] {
		key, err := loadKey(m.cfg.ValidatorKeyFile)
		if err != nil {
			panic(err)
		}
		i, v := b.ValidatorSet.GetByAddress(key.Address)
		vote := &cmtproto.Vote{
			Type: cmtproto.PrecommitType, Height: b.Height, Round: b.Commit.Round, BlockID: b.Commit.BlockID.ToProto(),
			Timestamp: b.Time.Add(time.Millisecond), ValidatorAddress: v.Address, ValidatorIndex: i,
		}
		sig := ed25519.Sign(ed25519.PrivateKey(key.PrivKey.Bytes()), types.VoteSignBytes(s.chain, vote))
		b.Commit.Signatures[i] = types.CommitSig{
			BlockIDFlag: types.BlockIDFlagCommit, ValidatorAddress: v.Address, Timestamp: vote.Timestamp, Signature: sig,
		}
	}
	if raw, err = encodeLightBlock(b); err != nil {
		panic(err)
	}
	return raw
}

// forge changes a header's AppHash, with a commit that fits to it but for the signatures.
func forge(chain string, raw []byte) []byte {
	b, err := decodeLightBlock(chain, raw)
	if err != nil {
		panic(err)
	}
	b.AppHash = bytes.Repeat([]byte{7}, 32)
	b.Commit.BlockID.Hash = b.Header.Hash()
	raw, err = encodeLightBlock(b)
	if err != nil {
		panic(err)
	}
	return raw
}
