package joining

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/commonwatt/commonwatt/agent/decision"
	"github.com/commonwatt/commonwatt/market"
)

// Protocol is that of the desk, for p2p.Host.HandleGuest. A question and its answer are
// strict JSON; nothing in it is signed but what is signed in the ledger's own form.
const Protocol = "/commonwatt/join/1"

// MaxQuestion and maxAnswer bound what goes over the wire; a genesis document may have 4 MiB.
const (
	MaxQuestion = 64 << 10
	maxAnswer   = 6 << 20
	nonceBytes  = 16
)

// What a guest may ask.
const (
	doHello   = "hello"   // who are you, and what of this invitation?
	doGenesis = "genesis" // the genesis document
	doAsk     = "ask"     // for admission
	doLook    = "look"    // how is it with my household?
	doSubmit  = "submit"  // hand this to the ledger
)

type question struct {
	Do           string              `json:"do"`
	Nonce        []byte              `json:"nonce,omitempty"`
	Household    *market.HouseholdID `json:"household,omitempty"`
	File         *decision.File      `json:"file,omitempty"`
	Transactions [][]byte            `json:"transactions,omitempty"`
}

type reply struct {
	Refused  *Refused `json:"refused,omitempty"`
	Hello    *Hello   `json:"hello,omitempty"`
	Document []byte   `json:"document,omitempty"`
	Look     *Look    `json:"look,omitempty"`
}

// Hello is how a home introduces itself to a guest.
type Hello struct {
	Genesis []byte    `json:"genesis"` // the whole hash
	Proof   []byte    `json:"proof,omitempty"`
	Now     time.Time `json:"now"`
	Node    string    `json:"node,omitempty"` // where homes that come with this invitation hang
}

// Look is how it is with a household.
type Look struct {
	Member    bool           `json:"member"` // it is registered
	Meter     bool           `json:"meter"`  // so is its meter
	Needed    int            `json:"needed"` // approvals
	File      *decision.File `json:"file,omitempty"`
	DeviceSeq uint64         `json:"device_seq"`
	Device    []byte         `json:"device,omitempty"`
	Next      int64          `json:"next"` // the next interval whose gate closes
	Peers     []string       `json:"peers,omitempty"`
}

// Code says why a guest is refused.
type Code string

// The codes; an invitation that is not over is open.
const (
	CodeOpen       Code = "open"
	CodeUsed       Code = "used"
	CodeExpired    Code = "expired"
	CodeRevoked    Code = "revoked"
	CodeFull       Code = "full"
	CodeMalformed  Code = "malformed"
	CodeNotAsked   Code = "not-asked"
	CodeNotYours   Code = "not-yours"
	CodeLedger     Code = "ledger"
	CodeRegistered Code = "registered"
)

// Refused is the desk's no. As it comes from a peer, its text is bounded and not trusted.
type Refused struct {
	Code Code   `json:"code"`
	Text string `json:"text"`
}

func (r *Refused) Error() string { return r.Text }

func refuse(code Code, format string, args ...any) *Refused {
	return &Refused{Code: code, Text: fmt.Sprintf(format, args...)}
}

var errUsed = refuse(CodeUsed, "this invitation has been used already: each household needs one of its own; ask for a new one")

func strict(raw []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("got more after the object")
	}
	return nil
}
