package consensus

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

func mustBundle(t testing.TB, txs ...[]byte) []byte {
	t.Helper()
	raw, err := bundleEnc.Marshal(bundle{Nonce: nonce(7), Txs: txs})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestBundlesKeepTheirBounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ n, size, bundles int }{
		{0, 100, 0}, {1, 100, 1}, {64, 100, 1}, {65, 100, 2}, {200, 200, 4}, {64, ledger.MaxTxBytes, 10},
	} {
		var txs [][]byte
		for i := range c.n {
			txs = append(txs, bytes.Repeat([]byte{byte(i)}, c.size))
		}
		bundles, err := encodeBundles(txs)
		if err != nil || len(bundles) != c.bundles {
			t.Fatalf("%d of %d bytes: %d bundles, %v; want %d", c.n, c.size, len(bundles), err, c.bundles)
		}
		var back [][]byte
		for _, b := range bundles {
			got, err := decodeBundle(b)
			if err != nil {
				t.Fatal(err)
			}
			back = append(back, got...)
		}
		if len(back) != len(txs) {
			t.Fatalf("%d came back, want %d", len(back), len(txs))
		}
		for i := range txs {
			if !bytes.Equal(back[i], txs[i]) {
				t.Fatalf("transaction %d changed", i)
			}
		}
	}
	if _, err := encodeBundles([][]byte{make([]byte, MaxBundleBytes)}); err == nil {
		t.Error("packed what does not fit")
	}
	a, _ := encodeBundles([][]byte{{1}})
	b, _ := encodeBundles([][]byte{{1}})
	if bytes.Equal(a[0], b[0]) {
		t.Error("the same bundle twice: gossip would drop the second as a duplicate")
	}
}

func TestBundleIsStrict(t *testing.T) {
	t.Parallel()
	good := mustBundle(t, []byte("a"), []byte("b"))
	if _, err := decodeBundle(good); err != nil {
		t.Fatal(err)
	}
	many := make([][]byte, MaxBundleTxs+1)
	for i := range many {
		many[i] = []byte{1}
	}
	for name, raw := range map[string][]byte{
		"empty":          nil,
		"cut":            good[:len(good)-1],
		"trailing":       append(append([]byte{}, good...), 0),
		"no txs":         mustBundle(t),
		"null txs":       append(append([]byte{0x82, 0x48}, make([]byte, 8)...), 0xf6),
		"too many":       mustBundle(t, many...),
		"oversized":      mustBundle(t, make([]byte, MaxBundleBytes)),
		"map":            {0xa0},
		"long form":      append(append([]byte{0x82, 0x58, 8}, make([]byte, 8)...), 0x81, 0x41, 1),
		"indefinite":     append(append([]byte{0x82, 0x48}, make([]byte, 8)...), 0x9f, 0x41, 1, 0xff),
		"wrong length":   append(append([]byte{0x82, 0x48}, make([]byte, 8)...), 0x98, 1, 0x41, 1),
		"tx is text":     append(append([]byte{0x82, 0x48}, make([]byte, 8)...), 0x81, 0x61, 'a'),
		"tx is null":     append(append([]byte{0x82, 0x48}, make([]byte, 8)...), 0x81, 0xf6),
		"tagged":         append([]byte{0xc0}, good...),
		"huge array":     append(append([]byte{0x82, 0x48}, make([]byte, 8)...), 0x9b, 0, 0, 0, 1, 0, 0, 0, 0),
		"array of three": append(append([]byte{0x83, 0x48}, make([]byte, 8)...), 0x81, 0x41, 1, 0),
	} {
		if txs, err := decodeBundle(raw); !errors.Is(err, errBundle) {
			t.Errorf("%s: %v, %v; want errBundle", name, txs, err)
		}
	}
}

// FuzzBundle: nothing panics, and what is read is written the same way.
func FuzzBundle(f *testing.F) {
	f.Add(mustBundle(f, []byte("one"), []byte("two")))
	f.Add(mustBundle(f))
	f.Add([]byte{0x82, 0x48, 0, 0, 0, 0, 0, 0, 0, 0, 0x80})
	f.Add([]byte{0x82, 0x48, 0, 0, 0, 0, 0, 0, 0, 0, 0x9b, 255, 255, 255, 255, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, raw []byte) {
		txs, err := decodeBundle(raw)
		if err != nil {
			if !errors.Is(err, errBundle) {
				t.Fatalf("%v, want errBundle", err)
			}
			return
		}
		again, err := bundleEnc.Marshal(bundle{Nonce: [nonceSize]byte(raw[2 : 2+nonceSize]), Txs: txs})
		if err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("read %x, wrote %x, %v", raw, again, err)
		}
	})
}

