package ledger_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/ledger/ledgertest"
)

// tx makes the transaction that a line of a script describes:
//
//	join NAME [approvals=N]
//	meter NAME [approvals=N]
//	prefer NAME seq=N min_sell=P max_buy=P
//	order NAME +K bid|offer seq=N [PRICExWH ...]
//	withdraw NAME +K bid|offer seq=N
//	report NAME +K[..+M] [late=MS] [skip=WH] [doubt=BITS] [epoch=N] [old=1]   skip: the counters begin that much higher
//	replace NAME +K epoch=N [key=1] [approvals=N]   key: by a meter of another key; old: the report is of the first
//	move NAME NODE seq=N [key=N] [COMMUNITY:PERMILLE ...] [approvals=N]
//	device NAME seq=N [revoke=1] [use=1] [mixed=1]   use: from here on; NAME-old has the keys before; mixed: the old network key
//	leave NAME +K [by=1|2|3] [approvals=N]   by its device, its cold key, officers
//	correct NAME +K version=N import=WH export=WH [proof=0] [approvals=N]
//	tick +K[..+M] [begun=N]   N of them came after their delivery began
//
// and those of offices, see makeOffice.
//
//	bytes TEXT
//
// A line that ends in "forged" has its last byte changed; in "as NAME", the device of
// another home signs it.
func (s *street) tx(args []string) ([]byte, error) {
	forged := args[len(args)-1] == "forged"
	if forged {
		args = args[:len(args)-1]
	}
	raw, err := s.make(args)
	if err == nil && forged {
		raw[len(raw)-1] ^= 1
	}
	return raw, err
}

func (s *street) make(args []string) ([]byte, error) {
	switch args[0] {
	case "bytes":
		return []byte(args[1]), nil
	case "tick":
		from, to, err := s.intervals(args[1])
		begun := from
		if len(args) > 2 {
			n, bad := strconv.ParseInt(strings.TrimPrefix(args[2], "begun="), 10, 64)
			begun, err = begun+market.Interval(n), errors.Join(err, bad)
		}
		return ledger.NewTick(from, to, begun), err
	case "network", "rules", "envelope", "vote", "unvote":
		return s.makeOffice(args)
	}
	if len(args) < 2 {
		return nil, fmt.Errorf("want the name of a home")
	}
	h := s.home(args[1])
	if n := len(args); n > 3 && args[n-2] == "as" {
		other := *h
		other.Device = s.home(args[n-1]).Device
		h, args = &other, args[:n-2]
	}
	options, rest, err := parseOptions(args[2:])
	if err != nil {
		return nil, err
	}
	approvals := s.Genesis.Rules.ApprovalsNeeded
	if n, ok := options["approvals"]; ok {
		approvals = int(n)
	}
	switch args[0] {
	case "join":
		return s.Join(h, approvals), nil
	case "meter":
		return s.Install(h, approvals), nil
	case "replace":
		return s.replace(h, rest, options, approvals)
	case "device":
		return s.device(h, options), nil
	case "leave":
		k, _, err := s.intervals(rest[0])
		by := ledger.DepartByDevice
		if n, ok := options["by"]; ok {
			by = ledger.DepartBy(n)
		}
		return s.Leave(h, k, by, approvals), err
	case "prefer":
		return s.Prefer(h, uint64(options["seq"]), market.Price(options["min_sell"]), market.Price(options["max_buy"])), nil
	case "order", "withdraw":
		return s.order(args[0] == "withdraw", h, rest, uint64(options["seq"]))
	case "report":
		return s.report(h, rest, options)
	case "move", "correct":
		return s.makeMember(args[0], h, rest, options, approvals)
	}
	return nil, fmt.Errorf("unknown transaction %q", args[0])
}

func parseOptions(args []string) (options map[string]int64, rest []string, err error) {
	options = map[string]int64{}
	for _, arg := range args {
		key, value, ok := strings.Cut(arg, "=")
		if !ok {
			rest = append(rest, arg)
			continue
		}
		if options[key], err = strconv.ParseInt(value, 10, 64); err != nil {
			return nil, nil, err
		}
	}
	return options, rest, nil
}

