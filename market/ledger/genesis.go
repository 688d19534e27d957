package ledger

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/market"
)

// Key is an Ed25519 public key. Its text form is 64 hexadecimal digits.
type Key [ed25519.PublicKeySize]byte

// KeyOf copies a public key; it panics on a wrong length, which only a
// programming mistake can cause.
func KeyOf(pub ed25519.PublicKey) Key {
	if len(pub) != ed25519.PublicKeySize {
		panic(fmt.Sprintf("ledger: public key has %d bytes, want %d", len(pub), ed25519.PublicKeySize))
	}
	return Key(pub)
}

// Public returns the key as crypto/ed25519 has it.
func (k Key) Public() ed25519.PublicKey { return ed25519.PublicKey(k[:]) }

// String returns 64 hexadecimal digits.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// MarshalText gives the hexadecimal form.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the hexadecimal form.
func (k *Key) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw) != len(k) {
		return fmt.Errorf("public key %q: want %d hexadecimal digits", text, 2*len(k))
	}
	copy(k[:], raw)
	return nil
}

// Genesis is what a community starts from, fixed for ever in its genesis document.
type Genesis struct {
	Name      string    `json:"name"`
	Epoch     time.Time `json:"epoch"` // community time at Start
	Start     time.Time `json:"start"` // wall clock
	Rate      int64     `json:"rate"`  // community seconds per wall second; 1 save in demo- and sim- communities
	Rules     Rules     `json:"rules"`
	Network   []Node    `json:"network,omitempty"`   // empty: the root alone
	Officers  []Key     `json:"officers"`            // approve members, meters, rules, the network and corrections
	Operators []Key     `json:"operators,omitempty"` // the grid operators' keys: set envelopes
	Founders  []Key     `json:"founders"`            // network keys let in before their households are registered
	// Validators commit blocks from the beginning; the engine's own list in the genesis
	// document has the same keys in the same order.
	Validators []GenesisValidator `json:"validators,omitempty"`
}

const (
	maxOfficers  = 64
	maxOperators = 16
	maxFounders  = 1024
	maxNameBytes = 50
	maxYear      = 9999
	maxWindowS   = 2 * 366 * 24 * 3600 // what can be corrected is kept by everyone

	// maxLine bounds what one line of a settlement can come to, so that an account
	// does not overflow before some 2^23 lines of the highest amount.
	maxLine market.Money = 1 << 40
)

// Clock returns the community's clock.
func (g Genesis) Clock() market.Clock {
	return market.Clock{Epoch: g.Epoch, Start: g.Start, Rate: g.Rate}
}

// Calendar returns the community's intervals.
func (g Genesis) Calendar() market.Calendar {
	return market.Calendar{
		Length: time.Duration(g.Rules.IntervalS) * time.Second,
		Lead:   time.Duration(g.Rules.LeadS) * time.Second,
	}
}

// Validate names the first field that cannot be right.
func (g Genesis) Validate() error {
	if err := validateName(g.Name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	// Intervals count from 1970 and are never negative on the ledger.
	if g.Epoch.Unix() < 0 || g.Epoch.Year() > maxYear {
		return fmt.Errorf("epoch: got %v, want a time from 1970 to %d", g.Epoch, maxYear)
	}
	if err := g.Clock().Validate(g.Name); err != nil {
		return fmt.Errorf("rate: %w", err)
	}
	if err := validateKeys(g.Officers, maxOfficers); err != nil {
		return fmt.Errorf("officers: %w", err)
	}
	if err := validateKeys(g.Operators, maxOperators); err != nil {
		return fmt.Errorf("operators: %w", err)
	}
	for _, k := range g.Operators {
		if slices.Contains(g.Officers, k) {
			return fmt.Errorf("operators: key %s is an officer's: one key, one purpose", k)
		}
	}
	if err := validateKeys(g.Founders, maxFounders); err != nil {
		return fmt.Errorf("founders: %w", err)
	}
	if err := validateValidators(&g); err != nil {
		return fmt.Errorf("validators%w", err)
	}
	if n := g.Rules.ApprovalsNeeded; n < 1 || n > len(g.Officers) {
		return fmt.Errorf("rules.approvals_needed: got %d, want 1 to the %d officers", n, len(g.Officers))
	}
	if err := g.Rules.Validate(); err != nil {
		return err
	}
	network, err := newNetwork(g.Network)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	return g.Rules.fits(network)
}

// validateName judges names that stand in signed bytes and on screens.
func validateName(name string) error {
	if name == "" || len(name) > maxNameBytes {
		return fmt.Errorf("got %d bytes, want 1 to %d", len(name), maxNameBytes)
	}
	for _, r := range name {
		if r == '\uFFFD' || !strconv.IsPrint(r) {
			return fmt.Errorf("got %q, want printable characters only", name)
		}
	}
	return nil
}

// validateKeys refuses a key that is there twice: one officer would count for two.
func validateKeys(keys []Key, most int) error {
	if len(keys) > most {
		return fmt.Errorf("got %d, want at most %d", len(keys), most)
	}
	seen := make(map[Key]bool, len(keys))
	for i, k := range keys {
		if seen[k] {
			return fmt.Errorf("[%d]: key %s is there twice", i, k)
		}
		seen[k] = true
	}
	return nil
}

// encodeGenesis is the genesis as the AppHash commits to it: a line for each field, so
// that nothing in it can be taken for something else.
func encodeGenesis(chainID string, g Genesis) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "chain %q\nname %q\nepoch %d\nstart %d\nrate %d\nrules %x\n",
		chainID, g.Name, g.Epoch.UnixNano(), g.Start.UnixNano(), g.Rate, encode(g.Rules))
	for _, n := range g.Network {
		fmt.Fprintf(&b, "node %x\n", encode(n))
	}
	for _, k := range g.Officers {
		fmt.Fprintf(&b, "officer %s\n", k)
	}
	for _, k := range g.Operators {
		fmt.Fprintf(&b, "operator %s\n", k)
	}
	for _, k := range g.Founders {
		fmt.Fprintf(&b, "founder %s\n", k)
	}
	for _, v := range g.Validators {
		fmt.Fprintf(&b, "validator %s %s\n", v.Key, v.Network)
	}
	return []byte(b.String())
}
