package ledger_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
)

// street is a community as scripts speak of it: homes have names, Intervals are
// counted from the first gate (+0).
type street struct {
	*ledgertest.Community
	state   *ledger.State
	homes   map[string]*ledgertest.Home
	counted map[string]map[market.Interval][2]uint64
	old     map[string]ed25519.PrivateKey // of meters that were replaced
	history []ledger.Event
	height  byte
}

func newStreet(change func(*ledger.Rules), nodes ...ledger.Node) *street {
	rules := ledger.DefaultRules()
	if change != nil {
		change(&rules)
	}
	c := ledgertest.New(rules, nodes...)
	return &street{Community: c, state: c.State(), homes: map[string]*ledgertest.Home{}, counted: map[string]map[market.Interval][2]uint64{}, old: map[string]ed25519.PrivateKey{}}
}

// run does one step of a script:
//
//	community [deadline=S] [window=S] [ahead=N] [fee=P] [credit=M] [islanded=1] [metered=1] [floor=W]
//	          [rule=NAME] [network=NODES]   begins anew; for NODES see parseNodes
//	count      each line NAME +K import=WH export=WH: what meters count
//	block      each line a transaction (see tx): applies them as one block. Also: "signed by
//	           NAMES", who signed the block before; "proves fault of NAMES"
//	check      each line a transaction: what CheckTx says, nothing is applied
//	show       each line balances, intervals, interval +K, household NAME, meter NAME, limit NODE +K
func (s *street) run(args, input []string) (string, error) {
	out := &strings.Builder{}
	switch args[0] {
	case "community":
		if err := s.begin(args[1:]); err != nil {
			return "", err
		}
		hash := s.state.AppHash()
		fmt.Fprintf(out, "app hash %x\n", hash[:6])
	case "count":
		for _, line := range input {
			if err := s.count(strings.Fields(line)); err != nil {
				return "", fmt.Errorf("%s: %w", line, err)
			}
		}
	case "check":
		for _, line := range input {
			raw, err := s.tx(strings.Fields(line))
			if err != nil {
				return "", fmt.Errorf("%s: %w", line, err)
			}
			fmt.Fprintf(out, "%s\n", s.words(verdict(s.state, raw)))
		}
	case "block":
		if err := s.block(out, input); err != nil {
			return "", err
		}
	case "show":
		for _, line := range input {
			if err := s.show(out, strings.Fields(line)); err != nil {
				return "", fmt.Errorf("%s: %w", line, err)
			}
		}
	default:
		return "", fmt.Errorf("unknown command %q", args[0])
	}
	return out.String(), nil
}

func verdict(state *ledger.State, raw []byte) string {
	tx, err := ledger.DecodeTx(raw)
	if err == nil {
		err = state.CheckTx(tx)
	}
	if err != nil {
		return err.Error()
	}
	return tx.Kind().String() + ": ok"
}

func (s *street) begin(args []string) error {
	var bad error
	var nodes []ledger.Node
	var rest []string
	rule := market.RuleUniform
	for _, arg := range args {
		if text, ok := strings.CutPrefix(arg, "network="); ok {
			if nodes, bad = parseNodes(text); bad != nil {
				return bad
			}
		} else if text, ok := strings.CutPrefix(arg, "rule="); ok {
			rule = text
		} else {
			rest = append(rest, arg)
		}
	}
	next := newStreet(func(r *ledger.Rules) {
		r.Rule = rule
		for _, arg := range rest {
			key, value, _ := strings.Cut(arg, "=")
			n, err := strconv.ParseInt(value, 10, 64)
			set := map[string]func(){
				"deadline": func() { r.ReportDeadlineS = n },
				"window":   func() { r.CorrectionWindowS = n },
				"ahead":    func() { r.MaxAhead = n },
				"fee":      func() { r.CommunityFee = market.Price(n) },
				"credit":   func() { r.CreditLimit = market.Money(n) },
				"islanded": func() { r.Tariff = nil },
				"metered":  func() { r.Clearing = ledger.ClearingMetered },
				"floor":    func() { r.ImportFloorW = n },
			}[key]
			if err != nil || set == nil {
				bad = fmt.Errorf("unknown argument %q", arg)
				return
			}
			set()
		}
	}, nodes...)
	*s = *next
	return bad
}

// home returns the home of a name, made when it is first spoken of.
func (s *street) home(name string) *ledgertest.Home {
	if h, ok := s.homes[name]; ok {
		return h
	}
	h := ledgertest.NewHome(name)
	s.homes[name], s.counted[name] = h, map[market.Interval][2]uint64{}
	h.Counters = func(k market.Interval) (imported, exported uint64) {
		for i, wh := range s.counted[name] {
			if i < k {
				imported, exported = imported+wh[0], exported+wh[1]
			}
		}
		return imported, exported
	}
	return h
}

