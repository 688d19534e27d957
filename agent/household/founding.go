package household

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Files and folders in a home's folder.
const (
	ConfigFile    = "agent.yaml"
	CommunityFile = "community.json" // the genesis document
	AdmissionFile = "admission.txt"  // transactions, one a line in hexadecimal, that make the home a member
	EngineFolder  = "engine"
	DiskFile      = "home.db"
	PIDFile       = "agent.pid"
	AddressFile   = "addresses" // where other homes said that they live
	HeaderFile    = "headers"   // the newest headers that a light home has verified
)

// NetworkAddresses are where a home listens for the others: one port for everything, on all
// addresses of this machine.
func NetworkAddresses(port int) []string {
	var list []string
	for _, address := range []string{"/ip4/0.0.0.0", "/ip6/::"} {
		list = append(list, fmt.Sprintf("%s/tcp/%d", address, port), fmt.Sprintf("%s/udp/%d/quic-v1", address, port))
	}
	return list
}

// ValidatorKeyFiles are where a home keeps its validator key and the state that
// keeps it from signing twice.
func ValidatorKeyFiles(dir string) (key, state string) {
	return filepath.Join(dir, "keys", "validator.json"), filepath.Join(dir, EngineFolder, "data", "validator-state.json")
}

// CreateValidatorKey makes the home's validator key, which a replica has too.
func CreateValidatorKey(dir string) error {
	_, err := consensus.NewValidatorKey(ValidatorKeyFiles(dir))
	return err
}

// Founder is one of the homes with which a community begins.
type Founder struct {
	Name      string
	Dir       string // made if it is missing
	Validator bool
	Node      string               // of the network; empty: its root
	Meter     ledger.RegisterMeter // Key and Approvals are filled in
}

// Founding is what it takes to begin a community.
type Founding struct {
	Name    string // also the chain's id
	Dir     string // the cooperative's folder: officers' keys, and the grid operator's
	Epoch   time.Time
	Start   time.Time
	Rate    int64
	Rules   ledger.Rules
	Network []ledger.Node // none: the root alone
	// Officers and Operators are public keys that were made elsewhere. Without them three
	// officers' keys, and a grid operator's, are made in Dir. With them nobody here can admit
	// the first homes: each gets an AdmissionRequest for the officers to sign.
	Officers  []ledger.Key
	Operators []ledger.Key
	Homes     []Founder
	MeterOf   func(Founder) (ed25519.PublicKey, error) // the key of a meter that signs; nil: all sign by agent
}

// OperatorFile is the grid operator's key in the cooperative's folder. In a real
// community it is made by the operator, and leaves its house as a public key only.
const OperatorFile = "grid-operator.key"

// officerCount is how many officers a founded community has; two sign an admission.
const officerCount = 3

// Found makes the keys of all homes and officers, the genesis document, and for
// each home the approved transactions with which it will register itself. Each
// home's folder gets its own copy; private keys stay where they are made.
//
// Nothing is made if the name, the clock or the rules cannot be right.
func Found(f Founding) error {
	if err := f.check(); err != nil {
		return fmt.Errorf("founding %q: %w", f.Name, err)
	}
	g := f.genesis()
	officers, err := f.cooperative(&g)
	if err != nil {
		return fmt.Errorf("founding %s: %w", f.Name, err)
	}
	keys := make([]*Keys, len(f.Homes))
	var validators []consensus.Validator
	for i, h := range f.Homes {
		if keys[i], err = CreateKeys(h.Dir); err != nil {
			return fmt.Errorf("founding %s: %w", f.Name, err)
		}
		pub, err := consensus.NewValidatorKey(ValidatorKeyFiles(h.Dir))
		if err != nil {
			return fmt.Errorf("founding %s: %w", f.Name, err)
		}
		if h.Validator {
			validators = append(validators, consensus.Validator{Name: h.Name, PubKey: pub, Power: 1, Network: Public(keys[i].Network).Public()})
		}
		g.Founders = append(g.Founders, Public(keys[i].Network))
	}
	doc, err := consensus.GenesisDoc(f.Name, g, validators, f.Start)
	if err != nil {
		return fmt.Errorf("founding %s: %w", f.Name, err)
	}
	for i, h := range f.Homes {
		if err := f.equip(h, keys[i], officers, doc); err != nil {
			return fmt.Errorf("founding %s: %s: %w", f.Name, h.Name, err)
		}
	}
	return nil
}

func (f *Founding) genesis() ledger.Genesis {
	return ledger.Genesis{
		Name: f.Name, Epoch: f.Epoch.UTC(), Start: f.Start.UTC(), Rate: f.Rate, Rules: f.Rules, Network: f.Network,
		Officers: f.Officers, Operators: f.Operators,
	}
}

// cooperative makes the keys that were not made elsewhere, and returns those officers' that
// can sign the first admissions: as many as the rules want, or none.
func (f *Founding) cooperative(g *ledger.Genesis) ([]ed25519.PrivateKey, error) {
	var officers []ed25519.PrivateKey
	if len(f.Officers) == 0 {
		made, err := createOfficers(f.Dir)
		if err != nil {
			return nil, err
		}
		for _, o := range made {
			g.Officers = append(g.Officers, Public(o))
		}
		officers = made[:g.Rules.ApprovalsNeeded]
	}
	if len(f.Operators) == 0 {
		if err := os.MkdirAll(f.Dir, 0o700); err != nil {
			return nil, err
		}
		operator, err := createKey(filepath.Join(f.Dir, OperatorFile))
		if err != nil {
			return nil, err
		}
		g.Operators = []ledger.Key{Public(operator)}
	}
	return officers, nil
}

