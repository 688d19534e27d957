package ledger_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
)

// TestTraffic says whether the histories of the property tests are worth anything:
// in a long one everything happens.
func TestTraffic(t *testing.T) {
	c := ledgertest.New(shortRules())
	r := newReplica(t, c.Genesis)
	traffic := ledgertest.NewTraffic(c, r.state, 5, rand.New(rand.NewPCG(1, 3)))
	seen := map[string]int{}
	for range 500 {
		d, receipts := r.apply(t, traffic.Block())
		traffic.Note(d)
		for _, receipt := range receipts {
			seen[receipt.Kind.String()+" "+receipt.Code().String()]++
		}
		for _, e := range d.History {
			if s := e.Settlement; s != nil {
				seen[s.Quality.String()]++
				seen[fmt.Sprintf("version %d", s.Version)]++
				if s.Bought > 0 && s.Sold > 0 {
					seen["both sides"]++
				}
			}
		}
	}
	for _, kind := range ledger.Kinds() {
		if seen[kind.String()+" ok"] == 0 {
			t.Errorf("no %s was applied", kind)
		}
	}
	for _, want := range []string{
		"good", "estimated", "substitute", "version 1", "version 2", "order gate-closed", "order crossed-with-own-order", "order sequence-used",
		"order credit-limit", "report already-reported", "report bad-reading", "report not-cleared", "report window-closed",
		"household not-approved", "unknown malformed", "order bad-signature",
	} {
		if seen[want] == 0 {
			t.Errorf("never seen: %s", want)
		}
	}
	if t.Failed() {
		t.Log(seen)
	}
}

func lively(tb testing.TB, blocks int) (*ledgertest.Community, *replica) {
	tb.Helper()
	c := ledgertest.New(shortRules())
	r := newReplica(tb, c.Genesis)
	traffic := ledgertest.NewTraffic(c, r.state, 5, rand.New(rand.NewPCG(3, 4)))
	for range blocks {
		d, _ := r.apply(tb, traffic.Block())
		traffic.Note(d)
	}
	return c, r
}

// TestEmptyBlock (L5): a block in which nothing happens changes nothing.
func TestEmptyBlock(t *testing.T) {
	_, r := lively(t, 30)
	before := r.state.AppHash()
	d, receipts := r.apply(t, ledger.Block{Seed: [32]byte{1}, Txs: [][]byte{[]byte("garbage")}})
	if len(d.Records) != 0 || len(d.History) != 0 || d.AppHash() != before || receipts[0].Code() != ledger.CodeMalformed {
		t.Errorf("got %d records, %d lines of history, AppHash %x (was %x), %v", len(d.Records), len(d.History), d.AppHash(), before, receipts)
	}
	if receipts[0].Hash == [32]byte{} {
		t.Error("the receipt of garbage has no hash")
	}
}

// TestAppHashCommits: a change of one bit in any record is another AppHash, or refused.
func TestAppHashCommits(t *testing.T) {
	_, r := lively(t, 60)
	want := r.state.AppHash()
	changed := 0
	for key, value := range r.disk {
		for _, at := range []int{0, len(value) / 2, len(value) - 1} {
			bent := maps.Clone(r.disk)
			bent[key] = append([]byte(nil), value...)
			bent[key][at] ^= 1
			s, err := load(r.genesis, bent)
			if err == nil && s.AppHash() == want {
				t.Errorf("%s: byte %d does not count", ledger.KeyText(key), at)
			}
			changed++
		}
		missing := maps.Clone(r.disk)
		delete(missing, key)
		if s, err := load(r.genesis, missing); err == nil && s.AppHash() == want {
			t.Errorf("%s does not count", ledger.KeyText(key))
		}
	}
	if changed < 50 {
		t.Errorf("only %d changes tried", changed)
	}
}

func load(g ledger.Genesis, records map[string][]byte) (*ledger.State, error) {
	return ledger.LoadState(ledgertest.ChainID, g, maps.All(records))
}

