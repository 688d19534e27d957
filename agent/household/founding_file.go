package household

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"

	"github.com/commonwatt/commonwatt/agent/decision"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// AdmissionRequest is in a founding home's folder if its admission has to be signed by
// officers whose keys are elsewhere.
const AdmissionRequest = "admission.json"

// ask writes down the admission of a founding home for officers to sign.
func (f *Founding) ask(h Founder, k *Keys, meter ed25519.PublicKey, doc []byte) error {
	d, err := decision.New(ledger.KindHousehold, f.Name, k.ID(), &decision.Admission{
		Name: h.Name, Key: Public(k.Household).String(), Device: Public(k.Device).String(), Network: Public(k.Network).String(), Node: f.nodeOf(h),
		Meter: &decision.Meter{Key: ledger.KeyOf(meter).String(), SignedBy: h.Meter.SignedBy.String(), Definition: h.Meter.Definition},
	})
	if err != nil {
		return err
	}
	if err := d.Write(filepath.Join(h.Dir, AdmissionRequest)); err != nil {
		return err
	}
	return ReplaceFile(filepath.Join(h.Dir, CommunityFile), doc)
}

// FoundingFile is community.yaml: what people agree on before a community begins.
type FoundingFile struct {
	Name       string             `yaml:"name"`
	Rules      FoundingRules      `yaml:"rules"`
	Network    []FoundingNode     `yaml:"network"`    // empty: the root alone
	Officers   []string           `yaml:"officers"`   // public keys; empty: three are made
	Operator   string             `yaml:"operator"`   // public key; empty: one is made
	Homes      []FoundingHome     `yaml:"homes"`      // the first ones: validators
	Simulation FoundingSimulation `yaml:"simulation"` // of a community that is a rehearsal
}

// FoundingSimulation is the clock of a community that is a rehearsal, on simulated meters.
type FoundingSimulation struct {
	Rate int64  `yaml:"rate"` // community seconds per second; 0: 1
	From string `yaml:"from"` // community time at the beginning, RFC 3339; empty: now
}

// simulatedProof is how many seconds of the wall clock a gateway has to read a simulated
// meter after a boundary.
const simulatedProof = 2

// apply sets the clock. What a reading may be late is counted in community time, of which a
// faster clock leaves no wall time: then it is as much as proves a boundary in the simulation.
func (s FoundingSimulation) apply(f *Founding) *ConfigError {
	if s == (FoundingSimulation{}) {
		return nil
	}
	if !market.IsSimulated(f.Name) {
		return &ConfigError{Key: "simulation", Text: fmt.Sprintf("the community is called %q, want a name that begins with demo- or sim-: a real one has the time of day", f.Name)}
	}
	if s.Rate != 0 {
		f.Rate = s.Rate
	}
	if err := (market.Clock{Rate: f.Rate}).Validate(f.Name); err != nil {
		return &ConfigError{Key: "simulation.rate", Text: fmt.Sprintf("got %d, want 1 to %d", s.Rate, market.MaxRate)}
	}
	if s.From != "" {
		t, err := time.Parse(time.RFC3339, s.From)
		if err != nil || t.Unix() < 0 {
			return &ConfigError{Key: "simulation.from", Text: fmt.Sprintf("got %.40q, want a time such as 2026-06-21T10:00:00Z", s.From)}
		}
		f.Epoch = t.UTC()
	}
	f.Rules.ReadingToleranceS = max(f.Rules.ReadingToleranceS, min(simulatedProof*f.Rate, f.Rules.IntervalS/2-1))
	return nil
}

// FoundingRules are those that people decide on; all others are ledger.DefaultRules. What is
// left out is the default's.
type FoundingRules struct {
	ImportPrice     string `yaml:"import_price"`  // of the grid, per kWh, such as 0.30
	ExportPrice     string `yaml:"export_price"`  // what the grid pays
	CommunityFee    string `yaml:"community_fee"` // per kWh bought in the market
	Rule            string `yaml:"rule"`          // how prices are found, see market.Rules
	Clearing        string `yaml:"clearing"`      // forward or metered
	IntervalMinutes int64  `yaml:"interval_minutes"`
	GateMinutes     int64  `yaml:"gate_minutes"` // before the start of the interval
	Timezone        string `yaml:"timezone"`     // a POSIX rule
	Approvals       int    `yaml:"approvals"`    // officers who must sign
}

// FoundingNode is a node of the network.
type FoundingNode struct {
	ID           string `yaml:"id"`
	Parent       string `yaml:"parent"` // empty at the root
	ImportLimitW *int64 `yaml:"import_limit_w"`
	ExportLimitW *int64 `yaml:"export_limit_w"`
	ImportFee    string `yaml:"import_fee"` // per kWh
	ExportFee    string `yaml:"export_fee"`
}

// FoundingHome is one of the first homes.
type FoundingHome struct {
	Name        string `yaml:"name"`
	Node        string `yaml:"node"`       // empty: the root
	Definition  string `yaml:"definition"` // of the meter at its connection
	Address     string `yaml:"address"`
	Unit        uint8  `yaml:"unit"`
	Host        string `yaml:"host"`         // where the others reach it; empty: they find it in the house
	Page        string `yaml:"page"`         // host:port
	NetworkPort int    `yaml:"network_port"` // 0: 8602
}

// LoadFounding reads community.yaml strictly. Errors are *ConfigError.
func LoadFounding(path string) (FoundingFile, error) {
	raw, err := readConfig(path)
	if err != nil {
		return FoundingFile{}, err
	}
	return parseFounding(path, raw)
}

