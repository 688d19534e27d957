package ledger_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
)

// parseNodes reads ID[<PARENT][:key=value,...] separated by ;. The keys are import_w,
// export_w, import_fee and export_fee.
func parseNodes(text string) ([]ledger.Node, error) {
	var nodes []ledger.Node
	for part := range strings.SplitSeq(text, ";") {
		names, options, _ := strings.Cut(part, ":")
		var n ledger.Node
		n.ID, n.Parent, _ = strings.Cut(names, "<")
		for _, option := range strings.FieldsFunc(options, func(r rune) bool { return r == ',' }) {
			key, value, _ := strings.Cut(option, "=")
			v, err := strconv.ParseInt(value, 10, 64)
			set := map[string]func(){
				"import_w":   func() { n.ImportLimitW = &v },
				"export_w":   func() { n.ExportLimitW = &v },
				"import_fee": func() { n.ImportFee = market.Price(v) },
				"export_fee": func() { n.ExportFee = market.Price(v) },
			}[key]
			if err != nil || set == nil {
				return nil, fmt.Errorf("node option %q", option)
			}
			set()
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

// makeOffice makes the transactions of officers and of the grid operator:
//
//	network +K number=N [set NODES] [remove ID] [officer=I] [approvals=N]
//	rules +K number=N [import=P] [export=P] [fee=P] [metered=1] [floor=W] [interval=S] [islanded=1] [rule NAME] [approvals=N]
//	vote NAME number=N [key=N] [officer=1] [approvals=N]     key: another one than NAME's first; officer: it signs as one
//	unvote NAME number=N [key=N] [founder=1] [approvals=N]   founder: it is no household yet
//	envelope NODE +K[..+M] seq=N [import_w=W] [export_w=W] [lift=1] [operator=I] [officer=1]   officer: with the wrong key
func (s *street) makeOffice(args []string) ([]byte, error) {
	var nodes []ledger.Node
	if i := slices.Index(args, "set"); i > 0 {
		var err error
		if nodes, err = parseNodes(args[i+1]); err != nil {
			return nil, err
		}
		args = slices.Concat(args[:i], args[i+2:])
	}
	options, rest, err := parseOptions(args[1:])
	if err != nil {
		return nil, err
	}
	approvals := 2
	if n, ok := options["approvals"]; ok {
		approvals = int(n)
	}
	switch args[0] {
	case "vote", "unvote":
		return s.vote(args[0] == "unvote", rest, options, approvals), nil
	case "network":
		k, _, err := s.intervals(rest[0])
		if err != nil {
			return nil, err
		}
		d := ledger.SetNetwork{Number: uint64(options["number"]), From: k, Officer: uint64(options["officer"]), Nodes: nodes}
		for i := 1; i+1 < len(rest); i += 2 {
			d.Remove = append(d.Remove, rest[i+1]) // after the word remove
		}
		return s.Network(d, approvals), nil
	case "rules":
		return s.rules(options, rest, approvals)
	default:
		from, to, err := s.intervals(rest[1])
		if err != nil {
			return nil, err
		}
		e := ledger.Envelope{Seq: uint64(options["seq"]), Node: rest[0], From: from, Until: to + 1, Lift: options["lift"] == 1, Reason: "feeder at its limit"}
		for key, limit := range map[string]**int64{"import_w": &e.ImportW, "export_w": &e.ExportW} {
			if w, ok := options[key]; ok {
				*limit = new(w)
			}
		}
		key := s.Operator
		if options["officer"] == 1 {
			key = s.Officers[0]
		}
		set := ledger.SetEnvelope{Operator: uint64(options["operator"]), Envelope: e}
		return set.Sign(ledgertest.ChainID, key), nil
	}
}

func (s *street) vote(remove bool, rest []string, options map[string]int64, approvals int) []byte {
	h, number := s.home(rest[0]), uint64(options["number"])
	key := h.Validator
	if n := options["key"]; n != 0 {
		key = ledgertest.Key(fmt.Sprintf("%s/validator/%d", h.Name, n))
	}
	switch {
	case options["officer"] != 0:
		key = s.Officers[0]
	case remove && options["founder"] != 0: // that is no household yet
		return s.Unvote(market.HouseholdID{}, number, ledgertest.Public(key), approvals)
	case remove:
		return s.Unvote(h.ID, number, ledgertest.Public(key), approvals)
	}
	return s.Vote(h, number, key, approvals)
}

func (s *street) rules(options map[string]int64, rest []string, approvals int) ([]byte, error) {
	k, _, err := s.intervals(rest[0])
	if err != nil {
		return nil, err
	}
	r := s.state.Rules()
	if r.Tariff != nil {
		t := *r.Tariff
		r.Tariff = &t
	}
	for key, v := range options {
		set := map[string]func(){
			"number": func() {}, "approvals": func() {},
			"import":   func() { r.Tariff.ImportPrice = market.Price(v) },
			"export":   func() { r.Tariff.ExportPrice = market.Price(v) },
			"fee":      func() { r.CommunityFee = market.Price(v) },
			"floor":    func() { r.ImportFloorW = v },
			"interval": func() { r.IntervalS = v },
			"metered":  func() { r.Clearing = ledger.ClearingMetered },
			"islanded": func() { r.Tariff = nil },
		}[key]
		if set == nil {
			return nil, fmt.Errorf("unknown rule %q", key)
		}
		set()
	}
	if i := slices.Index(rest, "rule"); i > 0 {
		r.Rule = rest[i+1]
	}
	return s.Decide(ledger.SetRules{Number: uint64(options["number"]), From: k, Rules: r}, approvals), nil
}

// makeMember makes what a household sends with the approval of officers.
func (s *street) makeMember(kind string, h *ledgertest.Home, rest []string, options map[string]int64, approvals int) ([]byte, error) {
	if kind == "move" {
		m := ledger.SetMembership{Seq: uint64(options["seq"]), Node: rest[0], ShareKey: options["key"]}
		for _, part := range rest[1:] {
			community, permille, _ := strings.Cut(part, ":")
			n, err := strconv.ParseUint(permille, 10, 16)
			if err != nil {
				return nil, err
			}
			m.Participation = append(m.Participation, ledger.Participation{Community: community, Permille: uint16(n)})
		}
		return s.Move(h, m, approvals), nil
	}
	k, _, err := s.intervals(rest[0])
	if err != nil {
		return nil, err
	}
	history := s.history
	if n, ok := options["proof"]; ok && n == 0 {
		history = nil
	}
	return s.Correct(h, ledger.CorrectReport{
		Interval: k, Version: uint32(options["version"]), Reason: "meter exchanged",
		Import: market.WattHours(options["import"]), Export: market.WattHours(options["export"]),
	}, history, approvals), nil
}

func meteredText(metered bool, rule ledger.RuleCode) string {
	text := ""
	if metered {
		text = "metered, "
	}
	if rule.String() != market.RuleUniform {
		text += rule.String() + ", "
	}
	return text
}

func monthText(m ledger.Month) string {
	net, err := m.Net()
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s: %d lines, bought %d sold %d import %d export %d, market %d supplier %d cooperative %d, net %d, alone %d",
		m.Month, m.Lines, m.Bought, m.Sold, m.Import, m.Export, m.Market, m.Supplier, m.Cooperative, net, m.Alone)
}

func limitText(w *int64) string {
	if w == nil {
		return "unlimited"
	}
	return fmt.Sprintf("%d W", *w)
}

func byText(e *ledger.Envelope) string {
	if e == nil {
		return "the node's own"
	}
	return fmt.Sprintf("envelope %d", e.Seq)
}
