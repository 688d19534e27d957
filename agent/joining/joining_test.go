package joining

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/commonwatt/commonwatt/agent/decision"
	"github.com/commonwatt/commonwatt/agent/paper"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/p2p"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction("github.com/libp2p/go-libp2p-pubsub/timecache.background"),
		goleak.IgnoreAnyFunction("github.com/ipfs/go-log/v2/writer.(*MirrorWriter).logRoutine"))
}

func newKey(tb testing.TB) ed25519.PrivateKey {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func public(k ed25519.PrivateKey) ledger.Key { return ledger.KeyOf(k.Public().(ed25519.PublicKey)) }

// street is a ledger that takes what it is given at once: its own rules judge it.
type street struct {
	mu    sync.Mutex
	state *ledger.State
}

func (s *street) Read(f func(*ledger.State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.state)
}

func (s *street) Submit(_ context.Context, raw []byte) error {
	tx, err := ledger.DecodeTx(raw)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.state.CheckTx(tx); err != nil {
		return err
	}
	delta, _, err := ledger.Apply(s.state, ledger.Block{Txs: [][]byte{raw}})
	if err != nil {
		return err
	}
	s.state.Absorb(delta)
	return nil
}

// home is an inviting home: a real host and desk on a ledger.
type home struct {
	dir      string
	doc      []byte
	hash     [32]byte
	officers []ed25519.PrivateKey
	ledger   *street
	desk     *Desk
	host     *p2p.Host
	network  ed25519.PrivateKey
	mu       sync.Mutex
	now      time.Time
}

func (h *home) time() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *home) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func newHome(t *testing.T, name string) *home {
	t.Helper()
	h := &home{dir: t.TempDir(), network: newKey(t), now: time.Date(2026, 6, 21, 12, 0, 0, 0, time.UTC)}
	g := ledger.Genesis{Name: name, Epoch: h.now, Start: h.now, Rate: 1, Rules: ledger.DefaultRules(), Founders: []ledger.Key{public(h.network)}}
	for range 3 {
		o := newKey(t)
		h.officers = append(h.officers, o)
		g.Officers = append(g.Officers, public(o))
	}
	var err error
	validator := newKey(t).Public().(ed25519.PublicKey)
	h.doc, err = consensus.GenesisDoc(name, g, []consensus.Validator{{Name: "v", PubKey: validator, Power: 1}}, h.now)
	if err != nil {
		t.Fatal(err)
	}
	if h.hash, err = consensus.GenesisHash(h.doc); err != nil {
		t.Fatal(err)
	}
	chain, g, err := consensus.ParseGenesis(h.doc)
	if err != nil {
		t.Fatal(err)
	}
	state, err := ledger.NewState(chain, g)
	if err != nil {
		t.Fatal(err)
	}
	h.ledger = &street{state: state}
	self, err := p2p.IDOf(h.network.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	h.desk, err = NewDesk(DeskOptions{
		Home: h.dir, Genesis: h.doc, Self: self, Ledger: h.ledger, Peers: func() []string { return nil },
		Now: h.time, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.host, err = p2p.New(p2p.Config{
		Key: h.network, Listen: []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"},
		Member: func(pub ed25519.PublicKey) bool { return public(h.network) == ledger.KeyOf(pub) }, Guest: h.desk.Guest,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.host.Close(); err != nil {
			t.Error(err)
		}
	})
	h.host.HandleGuest(Protocol, MaxQuestion, h.desk.Serve)
	return h
}

// invite issues an invitation, and lets the gate see it at once.
func (h *home) invite(t *testing.T, uses int) (*Issued, *Invitation) {
	t.Helper()
	issued, err := OpenFolder(h.dir).Issue(ledger.RootNode, uses, h.time(), h.time().Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	h.pass(reread)
	n := Node{Network: h.network.Public().(ed25519.PublicKey)}
	for _, a := range h.host.Addrs() {
		at, _, _ := strings.Cut(a, "/p2p/")
		n.Addresses = append(n.Addresses, at)
	}
	i := &Invitation{Secret: issued.SecretOf(), Expires: issued.Expires, Nodes: []Node{n}}
	copy(i.Genesis[:], h.hash[:])
	return issued, i
}

// newcomer is a household that wants in.
type newcomer struct{ household, device, network, meter ed25519.PrivateKey }

func newNewcomer(t *testing.T) *newcomer {
	return &newcomer{newKey(t), newKey(t), newKey(t), newKey(t)}
}

func (n *newcomer) id() market.HouseholdID {
	return market.HouseholdIDOf(n.household.Public().(ed25519.PublicKey))
}

func (n *newcomer) file(t *testing.T, chain string) *decision.File {
	t.Helper()
	f, err := decision.New(ledger.KindHousehold, chain, n.id(), &decision.Admission{
		Name: "Elm Street 5", Key: public(n.household).String(), Device: public(n.device).String(), Network: public(n.network).String(),
		Node: ledger.RootNode, Meter: &decision.Meter{Key: public(n.meter).String(), SignedBy: "agent", Definition: "eastron-sdm630@1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (n *newcomer) sign(k ledger.Kind) (decision.Signer, error) {
	if k == ledger.KindHousehold {
		return decision.Signer{Key: n.household}, nil
	}
	return decision.Signer{Key: n.device}, nil
}

func visitFor(t *testing.T, i *Invitation) *Guest {
	t.Helper()
	g, err := Visit(t.Context(), i)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func code(err error) Code {
	if r := (*Refused)(nil); errors.As(err, &r) {
		return r.Code
	}
	return ""
}

// The whole way: hello, document, request, two officers, household, meter; and, as the
// household that has lost its gateway, another one.
func TestJoinAndRecover(t *testing.T) {
	h := newHome(t, "elm-street")
	_, i := h.invite(t, 1)
	g, n := visitFor(t, i), newNewcomer(t)
	hello, err := g.Hello(t.Context(), nil, h.time)
	if err != nil || hello.Node != ledger.RootNode {
		t.Fatalf("%v, %v", hello, err)
	}
	if doc, err := g.Document(t.Context(), nil, hello); err != nil || !bytes.Equal(doc, h.doc) {
		t.Fatal(err)
	}
	own := n.file(t, "elm-street")
	look, err := g.Ask(t.Context(), own)
	if err != nil || look.Member || look.Needed != 2 || look.File == nil {
		t.Fatalf("%+v, %v", look, err)
	}
	// J4: not before officers have signed, and nothing of others.
	early, err := own.Transactions(n.sign)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Submit(t.Context(), n.id(), early[0]); code(err) != CodeLedger {
		t.Errorf("without signatures: %v", err)
	}
	other := newNewcomer(t)
	foreign, err := other.file(t, "elm-street").Transactions(other.sign)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Submit(t.Context(), n.id(), foreign[0]); code(err) != CodeNotYours {
		t.Errorf("another's admission: %v", err)
	}
	if _, err := g.Submit(t.Context(), n.id(), (&ledger.SetDevice{Seq: 1}).Sign("elm-street", n.id(), n.household)); code(err) != CodeNotYours {
		t.Errorf("another kind: %v", err)
	}
	requests := OpenRequests(h.dir)
	q, err := requests.Find(n.id().String()[:6], h.time())
	if err != nil {
		t.Fatal(err)
	}
	for o := range 2 {
		if err := q.File.Approve(o, h.officers[o]); err != nil {
			t.Fatal(err)
		}
	}
	if err := requests.Put(q.ID, q.File); err != nil {
		t.Fatal(err)
	}
	if look, err = g.Look(t.Context(), n.id()); err != nil {
		t.Fatal(err)
	}
	if added, err := own.Merge(look.File, h.genesis()); added != 2 || err != nil {
		t.Fatalf("%d, %v", added, err)
	}
	signed, err := own.Transactions(n.sign)
	if err != nil {
		t.Fatal(err)
	}
	if look, err = g.Submit(t.Context(), n.id(), signed...); err != nil || !look.Member || !look.Meter {
		t.Fatalf("%+v, %v", look, err)
	}
	if all, err := requests.List(h.time()); err != nil || len(all) != 0 {
		t.Errorf("%d requests are left, %v", len(all), err)
	}
	recoverGateway(t, h, n)
}

func (h *home) genesis() (g ledger.Genesis) {
	h.ledger.Read(func(s *ledger.State) { g = s.Genesis() })
	return g
}

// recoverGateway: the household's key alone is enough, with nothing known of the genesis.
func recoverGateway(t *testing.T, h *home, n *newcomer) {
	g, err := VisitAsHousehold(t.Context(), n.household, nil, h.host.Addrs())
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if _, err := g.Hello(t.Context(), nil, h.time); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Ask(t.Context(), n.file(t, "elm-street")); code(err) != CodeRegistered {
		t.Errorf("a member asks for admission: %v", err)
	}
	device, network := newKey(t), newKey(t)
	look, err := g.Submit(t.Context(), n.id(), ledger.NewDevice("elm-street", n.id(), 1, device, network).Sign("elm-street", n.id(), n.household))
	if err != nil || look.DeviceSeq != 1 || !bytes.Equal(look.Device, device.Public().(ed25519.PublicKey)) {
		t.Fatalf("%+v, %v", look, err)
	}
	// Somebody else's key is nobody's.
	if g, err := VisitAsHousehold(t.Context(), newKey(t), nil, h.host.Addrs()); err == nil {
		if _, err := g.Hello(t.Context(), nil, h.time); !errors.Is(err, ErrNobody) {
			t.Errorf("a stranger: %v", err)
		}
		_ = g.Close() // refused, as it should be
	}
}

// J1, J2: used twice, used by two, revoked, expired; whoever has asked goes on.
func TestInvitationsEnd(t *testing.T) {
	h := newHome(t, "elm-street")
	issued, i := h.invite(t, 2)
	g := visitFor(t, i)
	var in []*newcomer
	for range 2 {
		n := newNewcomer(t)
		in = append(in, n)
		for range 2 { // asking again is no second use
			if _, err := g.Ask(t.Context(), n.file(t, "elm-street")); err != nil {
				t.Fatal(err)
			}
		}
	}
	third := newNewcomer(t)
	id := third.id()
	check := func(want Code) {
		t.Helper()
		if _, err := g.Hello(t.Context(), nil, h.time); code(err) != want {
			t.Errorf("hello: %v, want %s", err, want)
		}
		if _, err := g.Ask(t.Context(), third.file(t, "elm-street")); code(err) != want {
			t.Errorf("asking: %v, want %s", err, want)
		}
		if _, err := g.Look(t.Context(), id); code(err) != want {
			t.Errorf("looking: %v, want %s", err, want)
		}
		for _, n := range in {
			id := n.id()
			if _, err := g.Hello(t.Context(), &id, h.time); err != nil {
				t.Errorf("one who has asked: %v", err)
			}
			if l, err := g.Look(t.Context(), n.id()); err != nil || l.File == nil {
				t.Errorf("one who has asked looks: %v", err)
			}
		}
	}
	check(CodeUsed)
	h.pass(25 * time.Hour)
	check(CodeExpired)
	for range 2 {
		if err := OpenFolder(h.dir).Revoke(issued.ID); err != nil {
			t.Fatal(err)
		}
	}
	check(CodeRevoked)
	// Long after its end it is forgotten.
	h.pass(remembered)
	if all, err := OpenFolder(h.dir).List(h.time()); err != nil || len(all) != 0 {
		t.Errorf("%d invitations are left, %v", len(all), err)
	}
	if left, err := os.ReadDir(filepath.Join(h.dir, invitationsFolder)); err != nil || len(left) != 0 {
		t.Errorf("%d files are left, %v", len(left), err)
	}
}

// J1: many who come at once share the uses, and no more.
func TestOneUseIsOne(t *testing.T) {
	h := newHome(t, "elm-street")
	_, i := h.invite(t, 1)
	pub := GuestKey(i.Secret).Public().(ed25519.PublicKey)
	from, err := p2p.IDOf(pub)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := map[Code]int{}
	for range 16 {
		raw, err := json.Marshal(question{Do: doAsk, File: newNewcomer(t).file(t, "elm-street")})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			answer, err := h.desk.Serve(t.Context(), from, raw)
			var r reply
			if err == nil {
				err = json.Unmarshal(answer, &r)
			}
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if r.Refused != nil {
				codes[r.Refused.Code]++
			} else {
				codes[CodeOpen]++
			}
		})
	}
	wg.Wait()
	if codes[CodeOpen] != 1 || codes[CodeUsed] != 15 {
		t.Errorf("got %v, want one in and 15 refused", codes)
	}
}

// J3: another community, another home, another clock.
func TestWhatTheGuestChecks(t *testing.T) {
	h, other := newHome(t, "elm-street"), newHome(t, "elm-street")
	issued, i := h.invite(t, 1)
	foreign := *i
	foreign.Genesis[15] ^= 1
	if _, err := visitFor(t, &foreign).Hello(t.Context(), nil, h.time); !errors.Is(err, ErrGenesis) {
		t.Errorf("another genesis: %v", err)
	}
	// A home that has copied the invitation, but not its secret's proof of identity.
	if _, err := visitFor(t, i).Hello(t.Context(), nil, func() time.Time { return h.time().Add(-10 * time.Second) }); !errors.Is(err, ErrClock) {
		t.Errorf("a clock that is slow: %v", err)
	}
	if _, err := visitFor(t, i).Hello(t.Context(), nil, func() time.Time { return h.time().Add(56 * 365 * 24 * time.Hour) }); !errors.Is(err, ErrClock) {
		t.Errorf("a clock that is far ahead: %v", err)
	}
	liar := visitFor(t, i)
	liar.secret = &[secretBytes]byte{1}
	if _, err := liar.Hello(t.Context(), nil, h.time); !errors.Is(err, ErrProof) {
		t.Errorf("another secret: %v", err)
	}
	// The words lead to another home, which knows nothing of it.
	secret, tag, err := ParseWords(i.Words())
	if err != nil || secret != issued.SecretOf() {
		t.Fatal(err)
	}
	if g, err := VisitWithWords(t.Context(), secret, tag, other.host.Addrs()[0]); err == nil {
		if _, err := g.Hello(t.Context(), nil, h.time); !errors.Is(err, ErrNobody) {
			t.Errorf("another home: %v", err)
		}
		_ = g.Close() // refused, as it should be
	}
}

// J5, and what does not fit the protocol: an answer or an error, never more.
func TestDeskBounds(t *testing.T) {
	h := newHome(t, "elm-street")
	_, i := h.invite(t, MaxUses)
	g := visitFor(t, i)
	for name, q := range map[string]question{
		"nothing": {}, "unknown": {Do: "steal"}, "no nonce": {Do: doHello}, "no file": {Do: doAsk},
		"no transactions": {Do: doSubmit}, "another community": {Do: doAsk, File: newNewcomer(t).file(t, "oak-street")},
	} {
		if _, err := g.exchange(t.Context(), q); code(err) == "" {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
	now := h.time()
	for n := range MaxInvitations + 1 {
		if _, err := OpenFolder(h.dir).Issue("root", 1, now, now.Add(time.Hour)); (err != nil) != (n >= MaxInvitations-1) {
			t.Fatalf("invitation %d: %v", n+2, err)
		}
	}
	for range MaxRequests {
		n := newNewcomer(t)
		if err := OpenRequests(h.dir).Put(n.id(), n.file(t, "elm-street")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := g.Ask(t.Context(), newNewcomer(t).file(t, "elm-street")); code(err) != CodeFull {
		t.Errorf("one too many: %v", err)
	}
	if _, err := OpenRequests(h.dir).List(time.Now().Add(RequestDays*24*time.Hour + time.Hour)); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Ask(t.Context(), newNewcomer(t).file(t, "elm-street")); err != nil {
		t.Errorf("room again: %v", err)
	}
}

func drawInvitation(t *rapid.T) *Invitation {
	i := &Invitation{Expires: time.Unix(rapid.Int64Range(0, 1<<32-1).Draw(t, "expires"), 0).UTC()}
	copy(i.Genesis[:], rapid.SliceOfN(rapid.Byte(), hashBytes, hashBytes).Draw(t, "genesis"))
	copy(i.Secret[:], rapid.SliceOfN(rapid.Byte(), secretBytes, secretBytes).Draw(t, "secret"))
	all := []string{"/ip4/192.168.1.7/tcp/8602", "/ip4/192.168.1.7/udp/8602/quic-v1", "/ip6/fd00::2/udp/8602/quic-v1", "/dns/street.example.org/tcp/8602"}
	for range rapid.IntRange(1, maxNodes).Draw(t, "nodes") {
		i.Nodes = append(i.Nodes, Node{
			Network:   rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "network"),
			Addresses: all[:rapid.IntRange(1, len(all)).Draw(t, "addresses")],
		})
	}
	return i
}

func TestInvitationText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i := drawInvitation(t)
		text, err := i.Text()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseText(strings.ToLower(text))
		if err != nil {
			t.Fatal(err)
		}
		again, err := got.Text()
		if err != nil || again != text || !got.Expires.Equal(i.Expires) {
			t.Fatalf("%q is read as %q, %v", text, again, err)
		}
		secret, tag, err := ParseWords(i.Words())
		if err != nil || secret != i.Secret || tag != TagOf(i.Genesis[:]) || len(i.Words()) != WordCount {
			t.Fatal(err)
		}
	})
}

func TestShareText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := [32]byte(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "seed"))
		of := func(seed [32]byte) market.HouseholdID {
			return market.HouseholdIDOf(ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey))
		}
		id := of(seed)
		parts, err := paper.Split(seed, 3, 2, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		var read []*Share
		for n, p := range parts {
			s := &Share{Share: p, Label: id[:], Genesis: [16]byte{1, 2, 3}}
			text := s.Text()
			if n == 1 {
				text = strings.Join(s.Words(), " ")
			}
			got, err := ParseShare(text)
			if err != nil || got.Share != p || !bytes.HasPrefix(id[:], got.Label) {
				t.Fatalf("%+v, %v", got, err)
			}
			read = append(read, got)
		}
		for _, some := range [][]*Share{read, read[:2], read[1:], {read[2], read[0]}} {
			if got, err := Combine(some, of); err != nil || got != seed {
				t.Fatalf("%x, %v", got, err)
			}
		}
		if _, err := Combine(read[:1], of); !errors.Is(err, paper.ErrShares) {
			t.Fatalf("one: %v", err)
		}
		mixed := *read[0]
		mixed.Value[7] ^= 1
		if _, err := Combine([]*Share{&mixed, read[2]}, of); !errors.Is(err, paper.ErrShares) {
			t.Fatalf("another making: %v", err)
		}
		stranger := *read[0]
		stranger.Label = slices.Repeat([]byte{9}, 16)
		if _, err := Combine([]*Share{&stranger, read[2]}, of); !errors.Is(err, paper.ErrShares) {
			t.Fatalf("another household: %v", err)
		}
	})
}

// Damaged files let nobody in, and say which file it is.
func TestDamagedInvitation(t *testing.T) {
	h := newHome(t, "elm-street")
	issued, i := h.invite(t, 1)
	path := filepath.Join(h.dir, invitationsFolder, issued.ID+".json")
	if err := os.WriteFile(path, []byte(`{"secret": "00"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFolder(h.dir).List(h.time()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	h.pass(reread)
	if h.desk.Guest(GuestKey(i.Secret).Public().(ed25519.PublicKey)) {
		t.Error("a guest of a damaged invitation is let in")
	}
	if err := OpenFolder(h.dir).Revoke("../x"); !errors.Is(err, ErrUnknown) {
		t.Errorf("got %v", err)
	}
	if _, err := OpenRequests(h.dir).Get(newNewcomer(t).id()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func FuzzInvitation(f *testing.F) {
	i := &Invitation{Expires: time.Unix(1, 0), Nodes: []Node{{Network: make([]byte, 32), Addresses: []string{"/ip4/1.2.3.4/tcp/8602"}}}}
	text, err := i.Text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(nil), text)
	raw, err := paper.ReadLetters(Prefix, text)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, "")
	f.Fuzz(func(t *testing.T, raw []byte, text string) {
		if len(raw) <= paper.MaxLetters {
			// Letters that are right, with any content.
			if i, err := ParseText(paper.Letters(Prefix, raw)); err == nil {
				again, err := i.Text()
				if err != nil || again != paper.Letters(Prefix, raw) {
					t.Fatalf("%x is read as %q, %v", raw, again, err)
				}
			}
			_, _ = ParseShare(paper.Letters(SharePrefix, raw)) // no panic
		}
		_, _ = ParseText(text)                     // no panic
		_, _ = ParseShare(text)                    // no panic
		_, _, _ = ParseWords(strings.Fields(text)) // no panic
	})
}

func FuzzQuestion(f *testing.F) {
	f.Add([]byte(`{"do":"hello","nonce":"AAAAAAAAAAAAAAAAAAAAAA=="}`))
	f.Add([]byte(`{"do":"ask","file":{"kind":"household"}}`))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		var q question
		if strict(raw, &q) == nil && q.File != nil {
			_, _, _ = q.File.Matter() // no panic
		}
		_ = strict(raw, new(reply)) // no panic
	})
}
