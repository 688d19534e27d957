package consensus

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/cometbft/cometbft/privval"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"

	"github.com/commonwatt/commonwatt/market/store"
)

// FuzzGenesis: a genesis document comes from whoever invites. It is refused with a reason, or it is one that a ledger can
// begin with, and written by us it is read as the same.
func FuzzGenesis(f *testing.F) {
	w, _ := newWay(f)
	f.Add(w.doc)
	f.Add([]byte(`{}`))
	f.Add(bytes.Replace(w.doc, []byte(`"chain_id"`), []byte(`"chain_id": "x", "chain_id"`), 1))
	f.Fuzz(func(t *testing.T, raw []byte) {
		chain, g, err := ParseGenesis(raw)
		if err != nil {
			if !errors.Is(err, ErrGenesis) {
				t.Fatalf("%v is none of ours", err)
			}
			return
		}
		if err := g.Validate(); err != nil || chain == "" {
			t.Fatalf("accepted for chain %q, but: %v", chain, err)
		}
		if a, err := NewAnchor(raw); err == nil && a.chainID != chain {
			t.Fatalf("the anchor is of %q, the ledger of %q", a.chainID, chain)
		}
	})
}

// FuzzChanges: the way of a provider to today's validators is refused, or it is the real one: nothing that no quorum of
// the set before has signed leads to another set.
func FuzzChanges(f *testing.F) {
	w, a := newWay(f)
	w.change(w.set[0], w.set[1], w.set[2])
	w.change(w.set[0], w.set[1], w.set[2], publicKey(testKey("validator", 7)))
	good, err := json.Marshal(w.all)
	if err != nil {
		f.Fatal(err)
	}
	one, err := json.Marshal(w.all[0])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(one)
	f.Add([]byte(`[]`))
	f.Add([]byte(`[{},null]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if c, err := decodeChange(raw); err == nil {
			if again, err := json.Marshal(c); err != nil || !bytes.Equal(again, raw) {
				t.Errorf("a second spelling: %s", raw)
			}
		} else if !errors.Is(err, ErrAnswer) {
			t.Errorf("%v is none of ours", err)
		}
		way, err := decodeChanges(raw)
		if err != nil {
			return
		}
		if _, err := a.follow(way); err != nil {
			return
		}
		for i, c := range way {
			if i >= len(w.all) || c.Header.Height != w.all[i].Header.Height || !bytes.Equal(bytesOf(t, c.Next), bytesOf(t, w.all[i].Next)) {
				t.Errorf("change %d was followed, and nobody signed it: %s", i, raw)
			}
		}
	})
}

func bytesOf(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// FuzzOrigin: nothing that a provider makes up is the beginning of a snapshot.
func FuzzOrigin(f *testing.F) {
	w, a := newWay(f)
	w.change(w.set[0], w.set[1], w.set[2])
	way, err := json.Marshal(w.all)
	if err != nil {
		f.Fatal(err)
	}
	set, err := engineSet(w.set).ToProto()
	if err != nil {
		f.Fatal(err)
	}
	after, err := set.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	manifest := store.Manifest{Format: 1, Chain: w.chain, Height: 10, Bytes: 7, Chunks: [][32]byte{{1}}}
	f.Add(manifest.Encode(), way, []byte{0x0a, 0x02, 0x0a, 0x00}, after)
	f.Add([]byte{}, []byte(`[]`), []byte{}, after)
	f.Fuzz(func(t *testing.T, manifest, changes, block, after []byte) {
		if o, err := a.verifyOrigin(&ManifestAnswer{Manifest: manifest, Changes: changes, Block: block, Next: block, After: after}); err == nil {
			t.Errorf("accepted at block %d", o.manifest.Height)
		}
		if set, err := decodeValidators(after); err == nil {
			_ = set.Hash()             // no panic
			_ = set.TotalVotingPower() // no panic
		} else if !errors.Is(err, ErrAnswer) {
			t.Errorf("%v is none of ours", err)
		}
	})
}

// FuzzVote: no bytes of a peer are a vote of our key, or it would keep us from signing.
func FuzzVote(f *testing.F) {
	w, _ := newWay(f)
	doc, _, err := parseGenesis(w.doc)
	if err != nil {
		f.Fatal(err)
	}
	own, other := privval.GenFilePV("", ""), privval.GenFilePV("", "")
	n := &Node{doc: doc, validator: own}
	sign := func(by *privval.FilePV) []byte {
		hash := make([]byte, 32)
		v := &types.Vote{
			Type: cmtproto.PrevoteType, Height: 3, Timestamp: time.Unix(3, 0).UTC(), ValidatorAddress: own.GetAddress(),
			BlockID: types.BlockID{Hash: hash, PartSetHeader: types.PartSetHeader{Total: 1, Hash: hash}},
		}
		sig, err := by.Key.PrivKey.Sign(types.VoteSignBytes(doc.ChainID, v.ToProto()))
		if err != nil {
			f.Fatal(err)
		}
		v.Signature = sig
		raw, err := v.ToProto().Marshal()
		if err != nil {
			f.Fatal(err)
		}
		return raw
	}
	good := sign(own)
	if v, ok := n.readVote(good); !ok || v.Height != 3 {
		f.Fatal("the own vote is not read")
	}
	f.Add(sign(other))
	f.Add([]byte{8, 1})
	f.Fuzz(func(t *testing.T, raw []byte) {
		if v, ok := n.readVote(raw); ok {
			t.Errorf("a vote that was never made: %v", v)
		}
	})
}

// FuzzHeaderFile: a damaged file of headers is as good as none, also if its checksum is right.
func FuzzHeaderFile(f *testing.F) {
	empty, err := bundleEnc.Marshal(headerFile{})
	if err != nil {
		f.Fatal(err)
	}
	two, err := bundleEnc.Marshal(headerFile{Blocks: [][]byte{{0x0a, 0x02, 0x0a, 0x00}, {}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(empty)
	f.Add(two)
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := sha256.Sum256(body)
		for _, b := range decodeHeaderFile("sim-x", append(bytes.Clone(body), sum[:]...)) {
			if b == nil || b.ValidateBasic("sim-x") != nil {
				t.Error("a block that does not fit together")
			}
		}
		_ = decodeHeaderFile("sim-x", body) // no panic
	})
}
