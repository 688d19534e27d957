package api_test

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
)

func p[T any](v T) *T { return &v }

// noon is a moment of a sunny day in community time.
var noon = time.Date(2026, 6, 14, 12, 37, 20, 0, time.UTC)

const quarter = 15 * time.Minute

// sunny is a home with a roof and a battery around noon: it runs itself,
// charges, sells to neighbours and feeds in a little.
func sunny() api.Snapshot {
	return api.Snapshot{
		At: noon, WallAt: noon,
		Home: api.Home{
			ID: "7f1c02a94be85d3360aa19c2f4d7be08", Name: "Lindenweg 7", Community: "demo-lindenweg",
			Role: api.RoleValidator, IntervalS: 900, Rate: 90,
		},
		Power: api.Power{
			At: p(noon.Add(-time.Second)), ConnectionW: p[int64](-1620), GridW: p[int64](-400), NeighboursW: p[int64](-1220),
			SolarW: p[int64](4310), BatteryW: p[int64](1900), HouseW: p[int64](790), BatterySOCBp: p[int64](6420),
			HasSolar: true, HasBattery: true,
		},
		PriceNow: api.Price{
			Interval: p[int64](1980242), Start: p(noon.Truncate(quarter)),
			Price: p[int64](143_000), ImportPrice: p[int64](300_000), ExportPrice: p[int64](80_000),
		},
		PriceNext: api.Price{
			Interval: p[int64](1980243), Start: p(noon.Truncate(quarter).Add(quarter)),
			Price: p[int64](138_500), ImportPrice: p[int64](300_000), ExportPrice: p[int64](80_000),
		},
		Intervals: day(noon, 96),
		Account: api.Account{
			Currency: "EUR", Balance: p[int64](3_417_204), Earned: p[int64](6_080_455), Spent: p[int64](2_663_251),
			Saved: p[int64](4_922_871), Settlements: 412,
		},
		Ledger: api.Ledger{
			ChainID: "demo-lindenweg-1", Height: p[int64](1234),
			AppHash:     "93a6c1f0d1e24b7f8a5540c2be9d61170f3c8ae2b45d7719c06e12fd88ab3e5c",
			LastBlockAt: p(noon.Add(-4 * time.Second)),
			Peers: []api.Peer{
				{ID: "12D3KooWa", Name: "Lindenweg 1", Address: "/ip4/127.0.0.1/udp/4001/quic-v1", Path: "local"},
				{ID: "12D3KooWb", Name: "Lindenweg 2", Address: "/ip4/192.0.2.7/udp/4002/quic-v1", Path: "punched"},
				{ID: "12D3KooWc", Address: "/ip4/192.0.2.9/udp/4003/quic-v1/p2p/12D3KooWd/p2p-circuit", Path: "relayed", Via: "12D3KooWd"},
			},
			Reached:      p(false),
			ValidatorsUp: p[int64](4), ValidatorsTotal: p[int64](4), PoolSize: 3,
			Rejected: map[string]int64{"gate_closed": 2, "bad_signature": 1},
		},
		Meters: []api.Meter{
			{
				Role: api.MeterConnection, Definition: "eastron-sdm630", Address: "tcp://127.0.0.1:1502, unit 1", Identity: "SDM630 serial 2100417",
				Quality: api.QualityGood, State: api.MeterOK, LastAt: p(noon.Add(-time.Second)),
				ImportWh: p[int64](1_204_310), ExportWh: p[int64](2_990_127), PowerW: p[int64](-1620),
				SignedBy: "agent", Readings: 8640, Others: map[string]int64{"held/counter": 11, "failed/timeout": 2},
			},
			{
				Role: api.MeterSolar, Definition: "shelly-gen2", Address: "mqtt://127.0.0.1:1883/home-7/roof", Identity: "shellypro3em-0c1f",
				Quality: api.QualityGood, State: api.MeterOK, LastAt: p(noon.Add(-2 * time.Second)),
				ImportWh: p[int64](310), ExportWh: p[int64](5_410_220), PowerW: p[int64](-4310),
				SignedBy: "device",
			},
		},
		Clock: api.Clock{State: "synchronised", ErrorMs: p[int64](12), Sure: true},
		Grid:  congested(),
	}
}