// check judges the genesis before there are any keys, with numbers in their place.
func (f *Founding) check() error {
	g := f.genesis()
	for i := range officerCount {
		if len(f.Officers) > 0 {
			break
		}
		g.Officers = append(g.Officers, ledger.Key{1, byte(i)})
	}
	if err := g.Validate(); err != nil {
		return err
	}
	for _, h := range f.Homes {
		if n := f.nodeOf(h); !slices.ContainsFunc(f.Network, func(x ledger.Node) bool { return x.ID == n }) && len(f.Network) > 0 {
			return fmt.Errorf("%s: node: got %q, want one of the network", h.Name, n)
		}
	}
	return nil
}

// nodeOf is where a home hangs.
func (f *Founding) nodeOf(h Founder) string {
	if h.Node != "" {
		return h.Node
	}
	for _, n := range f.Network {
		if n.Parent == "" {
			return n.ID
		}
	}
	return ledger.RootNode
}

func createOfficers(dir string) ([]ed25519.PrivateKey, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	var officers []ed25519.PrivateKey
	for i := range officerCount {
		key, err := createKey(filepath.Join(dir, fmt.Sprintf("officer-%d.key", i+1)))
		if err != nil {
			return nil, err
		}
		officers = append(officers, key)
	}
	return officers, nil
}

func createKey(path string) (ed25519.PrivateKey, error) {
	if err := CreateKey(path); err != nil {
		return nil, err
	}
	return LoadKey(path)
}

// equip writes what a home needs to start as a member.
func (f *Founding) equip(h Founder, k *Keys, officers []ed25519.PrivateKey, doc []byte) error {
	meterKey := k.Meter.Public().(ed25519.PublicKey)
	if f.MeterOf != nil {
		own, err := f.MeterOf(h)
		if err != nil {
			return err
		}
		if own != nil {
			meterKey = own
		}
	}
	if len(officers) == 0 {
		return f.ask(h, k, meterKey, doc)
	}
	id := k.ID()
	member := ledger.RegisterHousehold{
		Key: Public(k.Household), Device: Public(k.Device), Network: Public(k.Network), Node: f.nodeOf(h),
	}
	member.Approvals = approve(officers, member.AdmissionBytes(f.Name))
	meter := h.Meter
	meter.Key = ledger.KeyOf(meterKey)
	meter.Approvals = approve(officers, meter.AdmissionBytes(f.Name, id))
	var lines bytes.Buffer
	for _, tx := range [][]byte{member.Sign(f.Name, k.Household), meter.Sign(f.Name, id, k.Device)} {
		fmt.Fprintln(&lines, hex.EncodeToString(tx))
	}
	if err := ReplaceFile(filepath.Join(h.Dir, AdmissionFile), lines.Bytes()); err != nil {
		return err
	}
	return ReplaceFile(filepath.Join(h.Dir, CommunityFile), doc)
}

func approve(officers []ed25519.PrivateKey, msg []byte) []ledger.Approval {
	var as []ledger.Approval
	for i, o := range officers {
		as = append(as, ledger.Approval{Officer: uint64(i), Signature: ed25519.Sign(o, msg)})
	}
	return as
}

// maxAdmission bounds the transactions of an admission; there are two.
const maxAdmission = 8

// loadAdmission reads the transactions that make the home a member; a home that
// was registered in another way has none.
func loadAdmission(dir string, id market.HouseholdID) ([]admission, error) {
	path := filepath.Join(dir, AdmissionFile)
	f, err := os.Open(path) //nolint:gosec // inside the home's own folder
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading admission: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	var txs []admission
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 4*ledger.MaxTxBytes)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" {
			continue
		}
		tx, err := parseAdmission(text, id)
		if err == nil && len(txs) == maxAdmission {
			err = fmt.Errorf("want at most %d transactions", maxAdmission)
		}
		if err != nil {
			return nil, fmt.Errorf("reading admission: %s:%d: %w", path, n, err)
		}
		txs = append(txs, tx)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading admission: %s: %w", path, err)
	}
	return txs, nil
}

// admission is one approved transaction of the home's own.
type admission struct {
	kind ledger.Kind
	raw  []byte
}

func parseAdmission(text string, id market.HouseholdID) (admission, error) {
	raw, err := hex.DecodeString(text)
	if err != nil {
		return admission{}, fmt.Errorf("want hexadecimal digits: %w", err)
	}
	tx, err := ledger.DecodeTx(raw)
	switch {
	case err != nil:
		return admission{}, fmt.Errorf("want a transaction: %w", err)
	case tx.Kind() != ledger.KindHousehold && tx.Kind() != ledger.KindMeter:
		return admission{}, fmt.Errorf("got a transaction of kind %s, want household or meter", tx.Kind())
	case tx.Household() != id:
		return admission{}, fmt.Errorf("is for household %s, this home is %s: was the file of another one copied?", tx.Household(), id)
	}
	return admission{kind: tx.Kind(), raw: raw}, nil
}