func (s *street) count(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("want NAME +K import=WH export=WH")
	}
	s.home(args[0])
	k, _, err := s.intervals(args[1])
	if err != nil {
		return err
	}
	imported, err1 := strconv.ParseUint(strings.TrimPrefix(args[2], "import="), 10, 64)
	exported, err2 := strconv.ParseUint(strings.TrimPrefix(args[3], "export="), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	s.counted[args[0]][k] = [2]uint64{imported, exported}
	return nil
}

// intervals reads +K or +K..+M; -K is before the first gate.
func (s *street) intervals(text string) (from, to market.Interval, err error) {
	a, b, span := strings.Cut(text, "..")
	if !span {
		b = a
	}
	i, err := strconv.ParseInt(a, 10, 64)
	if err != nil {
		return 0, 0, err
	}
	j, err := strconv.ParseInt(b, 10, 64)
	return s.First + market.Interval(i), s.First + market.Interval(j), err
}

func (s *street) block(out *strings.Builder, input []string) error {
	s.height++
	b := ledger.Block{Seed: [32]byte{s.height}}
	for _, line := range input {
		if names, ok := strings.CutPrefix(line, "signed by "); ok {
			b.Signed = s.addresses(names)
			continue
		}
		if names, ok := strings.CutPrefix(line, "proves fault of "); ok {
			b.Faulty = s.addresses(names)
			continue
		}
		raw, err := s.tx(strings.Fields(line))
		if err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		b.Txs = append(b.Txs, raw)
	}
	delta, receipts, err := ledger.Apply(s.state, b)
	if err != nil {
		return err
	}
	for _, r := range receipts {
		if r.Refusal != nil {
			fmt.Fprintf(out, "%s: %s\n", r.Kind, s.words(r.Refusal.Error()))
		} else {
			fmt.Fprintf(out, "%s: ok\n", r.Kind)
		}
	}
	s.state.Absorb(delta)
	if err := recordsGiven(s.state); err != nil {
		return err
	}
	s.history = append(s.history, delta.History...)
	for _, e := range delta.History {
		out.WriteString(s.event(e))
	}
	for _, r := range delta.Records {
		if r.Value == nil {
			fmt.Fprintf(out, "forgotten: %s\n", s.words(ledger.KeyText(r.Key)))
		}
	}
	for _, v := range delta.Validators {
		fmt.Fprintf(out, "update: %s power %d\n", s.words(v.Key.String()), v.Power)
	}
	hash := delta.AppHash()
	fmt.Fprintf(out, "next +%d, app hash %x\n", s.state.Next()-s.First, hash[:6])
	for _, err := range s.state.Audit() {
		return fmt.Errorf("after the block: %w", err)
	}
	return nil
}

// addresses are those of the homes' first validator keys.
func (s *street) addresses(names string) []ledger.ValidatorAddress {
	var all []ledger.ValidatorAddress
	for name := range strings.FieldsSeq(names) {
		all = append(all, ledger.AddressOf(ledgertest.Public(s.home(name).Validator)))
	}
	return all
}

func (s *street) event(e ledger.Event) string {
	var b strings.Builder
	var ts []market.Transfer
	switch r, h := e.Result, e.Settlement; {
	case r != nil:
		fmt.Fprintf(&b, "market #%d, +%d: %sprice %d, bought %d, grid import %d export %d, welfare %d, households %d\n",
			r.Number, r.Interval-s.First, meteredText(r.Metered, r.Rule), r.Price, r.Bought, r.GridImport, r.GridExport, r.Welfare, r.Households)
		if len(r.Nodes) > 1 {
			for _, n := range r.Nodes {
				fmt.Fprintf(&b, "  node %s: price %d, flow %d\n", n.Node, n.Price, n.Flow)
			}
		}
		ts = ledger.Transfers(r.Interval, r.Moves, "")
	case h != nil:
		fmt.Fprintf(&b, "%s #%d, +%d version %d: bought %d sold %d at %d, import %d export %d, %s, alone %d\n", s.words(h.Household.String()), h.Number,
			h.Interval-s.First, h.Version, h.Bought, h.Sold, h.Price, h.Import, h.Export, h.Quality, h.Alone)
		ts = ledger.Transfers(h.Interval, h.Moves, market.HouseholdAccount(h.Household))
	default:
		fmt.Fprintf(&b, "%s closes %s\n", s.words(e.Month.Household.String()), monthText(e.Month.Month))
	}
	for _, t := range ts {
		fmt.Fprintf(&b, "  %d from %s to %s: %s\n", t.Amount, s.words(string(t.Debit)), s.words(string(t.Credit)), t.Kind)
	}
	return b.String()
}