// congested is a street of two feeders at noon: feeder-1 gives all that it may, so that
// a kWh is worth less there.
func congested() *api.Grid {
	node := func(id, parent string, price, imported, exported int64) api.GridNode {
		return api.GridNode{
			ID: id, Parent: parent, Price: p(price), ImportPrice: p[int64](300_000), ExportPrice: p[int64](80_000), Homes: 3,
			ImportWh: p(imported), ExportWh: p(exported), ImportW: p(4 * imported), ExportW: p(4 * exported), FeesMicro: p[int64](0), RentMicro: p[int64](0),
		}
	}
	root, street := node("root", "", 143_000, 0, 120), node("street", "root", 142_000, 0, 120)
	full, calm := node("feeder-1", "street", 78_000, 0, 500), node("feeder-2", "street", 144_000, 380, 0)
	root.Homes, street.Homes = 6, 6
	street.ExportFee, street.ImportFee, street.FeesMicro = 1000, 2000, p[int64](120)
	full.Home, full.ExportLimitW, full.ExportLimitBy, full.LoadingBp = true, p[int64](2000), api.LimitByEnvelope, p[int64](10_000)
	full.Reason, full.ExportFee, full.ImportFee, full.FeesMicro, full.RentMicro = "voltage", 1000, 2000, p[int64](500), p[int64](31_500)
	calm.ImportLimitW, calm.ImportLimitBy, calm.LoadingBp, calm.ImportFee, calm.FeesMicro = p[int64](9000), api.LimitByNetwork, p[int64](1688), 2000, p[int64](760)
	start := noon.Truncate(quarter)
	return &api.Grid{
		Interval: start.Unix() / 900, Start: start, State: api.StateSettled, Clearing: "forward",
		Nodes:    []api.GridNode{root, street, full, calm},
		BoughtWh: p[int64](700), SoldWh: p[int64](820), GridImportWh: p[int64](0), GridExportWh: p[int64](120),
		ImportWh: p[int64](730), ExportWh: p[int64](801), SupplierWh: p[int64](-71), PhysicalOK: p(true),
		FeesMicro: p[int64](1380), RentMicro: p[int64](31_500),
		Accounts: []api.GridAccount{
			{Account: "cooperative", Balance: 31_500},
			{Account: "grid-operator", Balance: 1380},
			{Account: "households", Balance: -120_000},
			{Account: "rounding", Balance: 1},
			{Account: "supplier", Balance: 87_119},
		},
		Envelopes: []api.GridEnvelope{{
			Node: "feeder-1", ExportW: p[int64](2000), From: start.Add(-quarter), Until: start.Add(8 * quarter), Reason: "voltage", Seq: 1, InForce: true,
		}},
	}
}

// day makes the intervals up to now: a night of buying, a morning, a noon of
// selling; one reading missing, one substituted, the newest not settled yet.
func day(now time.Time, n int) []api.Interval {
	last := now.Truncate(quarter)
	out := make([]api.Interval, 0, n)
	for k := range n {
		start := last.Add(-time.Duration(n-1-k) * quarter)
		hour := float64(start.Hour()) + float64(start.Minute())/60
		sun := max(0, math.Sin((hour-5.5)/15*math.Pi)) * (0.85 + 0.15*math.Cos(float64(k)*1.7))
		load := 210 + 120*math.Sin(float64(k)/5.3) + 260*math.Exp(-(hour-19)*(hour-19)/3)
		net := int64(load - 1150*sun)
		i := api.Interval{
			Interval: start.Unix() / 900, Start: start, State: api.StateSettled, Quality: api.QualityGood,
			Price:    p(int64(80_000 + (1-min(1, sun*1.05))*205_000)),
			ImportWh: p(max(net, 0)), ExportWh: p(max(-net, 0)),
			BoughtWh: p(max(net, 0) * 55 / 100), SoldWh: p(max(-net, 0) * 72 / 100), LocalShareBp: p(int64(5500 + 4400*sun)),
			Net: p(-net * 143), Saved: p(max(net, -net) * 61),
		}
		out = append(out, i)
	}
	if n > 40 {
		gap := &out[n-30]
		*gap = api.Interval{Interval: gap.Interval, Start: gap.Start, State: api.StateMissing, Price: gap.Price}
		out[n-22].State, out[n-22].Quality = api.StateSubstitute, api.QualitySubstitute
	}
	if n > 3 {
		out[n-2].State = api.StateProvisional
		now := &out[n-1]
		*now = api.Interval{Interval: now.Interval, Start: now.Start, State: api.StateCleared, Price: p[int64](143_000), SoldWh: p[int64](310), BoughtWh: p[int64](0)}
	}
	return out
}

// evening is the same home after sunset with an empty battery.
func evening() api.Snapshot {
	s := sunny()
	at := time.Date(2026, 6, 14, 21, 52, 5, 0, time.UTC)
	s.At, s.WallAt = at, at
	s.Power = api.Power{
		At: p(at), ConnectionW: p[int64](640), GridW: p[int64](210), NeighboursW: p[int64](430),
		SolarW: p[int64](0), BatteryW: p[int64](0), HouseW: p[int64](640), BatterySOCBp: p[int64](500), HasSolar: true, HasBattery: true,
	}
	s.PriceNow.Price, s.PriceNow.Start = p[int64](262_500), p(at.Truncate(quarter))
	s.PriceNext = api.Price{Start: p(at.Truncate(quarter).Add(quarter)), ImportPrice: p[int64](300_000), ExportPrice: p[int64](80_000)}
	s.Ledger.LastBlockAt = p(at.Add(-11 * time.Second))
	s.Intervals = day(at, 96)
	s.Grid = &api.Grid{
		Interval: at.Unix() / 900, Start: at.Truncate(quarter), State: api.StateCleared, Clearing: "metered",
		Nodes: []api.GridNode{{ID: "root", Home: true, Homes: 6}},
	}
	return s
}