// A node that follows the chain tells honest news, forgeries and what it cannot judge apart.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 1, homes: 2, interval: time.Hour, rate: 1, next: 30 * time.Minute})
	m, stranger, first := s.nodes[0], newHome("stranger"), s.homes[0]
	m.start()
	s.awaitUp(m)
	s.admit(m, s.nodes, s.homes...)
	k := m.next()
	bid := func(chain string, price market.Price) []byte {
		o := &ledger.PlaceOrder{Interval: k, Seq: 1, Side: market.Bid, Steps: []ledger.Step{{Price: price, WattHours: 1}}}
		return o.Sign(chain, first.id, first.device)
	}
	good := s.order(first, k, 100)
	for _, c := range []struct {
		name string
		raw  []byte
		want Verdict
	}{
		{"good", mustBundle(t, good), Accept},
		{"again", mustBundle(t, good), Ignore},
		{"one of two new", mustBundle(t, good, s.order(first, k+1, 100)), Accept},
		{"gate closed", mustBundle(t, s.order(first, k-1, 100)), Ignore},
		{"too far ahead", mustBundle(t, s.order(first, k+1000, 100)), Ignore},
		{"unknown household", mustBundle(t, s.order(stranger, k, 100)), Ignore},
		{"forged", mustBundle(t, forged(s.order(first, k, 7))), Reject},
		{"forged among good", mustBundle(t, s.order(first, k+2, 1), forged(s.order(first, k, 7))), Reject},
		{"another chain's", mustBundle(t, bid("sim-other", 1)), Reject},
		{"price out of bounds", mustBundle(t, bid(s.chain, 1<<39)), Reject},
		{"a tick", mustBundle(t, ledger.NewTick(k, k, k)), Reject},
		{"oversized", mustBundle(t, make([]byte, ledger.MaxTxBytes+1)), Reject},
		{"not a transaction", mustBundle(t, []byte("x")), Reject},
		{"rubbish", []byte("x"), Reject},
		{"not approved", mustBundle(t, (&ledger.RegisterHousehold{
			Key: publicKey(stranger.cold), Device: publicKey(stranger.device), Network: publicKey(stranger.network), Node: ledger.RootNode,
		}).Sign(s.chain, stranger.cold)), Reject},
	} {
		if v := m.Validate(c.raw); v != c.want {
			t.Errorf("%s: %v, want %v", c.name, v, c.want)
		}
	}
	rejected := m.Status().Rejected
	for _, name := range []string{"gate-closed", "unknown-household", "bad-signature", "price-out-of-bounds", "tick-misplaced", "malformed", "oversized", "not-approved"} {
		if rejected[name] == 0 {
			t.Errorf("%s was not counted in %v", name, rejected)
		}
	}
}

func forged(tx []byte) []byte {
	b := bytes.Clone(tx)
	b[len(b)-1] ^= 1
	return b
}

// A node that is behind blames nobody for what it may not know yet.
func TestVerdictsOfNodeThatIsBehind(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 1, homes: 1, interval: time.Hour, rate: 1, next: 30 * time.Minute})
	n, err := New(s.nodes[0].cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		raw  []byte
		want Verdict
	}{
		{"unknown household", mustBundle(t, s.order(s.homes[0], 5, 1)), Ignore},
		{"not approved", mustBundle(t, forged(s.admission(s.homes[0]))), Ignore},
		{"rubbish", []byte("x"), Reject},
	} {
		if v := n.Validate(c.raw); v != c.want {
			t.Errorf("%s: %v, want %v", c.name, v, c.want)
		}
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

func TestSubmit(t *testing.T) {
	t.Parallel()
	s := newStreet(t, streetOptions{validators: 1, homes: 1, interval: time.Hour, rate: 1, next: 30 * time.Minute})
	m, ctx := s.nodes[0], context.Background()
	m.start()
	s.awaitUp(m)
	s.admit(m, s.nodes, s.homes...)
	k := m.next()
	good := s.order(s.homes[0], k, 1)
	for range 2 {
		if err := m.Submit(ctx, good); err != nil {
			t.Errorf("submitting what is good, or waits already: %v, want nil", err)
		}
	}
	for code, raw := range map[ledger.Code][]byte{
		ledger.CodeGateClosed:   s.order(s.homes[0], k-1, 1),
		ledger.CodeMalformed:    []byte("x"),
		ledger.CodeBadSignature: forged(s.order(s.homes[0], k+1, 1)),
	} {
		if err := m.Submit(ctx, raw); !isRefusal(err, code) {
			t.Errorf("got %v, want %v", err, code)
		}
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if err := m.Submit(done, good); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}