func parseFounding(path string, raw []byte) (f FoundingFile, err error) {
	file, err := parser.ParseBytes(raw, 0)
	if err != nil {
		return f, yamlError(path, err)
	}
	if len(file.Docs) > 1 {
		return f, &ConfigError{File: path, Line: line(file.Docs[1].Body), Text: "a second document begins here, want one"}
	}
	for _, doc := range file.Docs {
		if err := checkKeys(doc.Body, reflect.TypeOf(f), "", 0); err != nil {
			err.File = path
			return f, err
		}
	}
	if err := yaml.UnmarshalWithOptions(raw, &f, yaml.Strict()); err != nil {
		return f, yamlError(path, err)
	}
	if _, err := f.Founding(); err != nil {
		if e := (*ConfigError)(nil); errors.As(err, &e) {
			e.File, e.Line = path, lineOf(file, e.Key)
		}
		return f, err
	}
	return f, nil
}

// Founding is what the file says, without folders, meters and the times that are now. The
// error is a *ConfigError that names the key.
func (f *FoundingFile) Founding() (Founding, error) {
	out := Founding{Name: f.Name, Rate: 1}
	bad := func(key, format string, args ...any) (Founding, error) {
		return Founding{}, &ConfigError{Key: key, Text: fmt.Sprintf(format, args...)}
	}
	if f.Name == "" {
		return bad("name", "is missing, want what people call the community")
	}
	var e *ConfigError
	if out.Rules, e = f.Rules.rules(); e != nil {
		return Founding{}, e
	}
	if e := f.Simulation.apply(&out); e != nil {
		return Founding{}, e
	}
	for i, n := range f.Network {
		node := ledger.Node{ID: n.ID, Parent: n.Parent, ImportLimitW: n.ImportLimitW, ExportLimitW: n.ExportLimitW}
		if e := prices(fmt.Sprintf("network[%d].", i), priceField{"import_fee", n.ImportFee, &node.ImportFee}, priceField{"export_fee", n.ExportFee, &node.ExportFee}); e != nil {
			return Founding{}, e
		}
		out.Network = append(out.Network, node)
	}
	for i, text := range f.Officers {
		var k ledger.Key
		if err := k.UnmarshalText([]byte(strings.TrimSpace(text))); err != nil {
			return bad(fmt.Sprintf("officers[%d]", i), "got %.80q, want a public key of 64 hexadecimal digits, as `commonwatt community officer new` prints it", text)
		}
		out.Officers = append(out.Officers, k)
	}
	if f.Operator != "" {
		var k ledger.Key
		if err := k.UnmarshalText([]byte(strings.TrimSpace(f.Operator))); err != nil {
			return bad("operator", "got %.80q, want a public key of 64 hexadecimal digits", f.Operator)
		}
		out.Operators = []ledger.Key{k}
	}
	if len(f.Homes) == 0 {
		return bad("homes", "there is none, want at least one, which keeps the ledger")
	}
	for i, h := range f.Homes {
		key := fmt.Sprintf("homes[%d].", i)
		switch {
		case h.Name == "" || strings.ContainsAny(h.Name, "/\\") || strings.HasPrefix(h.Name, "."):
			return bad(key+"name", "got %q, want the name of a folder", h.Name)
		case slices.ContainsFunc(f.Homes[:i], func(o FoundingHome) bool { return o.Name == h.Name }):
			return bad(key+"name", "%q is there twice", h.Name)
		case h.Node != "" && !slices.ContainsFunc(f.Network, func(n FoundingNode) bool { return n.ID == h.Node }):
			return bad(key+"node", "got %q, want one of the network", h.Node)
		}
		out.Homes = append(out.Homes, Founder{Name: h.Name, Validator: true, Node: h.Node})
	}
	return out, nil
}

func (r FoundingRules) rules() (ledger.Rules, *ConfigError) {
	out := ledger.DefaultRules()
	e := prices("rules.", priceField{"import_price", r.ImportPrice, &out.Tariff.ImportPrice},
		priceField{"export_price", r.ExportPrice, &out.Tariff.ExportPrice}, priceField{"community_fee", r.CommunityFee, &out.CommunityFee})
	if e != nil {
		return out, e
	}
	for _, x := range []struct {
		text string
		into *string
	}{{r.Rule, &out.Rule}, {r.Clearing, &out.Clearing}, {r.Timezone, &out.Timezone}} {
		if x.text != "" {
			*x.into = x.text
		}
	}
	if r.IntervalMinutes != 0 {
		out.IntervalS = 60 * r.IntervalMinutes
		// A short interval has no room for the tolerance of a quarter of an hour.
		out.ReadingToleranceS = max(1, min(out.ReadingToleranceS, out.IntervalS/2))
	}
	if r.GateMinutes != 0 {
		out.LeadS = 60 * r.GateMinutes
	}
	if r.Approvals != 0 {
		out.ApprovalsNeeded = r.Approvals
	}
	return out, nil
}

type priceField struct {
	key, text string
	into      *market.Price
}

// prices reads amounts per kWh such as 0.30; what is left out stays as it is.
func prices(at string, fields ...priceField) *ConfigError {
	const micro, most = 1_000_000, 20
	for _, f := range fields {
		if f.text == "" {
			continue
		}
		r, ok := new(big.Rat), false
		if len(f.text) <= most && !strings.ContainsAny(f.text, "/eExXpP_") {
			r, ok = r.SetString(f.text)
		}
		if ok {
			r.Mul(r, big.NewRat(micro, 1))
		}
		if !ok || !r.IsInt() || !r.Num().IsInt64() || r.Num().Int64() > int64(market.MaxPrice) || r.Num().Int64() < -int64(market.MaxPrice) {
			return &ConfigError{Key: at + f.key, Text: fmt.Sprintf("got %.30q, want an amount per kWh with up to six decimals, such as 0.30", f.text)}
		}
		*f.into = market.Price(r.Num().Int64())
	}
	return nil
}