// mixed has two sources and three sinks, whose edges do not meet.
func mixed() api.Snapshot {
	s := sunny()
	s.Power = api.Power{
		At: s.Power.At, ConnectionW: p[int64](-1500), GridW: p[int64](-600), NeighboursW: p[int64](-900),
		SolarW: p[int64](1450), BatteryW: p[int64](-950), HouseW: p[int64](900), BatterySOCBp: p[int64](8800), HasSolar: true, HasBattery: true,
	}
	return s
}

// blank is an agent that has just started: nothing is known.
func blank() api.Snapshot {
	at := noon.Add(-20 * time.Minute)
	return api.Snapshot{
		At: at, WallAt: at,
		Home:  api.Home{ID: "7f1c02a94be85d3360aa19c2f4d7be08", Name: "Lindenweg 7", Community: "lindenweg", Role: api.RoleReplica, IntervalS: 900, Rate: 1},
		Power: api.Power{HasSolar: true, HasBattery: true},
		Account: api.Account{
			Currency: "EUR",
		},
		Ledger: api.Ledger{CatchingUp: true},
		Meters: []api.Meter{{Role: api.MeterConnection, Definition: "sunspec-meter", Address: "tcp://192.0.2.7:502", State: api.MeterStarting}},
	}
}

// troubled has a silent meter and a ledger without quorum.
func troubled() api.Snapshot {
	s := evening()
	s.Power = api.Power{At: p(s.At.Add(-2 * time.Hour)), HasSolar: true, HasBattery: true, SolarW: p[int64](0)}
	s.Ledger.WaitingFor = "waiting for quorum: 2 of 3 needed validators are connected"
	s.Ledger.ValidatorsUp = p[int64](2)
	s.Meters[0].State, s.Meters[0].Note = api.MeterSilent, "no answer on tcp://127.0.0.1:1502 since 21:20"
	s.Meters[0].PowerW = nil
	s.Problems = []api.Problem{
		{
			Code: "meter_silent", Severity: api.SeverityError, Text: "The meter at the connection does not answer.",
			Hint: "Check its power and cable; commonwatt meter read shows what it says.",
		},
		{Code: "clock_offset", Severity: api.SeverityWarning, Text: "This machine's clock is 1.8 s off.", Hint: "Check the time service."},
	}
	return s
}

// extreme holds the largest and smallest numbers there are, in every field.
func extreme() api.Snapshot {
	s := sunny()
	lo, hi := int64(math.MinInt64), int64(math.MaxInt64)
	s.Power.ConnectionW, s.Power.GridW, s.Power.NeighboursW = &lo, &lo, &hi
	s.Power.SolarW, s.Power.BatteryW, s.Power.HouseW, s.Power.BatterySOCBp = &hi, &lo, &hi, &lo
	s.PriceNow = api.Price{Interval: &hi, Start: p(time.Date(9998, 12, 31, 23, 59, 59, 0, time.UTC)), Price: &lo, ImportPrice: &hi, ExportPrice: &lo}
	s.PriceNext = s.PriceNow
	s.Home.IntervalS, s.Home.Rate = hi, lo
	s.Account = api.Account{Currency: "EUR", Balance: &lo, Earned: &hi, Spent: &lo, Saved: &lo, Settlements: hi}
	for k := range s.Intervals {
		v := &hi
		if k%2 == 0 {
			v = &lo
		}
		s.Intervals[k] = api.Interval{
			Interval: *v, Start: time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), State: "never heard of", Price: v, ImportWh: v, ExportWh: v,
			BoughtWh: v, SoldWh: v, LocalShareBp: v, Net: v, Saved: v,
		}
	}
	s.Ledger.Height, s.Ledger.PoolSize, s.Ledger.ValidatorsTotal = &hi, lo, &lo
	s.Ledger.LastBlockAt = p(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC))
	s.Meters[0].ImportWh, s.Meters[0].PowerW = &hi, &lo
	s.Grid = &api.Grid{Interval: hi, Start: time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), State: "never heard of", AccountsSum: lo, BoughtWh: &lo}
	for k := range 40 {
		n := api.GridNode{
			ID: strings.Repeat("W", 28) + strconv.Itoa(k), Price: &lo, ImportPrice: &hi, ExportPrice: &lo, ImportWh: &lo, ExportWh: &hi, ImportW: &lo, ExportW: &hi,
			ImportLimitW: &hi, ExportLimitW: &lo, LoadingBp: &hi, FeesMicro: &lo, RentMicro: &hi, Homes: lo, Home: k == 39,
		}
		if k > 0 {
			n.Parent = s.Grid.Nodes[k-1].ID
		}
		s.Grid.Nodes = append(s.Grid.Nodes, n)
	}
	return s
}