func (s *street) order(withdraw bool, h *ledgertest.Home, rest []string, seq uint64) ([]byte, error) {
	if len(rest) < 2 {
		return nil, fmt.Errorf("want +K and a side")
	}
	k, _, err := s.intervals(rest[0])
	if err != nil {
		return nil, err
	}
	var side market.Side
	if err := side.UnmarshalText([]byte(rest[1])); err != nil {
		return nil, err
	}
	if withdraw {
		return s.Order(h, k, side, seq, ledger.Step{}), nil
	}
	var steps []ledger.Step
	for _, text := range rest[2:] {
		var st ledger.Step
		if _, err := fmt.Sscanf(text, "%dx%d", &st.Price, &st.WattHours); err != nil {
			return nil, fmt.Errorf("step %q: %w", text, err)
		}
		steps = append(steps, st)
	}
	return s.Order(h, k, side, seq, steps...), nil
}

// replace makes the replacement of a home's counter; with key=1 the home's meter is another
// one from then on.
func (s *street) replace(h *ledgertest.Home, rest []string, options map[string]int64, approvals int) ([]byte, error) {
	if len(rest) != 1 {
		return nil, fmt.Errorf("want +K")
	}
	from, _, err := s.intervals(rest[0])
	if err != nil {
		return nil, err
	}
	r := ledger.ReplaceMeter{
		Meter: ledger.MeterIDOf(ledgertest.Public(h.Meter)), From: from, Epoch: uint32(options["epoch"]),
		SignedBy: ledger.SignedByAgent, Definition: "tasmota@1", Reason: "test",
	}
	if options["key"] != 0 {
		s.old[h.Name] = h.Meter
		h.Meter = ledgertest.Key(h.Name + "/another meter")
	}
	r.Key = ledgertest.Public(h.Meter)
	return s.Replace(h, r, approvals), nil
}

// device makes the change to a gateway whose keys follow from the sequence number.
func (s *street) device(h *ledgertest.Home, options map[string]int64) []byte {
	seq := uint64(options["seq"])
	if options["revoke"] != 0 {
		return s.Revoke(h, seq)
	}
	device, network := ledgertest.Key(fmt.Sprintf("%s/device/%d", h.Name, seq)), ledgertest.Key(fmt.Sprintf("%s/network/%d", h.Name, seq))
	if options["mixed"] != 0 {
		network = h.Network
	}
	raw := s.Device(h, seq, device, network)
	if options["use"] != 0 {
		before := *h
		s.homes[h.Name+"-old"] = &before
		h.Device, h.Network = device, network
	}
	return raw
}

func (s *street) report(h *ledgertest.Home, rest []string, options map[string]int64) ([]byte, error) {
	if options["old"] != 0 {
		before := *h
		before.Meter = s.old[h.Name]
		h = &before
	}
	from, to, err := s.intervals(rest[0])
	if err != nil {
		return nil, err
	}
	r := ledger.ReportMeter{From: from, Count: uint32(to - from + 1), Start: s.Reading(h, from), End: s.Reading(h, to+1)}
	if late := options["late"]; late != 0 {
		r.End.AtMs += late
		sign(h, &r.End)
	}
	if epoch := options["epoch"]; epoch != 0 {
		r.Start.Epoch, r.End.Epoch = uint32(epoch), uint32(epoch)
		sign(h, &r.Start)
		sign(h, &r.End)
	}
	if doubt := options["doubt"]; doubt != 0 {
		r.End.Quality = uint64(doubt)
		sign(h, &r.End)
	}
	if skip := options["skip"]; skip != 0 {
		*r.Start.ImportWh += uint64(skip)
		sign(h, &r.Start)
	}
	return r.Sign(ledgertest.ChainID, h.ID, h.Device), nil
}
