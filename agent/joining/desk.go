package joining

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/commonwatt/commonwatt/agent/decision"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/p2p"
)

// Ledger is what a desk needs of the home's ledger.
type Ledger interface {
	Read(f func(*ledger.State))
	Submit(ctx context.Context, tx []byte) error
}

// DeskOptions are what NewDesk needs; all are required.
type DeskOptions struct {
	Home    string // the home's folder
	Genesis []byte // the document
	Self    p2p.PeerID
	Ledger  Ledger
	Peers   func() []string // addresses of members with /p2p, for those who join
	Now     func() time.Time
	Log     *slog.Logger
}

// Desk answers guests. It is safe for concurrent use.
type Desk struct {
	opt         DeskOptions
	hash        [32]byte
	invitations Folder
	requests    Requests

	mu     sync.Mutex // guards what follows, and the making of a request
	read   time.Time  // when the invitations were read
	guests map[string]*Issued
}

// reread is how old the list of invitations may be: strangers make the gate ask for it.
const reread = 100 * time.Millisecond

// NewDesk opens a home's desk.
func NewDesk(opt DeskOptions) (*Desk, error) {
	hash, err := consensus.GenesisHash(opt.Genesis)
	if err != nil {
		return nil, err
	}
	return &Desk{opt: opt, hash: hash, invitations: OpenFolder(opt.Home), requests: OpenRequests(opt.Home)}, nil
}

// Tag is under which this desk is found on the local network.
func (d *Desk) Tag() Tag { return TagOf(d.hash[:]) }

// Guest implements p2p.Config.Guest: keys of invitations, also of those that are over, and
// of households.
func (d *Desk) Guest(pub ed25519.PublicKey) bool {
	if d.invitation(pub) != nil {
		return true
	}
	_, ok := d.household(pub)
	return ok
}

// household is whose cold key that is.
func (d *Desk) household(pub ed25519.PublicKey) (id market.HouseholdID, ok bool) {
	id = market.HouseholdIDOf(pub)
	d.opt.Ledger.Read(func(s *ledger.State) {
		h, known := s.Household(id)
		ok = known && bytes.Equal(h.Key[:], pub)
	})
	return id, ok
}

// invitation finds by the guest's key; nil if there is none.
func (d *Desk) invitation(pub ed25519.PublicKey) *Issued {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := d.opt.Now(); d.guests == nil || now.Sub(d.read) >= reread || now.Before(d.read) {
		d.refresh(now)
	}
	return d.guests[string(pub)]
}

// refresh reads the folder; what cannot be read lets nobody in.
func (d *Desk) refresh(now time.Time) {
	all, err := d.invitations.List(now)
	if err != nil {
		d.opt.Log.Warn("invitations cannot be read, nobody is let in", "err", err)
	}
	d.read, d.guests = now, make(map[string]*Issued, len(all))
	for _, i := range all {
		d.guests[string(i.guest())] = i
	}
}

// Serve implements the handler of Protocol. Its error is for those who break the protocol.
func (d *Desk) Serve(ctx context.Context, from p2p.PeerID, raw []byte) ([]byte, error) {
	pub, err := p2p.KeyOf(from)
	if err != nil {
		return nil, err
	}
	var q question
	if err := strict(raw, &q); err != nil {
		return nil, fmt.Errorf("question: %w", err)
	}
	d.mu.Lock()
	d.read = time.Time{} // what is asked now sees what is in the folder now
	d.mu.Unlock()
	guest := visitor{invitation: d.invitation(pub), pub: pub}
	if guest.invitation == nil {
		if guest.household, guest.proven = d.household(pub); !guest.proven {
			return nil, errors.New("this key is neither an invitation's nor a household's")
		}
	}
	r, err := d.answer(ctx, guest, &q)
	if refused := (*Refused)(nil); errors.As(err, &refused) {
		r, err = &reply{Refused: refused}, nil
	}
	if err != nil {
		d.opt.Log.ErrorContext(ctx, "answering a guest", "err", err)
		return nil, errors.New("this home cannot do it now")
	}
	return json.Marshal(r)
}

// visitor is who asks: somebody with an invitation, or a household by its own key.
type visitor struct {
	pub        ed25519.PublicKey
	invitation *Issued
	household  market.HouseholdID
	proven     bool
}

func (d *Desk) answer(ctx context.Context, v visitor, q *question) (*reply, error) {
	switch q.Do {
	case doHello:
		return d.hello(v, q)
	case doGenesis:
		if err := d.entitled(v, q.Household); err != nil {
			return nil, err
		}
		return &reply{Document: d.opt.Genesis}, nil
	case doAsk:
		return d.ask(v, q)
	case doLook:
		return d.look(v, q)
	case doSubmit:
		return d.submit(ctx, v, q)
	}
	return nil, refuse(CodeMalformed, "do: got %.20q, want hello, genesis, ask, look or submit", q.Do)
}

// entitled says whether the invitation is still good for this household; one that is among
// its users keeps it (J1, J2).
func (d *Desk) entitled(v visitor, h *market.HouseholdID) error {
	if v.proven {
		return nil
	}
	if h != nil {
		if slices.Contains(v.invitation.Used, *h) {
			return nil
		}
	}
	switch i := v.invitation; i.State(d.opt.Now()) { //nolint:exhaustive // the other codes are of answers, not of an invitation's state
	case CodeRevoked:
		return refuse(CodeRevoked, "this invitation was revoked by who gave it; ask them for a new one")
	case CodeExpired:
		return refuse(CodeExpired, "this invitation ended at %s; ask for a new one", i.Expires.Format(time.RFC3339))
	case CodeUsed:
		return errUsed
	default:
		return nil
	}
}

