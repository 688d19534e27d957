package joining

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/agent/decision"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/p2p"
)

var (
	// ErrGenesis says that the home has another community than the invitation names.
	ErrGenesis = errors.New("another community")
	// ErrProof says that what answers does not know the invitation.
	ErrProof = errors.New("not the inviting home")
	// ErrClock says that the clocks of this machine and of the home differ.
	ErrClock = errors.New("clocks differ")
	// ErrNobody says that no home could be reached.
	ErrNobody = errors.New("no home can be reached")
)

// MaxClockDifference is how far the clock of a machine that joins may be from that of the
// home it asks, beside the time that the question took: gates close on the second.
const MaxClockDifference = 5 * time.Second

// Guest is somebody at the desk of a home.
type Guest struct {
	visitor *p2p.Visitor
	genesis []byte // at least a tag of the hash; what the guest knows beforehand
	bits    int    // how much of it counts
	secret  *[secretBytes]byte
	own     market.HouseholdID
}

// Visit goes to a home with an invitation's letters.
func Visit(ctx context.Context, i *Invitation) (*Guest, error) {
	addrs, err := i.Visits()
	if err != nil {
		return nil, err
	}
	return visit(ctx, GuestKey(i.Secret), addrs, &Guest{genesis: i.Genesis[:], bits: 8 * hashBytes, secret: &i.Secret})
}

func visit(ctx context.Context, key ed25519.PrivateKey, addrs []string, g *Guest) (*Guest, error) {
	v, err := p2p.Visit(ctx, key, addrs)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNobody, err)
	}
	g.visitor = v
	return g, nil
}

// VisitWithWords goes to a home with an invitation's words. Where it is, is said by its
// address, HOST:PORT, or found on the local network if that is empty.
func VisitWithWords(ctx context.Context, secret [secretBytes]byte, tag Tag, at string) (*Guest, error) {
	key := GuestKey(secret)
	guest := func() *Guest { return &Guest{genesis: tag[:], bits: tagBits, secret: &secret} }
	if at == "" {
		return lookAround(ctx, key, tag.Discovery(), guest)
	}
	addrs, err := AddressOf(ctx, key, at)
	if err != nil {
		return nil, err
	}
	return visit(ctx, key, addrs, guest())
}

// VisitAsHousehold goes to any home of the community with the household's own key. The
// genesis hash, or its beginning, may be known or not.
func VisitAsHousehold(ctx context.Context, key ed25519.PrivateKey, genesis []byte, addrs []string) (*Guest, error) {
	return visit(ctx, key, addrs, &Guest{
		genesis: genesis, bits: 8 * len(genesis), own: market.HouseholdIDOf(key.Public().(ed25519.PublicKey)), //nolint:forcetypeassert // that of crypto/ed25519
	})
}

// lookWithin is how long a home is looked for on the local network.
const lookWithin = 15 * time.Second

// lookAround goes to the home on the local network that knows the guest. Others of the
// community may be there too, and anybody else who calls himself one, so each is asked.
func lookAround(ctx context.Context, key ed25519.PrivateKey, tag string, guest func() *Guest) (*Guest, error) {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	var in *Guest
	last := fmt.Errorf("%w: none with this invitation has announced itself on the local network", ErrNobody)
	tried := make(map[string]int) // identity -> at how many addresses
	_, err := p2p.Discover(ctx, key, tag, func(found []string) bool {
		for id, addrs := range byHome(found) {
			if tried[id] == len(addrs) {
				continue
			}
			tried[id] = len(addrs)
			g, err := visit(ctx, key, addrs, guest())
			if err == nil {
				if _, err = g.Hello(ctx, nil, time.Now); err == nil || errors.Is(err, ErrClock) || errors.As(err, new(*Refused)) {
					in = g
					return true
				}
				_ = g.Close() // nothing was said there
			}
			last = err
		}
		return false
	})
	switch {
	case err != nil && in != nil:
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrNobody, err), in.Close())
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNobody, err)
	case in == nil:
		return nil, last
	}
	return in, nil
}

// byHome sorts addresses by the identity at their end.
func byHome(addrs []string) map[string][]string {
	homes := make(map[string][]string)
	for _, a := range addrs {
		id := a[strings.LastIndex(a, "/")+1:]
		homes[id] = append(homes[id], a)
	}
	return homes
}

// DefaultPort is where homes listen.
const DefaultPort = "8602"

// AddressOf finds who is at HOST[:PORT]; a multiaddr that ends in /p2p/ID is taken as it is.
func AddressOf(ctx context.Context, key ed25519.PrivateKey, at string) ([]string, error) {
	if strings.HasPrefix(at, "/") {
		return []string{at}, nil
	}
	if _, _, err := net.SplitHostPort(at); err != nil {
		at = net.JoinHostPort(strings.Trim(at, "[]"), DefaultPort)
	}
	addrs, err := p2p.PeerAt(ctx, key, at)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNobody, err)
	}
	return addrs, nil
}