// TestLoadStateRefuses: what was never written is named.
func TestLoadStateRefuses(t *testing.T) {
	c, r := lively(t, 40)
	var household, interval string
	for key := range r.disk {
		switch key[0] {
		case 'h':
			household = key
		case 'i':
			interval = key
		}
	}
	other := c.Genesis
	other.Rules.CommunityFee++
	for name, test := range map[string]struct {
		genesis ledger.Genesis
		change  func(map[string][]byte)
		want    string
	}{
		"other rules":        {other, func(map[string][]byte) {}, "record genesis: the ledger was founded with another genesis"},
		"no clock":           {c.Genesis, func(m map[string][]byte) { delete(m, "c") }, "record clock: missing"},
		"no genesis":         {c.Genesis, func(m map[string][]byte) { delete(m, "g") }, "record genesis: missing"},
		"nothing":            {c.Genesis, func(m map[string][]byte) { clear(m) }, "record clock: missing"},
		"empty key":          {c.Genesis, func(m map[string][]byte) { m[""] = nil }, "record empty key: empty key"},
		"unknown type":       {c.Genesis, func(m map[string][]byte) { m["x1"] = nil }, "record unknown record 7831: unknown type 'x'"},
		"long clock key":     {c.Genesis, func(m map[string][]byte) { m["c1"] = m["c"] }, "record clock: key has 2 bytes"},
		"foreign household":  {c.Genesis, func(m map[string][]byte) { m["h"+strings.Repeat("0", 16)] = m[household] }, "holds the key of household"},
		"short interval key": {c.Genesis, func(m map[string][]byte) { m["i1"] = m[interval] }, "interval key has 1 bytes"},
		"far interval":       {c.Genesis, func(m map[string][]byte) { m["i\xff\xff\xff\xff\xff\xff\xff\xff"] = m[interval] }, "want at most 1099511627776"},
		"household account":  {c.Genesis, func(m map[string][]byte) { m["ahousehold/"+strings.Repeat("0", 32)] = []byte{0} }, "in its own record"},
		"not canonical":      {c.Genesis, func(m map[string][]byte) { m["amarket"] = []byte{0x18, 0x00} }, "record account market: bytes are not in canonical form"},
	} {
		t.Run(name, func(t *testing.T) {
			records := maps.Clone(r.disk)
			test.change(records)
			_, err := load(test.genesis, records)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if name == "other rules" && !errors.Is(err, ledger.ErrOtherGenesis) {
				t.Errorf("%v is not ErrOtherGenesis", err)
			}
		})
	}
}

// TestAudit sees to it that Audit can find something.
func TestAudit(t *testing.T) {
	_, r := lively(t, 60)
	s, err := load(r.genesis, r.disk)
	if err != nil {
		t.Fatal(err)
	}
	if bad := s.Audit(); bad != nil {
		t.Errorf("of a good state: %v", bad)
	}
	bent := maps.Clone(r.disk)
	bent["acooperative"] = []byte{0x01}
	bent["amarket"] = []byte{0x01}
	if s, err = load(r.genesis, bent); err != nil {
		t.Fatal(err)
	}
	if bad := s.Audit(); len(bad) != 2 {
		t.Errorf("got %v, want the sum and the market account", bad)
	}
}

// TestAbsorb: a delta goes into the state that it was made of, once.
func TestAbsorb(t *testing.T) {
	c := ledgertest.New(ledger.DefaultRules())
	s, other := c.State(), c.State()
	block := ledger.Block{Txs: [][]byte{c.Join(ledgertest.NewHome("A"), 2)}}
	d, _, err := ledger.Apply(s, block)
	if err != nil {
		t.Fatal(err)
	}
	stale, _, err := ledger.Apply(s, ledger.Block{Txs: [][]byte{c.Join(ledgertest.NewHome("B"), 2)}})
	if err != nil {
		t.Fatal(err)
	}
	s.Absorb(d)
	for name, f := range map[string]func(){"twice": func() { s.Absorb(d) }, "stale": func() { s.Absorb(stale) }} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
	d, _, err = ledger.Apply(other, block)
	if err != nil {
		t.Fatal(err)
	}
	other.Absorb(d)
	if s.AppHash() != other.AppHash() {
		t.Errorf("AppHash %x and %x", s.AppHash(), other.AppHash())
	}
}