func (d *Desk) hello(v visitor, q *question) (*reply, error) {
	if len(q.Nonce) != nonceBytes {
		return nil, refuse(CodeMalformed, "nonce: got %d bytes, want %d", len(q.Nonce), nonceBytes)
	}
	h := &Hello{Genesis: d.hash[:], Now: d.opt.Now().UTC()}
	if v.invitation != nil {
		if err := d.entitled(v, q.Household); err != nil {
			return nil, err
		}
		h.Proof, h.Node = proof(v.invitation.secret, d.hash, d.opt.Self, q.Nonce), v.invitation.Node
	}
	return &reply{Hello: h}, nil
}

// ask takes a request for admission.
func (d *Desk) ask(v visitor, q *question) (*reply, error) {
	if v.proven {
		return nil, refuse(CodeRegistered, "household %s is a member already", v.household)
	}
	if q.File == nil {
		return nil, refuse(CodeMalformed, "file: there is none")
	}
	f := *q.File
	f.Approvals = []decision.Approval{}
	matter, h, err := f.Matter()
	if err != nil {
		return nil, refuse(CodeMalformed, "file: %v", err)
	}
	admission, ok := matter.(*decision.Admission)
	chain, known := "", false
	d.opt.Ledger.Read(func(s *ledger.State) {
		chain = s.ChainID()
		_, known = s.Household(h)
	})
	switch {
	case !ok || f.Community != chain:
		return nil, refuse(CodeMalformed, "file: got a %.20s of %.60q, want a household of %q", f.Kind, f.Community, chain)
	case admission.Node != v.invitation.Node:
		return nil, refuse(CodeMalformed, "file: node: got %.60q, the invitation is for %q", admission.Node, v.invitation.Node)
	}
	if err := d.entitled(v, &h); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.requests.Get(h); err == nil || known {
		return d.state(h)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all, err := d.requests.List(d.opt.Now())
	if err != nil {
		return nil, err
	}
	if len(all) >= MaxRequests {
		return nil, refuse(CodeFull, "%d households wait here for admission, no more fit; try again when officers have decided", len(all))
	}
	if err := d.invitations.take(v.invitation, h); err != nil {
		return nil, err
	}
	if err := d.requests.Put(h, &f); err != nil {
		return nil, err
	}
	d.opt.Log.Info("a household asks for admission", "household", h.String(), "name", admission.Name)
	return d.state(h)
}

// mine is the household that the visitor may speak for.
func (d *Desk) mine(v visitor, q *question) (market.HouseholdID, error) {
	if v.proven {
		return v.household, nil
	}
	if q.Household != nil {
		if slices.Contains(v.invitation.Used, *q.Household) {
			return *q.Household, nil
		}
	}
	if err := d.entitled(v, q.Household); err != nil {
		return market.HouseholdID{}, err
	}
	return market.HouseholdID{}, refuse(CodeNotAsked, "this household has not asked for admission with this invitation")
}

func (d *Desk) look(v visitor, q *question) (*reply, error) {
	h, err := d.mine(v, q)
	if err != nil {
		return nil, err
	}
	return d.state(h)
}

// state is how it is with a household. A request that has come to its end is removed.
func (d *Desk) state(h market.HouseholdID) (*reply, error) {
	l := &Look{Peers: d.opt.Peers()}
	d.opt.Ledger.Read(func(s *ledger.State) {
		l.Needed, l.Next = s.Rules().ApprovalsNeeded, int64(s.Next())
		if r, ok := s.Household(h); ok {
			l.Member, l.Meter, l.DeviceSeq, l.Device = true, r.HasMeter, r.DeviceSeq, r.Device[:]
		}
	})
	switch q, err := d.requests.Get(h); {
	case err == nil && l.Member && l.Meter:
		if err := d.requests.Remove(h); err != nil {
			return nil, err
		}
	case err == nil:
		l.File = q.File
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return &reply{Look: l}, nil
}

// submit hands a guest's transactions to the ledger (J4).
func (d *Desk) submit(ctx context.Context, v visitor, q *question) (*reply, error) {
	h, err := d.mine(v, q)
	if err != nil {
		return nil, err
	}
	if len(q.Transactions) < 1 || len(q.Transactions) > 2 {
		return nil, refuse(CodeMalformed, "transactions: got %d, want 1 or 2", len(q.Transactions))
	}
	for i, raw := range q.Transactions {
		tx, err := ledger.DecodeTx(raw)
		if err != nil {
			return nil, refuse(CodeMalformed, "transactions[%d]: %v", i, err)
		}
		allowed := tx.Kind() == ledger.KindHousehold || tx.Kind() == ledger.KindMeter
		if v.proven {
			allowed = tx.Kind() == ledger.KindDevice || tx.Kind() == ledger.KindDeparture
		}
		if !allowed || tx.Household() != h {
			return nil, refuse(CodeNotYours, "transactions[%d]: a guest does not bring a transaction of kind %s of household %s here", i, tx.Kind(), tx.Household())
		}
		if err := d.opt.Ledger.Submit(ctx, raw); err != nil {
			if refusal := (*ledger.Refusal)(nil); errors.As(err, &refusal) {
				return nil, refuse(CodeLedger, "the ledger refuses it: %s", strings.TrimSpace(err.Error()))
			}
			return nil, err
		}
	}
	return d.state(h)
}
