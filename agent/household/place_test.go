package household

import (
	"crypto/ed25519"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// setDevice brings another gateway of the home's household to the ledger; none revokes it.
func (r *rig) setDevice(seq uint64, keys *Keys) {
	r.t.Helper()
	x := &ledger.SetDevice{Seq: seq}
	if keys != nil {
		x = ledger.NewDevice(r.home.chainID, r.home.id, seq, keys.Device, keys.Network)
	}
	if err := r.Submit(r.t.Context(), x.Sign(r.home.chainID, r.home.id, r.opt.Keys.Household)); err != nil {
		r.t.Fatal(err)
	}
	r.block()
}

func codes(s api.Snapshot) (list []string) {
	for _, p := range s.Problems {
		list = append(list, p.Code)
	}
	return list
}

func (r *rig) wantCodes(when string, want ...string) api.Snapshot {
	r.t.Helper()
	s := r.draw()
	if got := codes(s); !slices.Equal(got, want) {
		r.t.Errorf("%s: got problems %v, want %v: %+v", when, got, want, s.Problems)
	}
	return s
}

// A gateway that was revoked, or in whose place there is another, says so and does not
// promise that what it meters is settled; in the new one's place all is well.
func TestReplacedGateway(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	r.wantCodes("registered")
	r.setDevice(1, nil)
	r.waiting = "waiting for quorum: 0 of 1 needed validators are connected"
	s := r.wantCodes("revoked", "gateway-revoked", "ledger-waiting")
	if p := s.Problems; p[0].Severity != api.SeverityError || !strings.Contains(p[0].Hint, "commonwatt recover") || p[1].Hint != "" {
		t.Errorf("revoked: %+v", p)
	}

	next, err := CreateKeys(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r.setDevice(2, next)
	s = r.wantCodes("replaced", "gateway-replaced", "ledger-waiting")
	if p := s.Problems; !strings.Contains(p[0].Text, r.home.id.String()) || !strings.Contains(p[0].Hint, "If that was not you") || p[1].Hint != "" {
		t.Errorf("replaced: %+v", p)
	}
	r.waiting = ""
	r.wantCodes("replaced, still connected", "gateway-replaced")

	old := *r.opt.Keys
	taken := old
	taken.Device, taken.Network = next.Device, next.Network
	r.opt.Keys = &taken
	r.restart()
	r.wantCodes("the new gateway")

	// A new one that has not read as far as that knows only that it is behind.
	other, err := CreateKeys(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	taken.Device, taken.Network = other.Device, ed25519.NewKeyFromSeed(other.Network.Seed())
	r.catching, r.waiting = true, "catching up: block 4"
	r.wantCodes("a newer gateway that catches up", "ledger-waiting")
}

// A gateway that is off while another takes its place is let in nowhere afterwards, and can
// not read why: when nobody has been connected for long, it names that reason beside others.
func TestNobodyConnected(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.register()
	var peers []api.Peer
	r.opt.Peers = func() []api.Peer { return peers }
	r.restart()
	r.wantCodes("alone, and nothing to wait for")
	r.waiting = "waiting for quorum: 0 of 1 needed validators are connected"
	pass := func(d time.Duration) { r.clock.set(r.clock.Now().Add(d)) }
	r.wantCodes("alone at first", "ledger-waiting")
	pass(aloneAfter)
	s := r.wantCodes("alone", "ledger-waiting", "nobody-connected")
	if p := s.Problems; !strings.Contains(p[0].Hint, "if this gateway is still the household's") || !strings.Contains(p[1].Hint, r.home.id.String()) {
		t.Errorf("alone: %+v", p)
	}
	peers = []api.Peer{{ID: "neighbour"}}
	r.wantCodes("connected", "ledger-waiting")
	peers = nil
	r.wantCodes("alone again", "ledger-waiting")
	pass(aloneAfter)
	r.wantCodes("alone again, for long", "ledger-waiting", "nobody-connected")

	// It had read of the change, and starts anew: it cannot know that nothing came after.
	next, err := CreateKeys(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r.setDevice(1, next)
	r.catching = true
	if p := r.wantCodes("started anew", "ledger-waiting", "nobody-connected").Problems; !strings.Contains(p[1].Text, "not the household's") {
		t.Errorf("started anew: %+v", p)
	}
}

// Until a home is caught up, it does not know whether it is a member: it sends nobody to the
// cooperative.
func TestCatchingUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.catching, r.waiting = true, "catching up: block 0"
	if p := r.wantCodes("behind", "catching-up", "ledger-waiting").Problems; strings.Contains(p[0].Text+p[0].Hint, "cooperative") || !strings.Contains(p[0].Text, "block 0") {
		t.Errorf("behind: %+v", p)
	}
	r.catching, r.waiting = false, ""
	r.wantCodes("caught up", "not-a-member")
	r.register()
	r.wantCodes("registered")
}