// TestMembers: founders and households may connect.
func TestMembers(t *testing.T) {
	c := ledgertest.New(ledger.DefaultRules())
	founder, home := ledgertest.Key("founder"), ledgertest.NewHome("A")
	c.Genesis.Founders = append(c.Genesis.Founders, ledgertest.Public(founder))
	r := newReplica(t, c.Genesis)
	founderKey, homeKey := ledgertest.Public(founder), ledgertest.Public(home.Network)
	if !r.state.IsMember(founderKey.Public()) || r.state.IsMember(homeKey.Public()) || r.state.IsMember(nil) {
		t.Error("want the founder alone")
	}
	r.must(t, ledger.Block{Txs: [][]byte{c.Join(home, 2)}})
	r.restart(t)
	if !r.state.IsMember(founderKey.Public()) || !r.state.IsMember(homeKey.Public()) {
		t.Error("want the founder and the household")
	}
}

// TestTickOfManyGates: a tick after a long outage closes what a block can carry, and
// the next tick goes on from there.
func TestTickOfManyGates(t *testing.T) {
	c := ledgertest.New(ledger.DefaultRules())
	r := newReplica(t, c.Genesis)
	var b ledger.Block
	for i := range 20 {
		h := ledgertest.NewHome(fmt.Sprintf("home/%d", i))
		b.Txs = append(b.Txs, c.Join(h, 2), c.Install(h, 2))
	}
	r.must(t, b)
	to := c.First + ledger.MaxTickSpan - 1
	r.must(t, ledger.Block{Txs: [][]byte{ledger.NewTick(c.First, to, c.First)}})
	if got, want := r.state.Next()-c.First, market.Interval(65536/20); got != want {
		t.Errorf("closed %d gates, want %d", got, want)
	}
	ticks := 1
	for ; r.state.Next() <= to; ticks++ {
		r.must(t, ledger.Block{Txs: [][]byte{ledger.NewTick(r.state.Next(), to, r.state.Next())}})
		r.restart(t)
	}
	if ticks != 4 {
		t.Errorf("took %d ticks, want 4", ticks)
	}
	for _, err := range r.state.Audit() {
		t.Error(err)
	}
}

