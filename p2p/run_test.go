package p2p_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"testing"

	"github.com/commonwatt/commonwatt/p2p"
)

// A network key in two places is found out by whoever both are connected with, and proven;
// the one that was there first keeps its connection.
func TestTwoRuns(t *testing.T) {
	eachTransport(t, func(t *testing.T, listen []string) {
		keys := newKeys(t, 2)
		members := newCommunity(keys...)
		first, witness := tunnelPair(t, members, []ed25519.PrivateKey{keys[0], keys[1]}, listen, 1, 1)
		nonce := make([]byte, 32)
		_, _ = rand.Read(nonce)
		proofs := witness.tunnels.Runs(t.Context(), first.pub(), nonce)
		if len(proofs) != 1 || first.tunnels.Elsewhere(nonce, proofs[0]) {
			t.Fatalf("%d proofs, want one, of the only run", len(proofs))
		}
		own := first.host.Peers()[0].Since
		witness.host.SetConnOld(0) // the first one's connection is old
		copied := start(t, p2p.Config{Key: keys[0], Listen: listen, Bootstrap: witness.host.Addrs(), Member: members.has})
		tunnels, err := copied.Tunnel(tunnelProtocol, 1)
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "the copy is connected", func() bool { return connected(copied, witness.host.ID()) })
		eventually(t, "both runs are found", func() bool {
			proofs = witness.tunnels.Runs(t.Context(), first.pub(), nonce)
			return len(proofs) == 2
		})
		found := 0
		for _, p := range proofs {
			if tunnels.Elsewhere(nonce, p) {
				found++
				if first.tunnels.Elsewhere(nonce, p) {
					t.Error("the first run's proof is another's to itself")
				}
			}
			forged := append([]byte(nil), p...)
			forged[0] ^= 1
			for name, bad := range map[string][]byte{"another run": forged, "nothing": nil, "half": p[:40], "more": append(p[:80:80], 0)} {
				if tunnels.Elsewhere(nonce, bad) {
					t.Errorf("%s is taken for a proof", name)
				}
			}
			if tunnels.Elsewhere(make([]byte, 32), p) || tunnels.Elsewhere(nil, p) {
				t.Error("a proof holds for another nonce")
			}
		}
		if found != 1 {
			t.Errorf("%d of two proofs are another run's, want 1", found)
		}
		if got := first.host.Peers(); len(got) != 1 || !got[0].Since.Equal(own) {
			t.Errorf("the first run's connections are %v, want the one of before", got)
		}
		if n := witness.host.Stats().Superseded; n != 0 {
			t.Errorf("%d connections superseded, want none", n)
		}
		stranger := newKey(t).Public().(ed25519.PublicKey)
		if len(witness.tunnels.Runs(t.Context(), stranger, nonce))+len(witness.tunnels.Runs(t.Context(), first.pub(), nonce[:7])) > 0 {
			t.Error("proofs of a stranger, or for half a nonce")
		}
	})
}