// Close ends the visit.
func (g *Guest) Close() error { return g.visitor.Close() }

// At is the address of the home that is visited, with its identity.
func (g *Guest) At() string {
	id, addr := g.visitor.At()
	return addr + "/p2p/" + string(id)
}

func (g *Guest) exchange(ctx context.Context, q question) (*reply, error) {
	if q.Household == nil && g.own != (market.HouseholdID{}) {
		q.Household = &g.own
	}
	raw, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	if len(raw) > MaxQuestion {
		return nil, fmt.Errorf("question: %d bytes, want at most %d", len(raw), MaxQuestion)
	}
	answer, err := g.visitor.Ask(ctx, Protocol, raw, maxAnswer)
	if err != nil {
		return nil, err
	}
	r := new(reply)
	if err := strict(answer, r); err != nil {
		return nil, fmt.Errorf("reading the home's answer: %w", err)
	}
	if r.Refused != nil {
		return nil, &Refused{Code: r.Refused.Code, Text: printable(r.Refused.Text)}
	}
	return r, nil
}

// printable bounds what a home says before it is shown.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	return text[:min(len(text), 400)]
}

// Hello asks the home who it is, and checks the answer: that it knows the invitation (J3),
// that its community is the one, and that the clocks agree. now is this machine's clock.
func (g *Guest) Hello(ctx context.Context, household *market.HouseholdID, now func() time.Time) (*Hello, error) {
	nonce := make([]byte, nonceBytes)
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	asked := now()
	r, err := g.exchange(ctx, question{Do: doHello, Nonce: nonce, Household: household})
	if err != nil && !errors.As(err, new(*Refused)) && ctx.Err() == nil {
		// It was reached and hung up: its gate knows neither an invitation nor a household of ours.
		return nil, fmt.Errorf("%w: what answers at %s lets nobody in that comes with this: %w", ErrNobody, g.At(), err)
	}
	if err != nil {
		return nil, err
	}
	took := now().Sub(asked)
	h := r.Hello
	if h == nil || len(h.Genesis) != 32 {
		return nil, fmt.Errorf("%w: its answer has no genesis hash", ErrProof)
	}
	if err := g.checkHash([32]byte(h.Genesis)); err != nil {
		return nil, err
	}
	if g.secret != nil {
		id, _ := g.visitor.At()
		if !hmac.Equal(h.Proof, proof(*g.secret, [32]byte(h.Genesis), id, nonce)) {
			return nil, fmt.Errorf("%w: what answers at %s does not know this invitation", ErrProof, g.At())
		}
	}
	if off := asked.Add(took / 2).Sub(h.Now); off.Abs() > MaxClockDifference+took/2 {
		return h, fmt.Errorf("%w: this machine's says %s, that of the home at %s says %s", ErrClock,
			asked.UTC().Format(time.RFC3339), g.At(), h.Now.UTC().Format(time.RFC3339))
	}
	return h, nil
}

func (g *Guest) checkHash(hash [32]byte) error {
	for i := range g.bits {
		if mask := byte(0x80) >> (i % 8); g.genesis[i/8]&mask != hash[i/8]&mask {
			whose := "the invitation is for"
			if g.secret == nil { // a household came, which may know the hash from elsewhere
				whose = "want"
			}
			return fmt.Errorf("%w: %s the one whose genesis hash begins with %.*x, the home at %s has %x",
				ErrGenesis, whose, (g.bits+7)/8, g.genesis, g.At(), hash)
		}
	}
	return nil
}

// Document fetches the genesis document that has the hash of the hello.
func (g *Guest) Document(ctx context.Context, household *market.HouseholdID, h *Hello) ([]byte, error) {
	r, err := g.exchange(ctx, question{Do: doGenesis, Household: household})
	if err != nil {
		return nil, err
	}
	hash, err := consensus.GenesisHash(r.Document)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(hash[:], h.Genesis) {
		return nil, fmt.Errorf("%w: the genesis document of the home at %s has the hash %x, want %x", ErrGenesis, g.At(), hash, h.Genesis)
	}
	return r.Document, nil
}

// Ask asks for admission; asking again is no error.
func (g *Guest) Ask(ctx context.Context, f *decision.File) (*Look, error) {
	return look(g.exchange(ctx, question{Do: doAsk, File: f}))
}

// Look asks how it is with the household.
func (g *Guest) Look(ctx context.Context, h market.HouseholdID) (*Look, error) {
	return look(g.exchange(ctx, question{Do: doLook, Household: &h}))
}

// Submit hands transactions of the household to the ledger.
func (g *Guest) Submit(ctx context.Context, h market.HouseholdID, transactions ...[]byte) (*Look, error) {
	return look(g.exchange(ctx, question{Do: doSubmit, Household: &h, Transactions: transactions}))
}

func look(r *reply, err error) (*Look, error) {
	if err != nil {
		return nil, err
	}
	if r.Look == nil {
		return nil, errors.New("reading the home's answer: it does not say how it is with the household")
	}
	return r.Look, nil
}