// TestGenesisValidate names what is wrong.
func TestGenesisValidate(t *testing.T) {
	for want, change := range map[string]func(*ledger.Genesis){
		"":                                  func(*ledger.Genesis) {},
		"name: got 0 bytes":                 func(g *ledger.Genesis) { g.Name = "" },
		"name: got 51 bytes":                func(g *ledger.Genesis) { g.Name = strings.Repeat("x", 51) },
		"name: got \"a\\nb\"":               func(g *ledger.Genesis) { g.Name = "a\nb" },
		"epoch: got 1969":                   func(g *ledger.Genesis) { g.Epoch = time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC) },
		"epoch: got 10000":                  func(g *ledger.Genesis) { g.Epoch = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"rate: ":                            func(g *ledger.Genesis) { g.Name, g.Rate = "real", 2 },
		"validators[2].key: is all zero":    func(g *ledger.Genesis) { g.Validators = append(g.Validators, ledger.GenesisValidator{}) },
		"validators: got 33":                func(g *ledger.Genesis) { g.Validators = make([]ledger.GenesisValidator, 33) },
		"validators[1].key: ":               func(g *ledger.Genesis) { g.Validators[1].Key = g.Validators[0].Key },
		"validators[1].network: ":           func(g *ledger.Genesis) { g.Validators[1].Network = g.Validators[0].Network },
		"validators[0].network: ":           func(g *ledger.Genesis) { g.Founders = nil },
		"validators[0].key: ":               func(g *ledger.Genesis) { g.Validators[0].Key = g.Officers[0] },
		"officers: [3]: key":                func(g *ledger.Genesis) { g.Officers = append(g.Officers, g.Officers[0]) },
		"rules.approvals_needed: got 2":     func(g *ledger.Genesis) { g.Officers = g.Officers[:1] },
		"rules.approvals_needed: got 0":     func(g *ledger.Genesis) { g.Rules.ApprovalsNeeded = 0 },
		"founders: [1]":                     func(g *ledger.Genesis) { g.Founders = make([]ledger.Key, 2) },
		"founders: got 1025":                func(g *ledger.Genesis) { g.Founders = make([]ledger.Key, 1025) },
		"rules.rule: got \"fastest\"":       func(g *ledger.Genesis) { g.Rules.Rule = "fastest" },
		"rules.rule: got \"mcafee\", want":  func(g *ledger.Genesis) { g.Rules.Rule, g.Network = market.RuleMcAfee, ledgertest.Feeders() },
		"rules.clearing":                    func(g *ledger.Genesis) { g.Rules.Clearing = "later" },
		"rules.rent_to":                     func(g *ledger.Genesis) { g.Rules.RentTo = "me" },
		"rules.import_floor_w":              func(g *ledger.Genesis) { g.Rules.ImportFloorW = -1 },
		"rules.timezone":                    func(g *ledger.Genesis) { g.Rules.Timezone = "Europe/Amsterdam" },
		"rules.sharing_price: got none":     func(g *ledger.Genesis) { g.Rules.Rule, g.Rules.Tariff = market.RuleSharing, nil },
		"rules.sharing_price: got 9":        func(g *ledger.Genesis) { g.Rules.SharingPrice = new(market.Price(9_000_000)) },
		"rules.island_tariff: got one":      func(g *ledger.Genesis) { g.Rules.IslandTariff = &ledger.Tariff{} },
		"rules.island_tariff: grid":         func(g *ledger.Genesis) { g.Rules.Tariff, g.Rules.IslandTariff = nil, &ledger.Tariff{ExportPrice: 1} },
		"network: node":                     func(g *ledger.Genesis) { g.Network = append(ledgertest.Feeders(), ledger.Node{ID: "x", Parent: "y"}) },
		"operators: [1]":                    func(g *ledger.Genesis) { g.Operators = append(g.Operators, g.Operators[0]) },
		"operators: key":                    func(g *ledger.Genesis) { g.Operators = append(g.Operators, g.Officers[0]) },
		"rules.interval_s: got 36028797018": func(g *ledger.Genesis) { g.Rules.IntervalS = 900 + 1<<55 },
		"rules.interval_s, lead_s":          func(g *ledger.Genesis) { g.Rules.IntervalS = 100 },
		"rules.lead_s":                      func(g *ledger.Genesis) { g.Rules.LeadS = -1 },
		"rules.max_ahead":                   func(g *ledger.Genesis) { g.Rules.MaxAhead = 0 },
		"rules.report_deadline_s":           func(g *ledger.Genesis) { g.Rules.CorrectionWindowS = 1 << 40 },
		"rules.reading_tolerance_s":         func(g *ledger.Genesis) { g.Rules.ReadingToleranceS = 900 },
		"rules.price_min":                   func(g *ledger.Genesis) { g.Rules.PriceMin = -market.MaxPrice - 1 },
		"rules.max_wh: got 0":               func(g *ledger.Genesis) { g.Rules.MaxWattHours = 0 },
		"rules.max_wh: got 1099511627776":   func(g *ledger.Genesis) { g.Rules.MaxWattHours = 1 << 40 },
		"rules.community_fee":               func(g *ledger.Genesis) { g.Rules.CommunityFee = -1 },
		"rules.credit_limit":                func(g *ledger.Genesis) { g.Rules.CreditLimit = -1 },
		"rules.tariff: grid":                func(g *ledger.Genesis) { g.Rules.Tariff = &ledger.Tariff{ImportPrice: 1, ExportPrice: 2} },
		"rules.tariff: got 80000 to 300000": func(g *ledger.Genesis) { g.Rules.PriceMax = 200_000 },
	} {
		g := ledgertest.New(ledger.DefaultRules()).Genesis
		change(&g)
		err := g.Validate()
		if (err == nil) != (want == "") || err != nil && !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if _, stateErr := ledger.NewState(ledgertest.ChainID, g); (stateErr == nil) != (err == nil) {
			t.Errorf("NewState says %v, Validate %v", stateErr, err)
		}
	}
	if _, err := ledger.NewState("a\x00b", ledgertest.New(ledger.DefaultRules()).Genesis); err == nil {
		t.Error("a chain id with a zero byte was taken")
	}
}