func (s *street) show(out *strings.Builder, args []string) error {
	switch args[0] {
	case "balances":
		var lines []string
		for a, m := range s.state.Accounts() {
			lines = append(lines, fmt.Sprintf("%s %d", s.words(string(a)), m))
		}
		slices.Sort(lines)
		fmt.Fprintln(out, strings.Join(lines, "\n"))
	case "validators":
		for _, v := range s.state.Validators() {
			fmt.Fprintf(out, "%s of %s, fault %d\n", s.words(v.Key.String()), s.words(v.Household.String()), s.state.FaultOf(v.Key))
		}
	case "intervals":
		for _, k := range s.state.Intervals() {
			r, _ := s.state.Interval(k)
			fmt.Fprintf(out, "+%d %s, %d entries\n", k-s.First, r.State, len(r.Entries))
		}
	case "interval":
		k, _, err := s.intervals(args[1])
		if err != nil {
			return err
		}
		r, ok := s.state.Interval(k)
		if !ok {
			fmt.Fprintln(out, "none")
			return nil
		}
		fmt.Fprintf(out, "%s, %sprices %v, grid import %d export %d, welfare %d\n", r.State, meteredText(r.Metered, r.Rule), r.Prices, r.GridImport, r.GridExport, r.Welfare)
		for _, e := range r.Entries {
			fmt.Fprintf(out, "%s: bid %d %v offer %d %v bought %d for %d sold %d for %d, import %d export %d %s\n", s.words(e.Household.String()),
				e.BidSeq, stepsText(e.Bid), e.OfferSeq, stepsText(e.Offer), e.Bought, e.Buy, e.Sold, e.Sell, e.Import, e.Export, e.Quality)
		}
	case "household":
		h, ok := s.state.Household(s.home(args[1]).ID)
		if !ok {
			fmt.Fprintln(out, "none")
			return nil
		}
		p, _ := s.state.PreferenceAt(s.state.Next(), s.home(args[1]).ID)
		fmt.Fprintf(out, "node %s, meter %v, preference %d: min_sell %d max_buy %d, balance %d, settled %d\n",
			h.Node, h.HasMeter, h.PreferenceSeq, p.MinSell, p.MaxBuy, h.Balance, h.Settled)
		if h.DeviceSeq > 0 || h.Left > 0 {
			own := s.home(args[1])
			fmt.Fprintf(out, "gateway %d, ours %v, member %v, left with %+d\n", h.DeviceSeq, h.Device == ledgertest.Public(own.Device),
				s.state.IsMember(ledgertest.Public(own.Network).Public()), max(h.Left-s.First, -1))
		}
		for _, x := range h.Participation {
			fmt.Fprintf(out, "takes part in %s with %d per mille\n", x.Community, x.Permille)
		}
		for _, m := range h.Months {
			fmt.Fprintln(out, monthText(m))
		}
		if h.Closed > 0 {
			fmt.Fprintf(out, "%d months closed\n", h.Closed)
		}
	case "meter":
		m, ok := s.state.Meter(ledger.MeterIDOf(ledgertest.Public(s.home(args[1]).Meter)))
		if !ok {
			fmt.Fprintln(out, "none")
			return nil
		}
		fmt.Fprintf(out, "of %s, signed by %s, %s, from +%d, last %+d\n", s.words(m.Household.String()), m.SignedBy, m.Definition, m.From-s.First, m.Last-s.First)
		for _, g := range m.Gaps {
			fmt.Fprintf(out, "gap +%d to +%d, start known %v, end known %v\n", g.From-s.First, g.To-s.First, g.Start != [32]byte{}, g.End != [32]byte{})
		}
		if m.EpochKnown && m.Epoch > 0 {
			fmt.Fprintf(out, "epoch %d from %+d\n", m.Epoch, m.EpochFrom-s.First)
		}
	case "limit":
		k, _, err := s.intervals(args[2])
		if err != nil {
			return err
		}
		l := s.state.LimitAt(k, args[1])
		fmt.Fprintf(out, "import %s by %s, export %s by %s\n", limitText(l.ImportW), byText(l.ImportBy), limitText(l.ExportW), byText(l.ExportBy))
	default:
		return fmt.Errorf("unknown thing")
	}
	return nil
}

func stepsText(steps []ledger.Step) string {
	var parts []string
	for _, s := range steps {
		parts = append(parts, fmt.Sprintf("%dx%d", s.Price, s.WattHours))
	}
	return "[" + strings.Join(parts, " ") + "]"
}

var digits = regexp.MustCompile(`\b\d{5,}\b`)

// words puts names for keys and ids, and +K for Intervals.
func (s *street) words(text string) string {
	text = strings.ReplaceAll(text, "household/", "")
	for _, name := range slices.Sorted(maps.Keys(s.homes)) {
		h := s.homes[name]
		text = strings.NewReplacer(
			h.ID.String(), name,
			ledgertest.Public(h.Validator).String(), name+"'s validator",
			ledgertest.Public(ledgertest.Key(name+"/validator/2")).String(), name+"'s validator 2",
			ledgertest.Public(h.Device).String(), name+"'s device",
			ledgertest.Public(h.Household).String(), name+"'s household key",
			ledger.MeterIDOf(ledgertest.Public(h.Meter)).String(), name+"'s meter",
		).Replace(text)
	}
	return digits.ReplaceAllStringFunc(text, func(d string) string {
		if n, err := strconv.ParseInt(d, 10, 64); err == nil && n >= int64(s.First)-1000 && n < int64(s.First)+100_000 {
			return fmt.Sprintf("%+d", n-int64(s.First))
		}
		return d
	})
}
