package api

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// joulesPerWattHour turns the home's unit into Prometheus' base unit.
const joulesPerWattHour = 3600

// collector reads the metrics from a Snapshot at each scrape. Unknown values
// have no sample, rather than a 0. No label names a member or a peer;
// a validator that left orders out, or proposed what nobody can accept, is named by its address.
type collector struct {
	provider Provider
	hub      *hub
	version  string
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("commonwatt_"+name, help, labels, nil)
}

var (
	descBuild           = describe("build_info", "Version of the agent; always 1.", "version")
	descStreams         = describe("api_streams", "Open event streams.")
	descReady           = describe("home_ready", "1 if /readyz says so.")
	descPower           = describe("home_power_watts", "Power by flow; positive is into the home and into its consumers.", "flow")
	descPrice           = describe("home_price_currency_per_kilowatthour", "Cleared price at the home's node now.")
	descBalance         = describe("home_balance_currency", "Balance of the home's account.")
	descSettled         = describe("home_settlements_total", "Intervals settled for this home.")
	descMeterUp         = describe("meter_up", "1 if the meter can be relied on.", "role")
	descImport          = describe("meter_import_energy_joules_total", "Import counter of the meter.", "role")
	descExport          = describe("meter_export_energy_joules_total", "Export counter of the meter.", "role")
	descReadings        = describe("meter_readings_total", "Samples of the meter that count.", "role")
	descLed             = describe("control_led", "1 while the device holds what this home told it.", "definition", "address")
	descSoC             = describe("control_soc_ratio", "State of charge, as read back.", "definition", "address")
	descSet             = describe("control_set_watts", "Power that the device was told, as read back; positive charges.", "definition", "address")
	descLeft            = describe("control_left_seconds", "Until the device is on its own if nothing is written.", "definition", "address")
	descSetPoints       = describe("control_set_points_total", "Set points written.", "definition", "address")
	descControlFailures = describe("control_failures_total", "Looks and writes that failed.", "definition", "address")
	descOthers          = describe("meter_others_total", "Samples of the meter that do not count, and looks that gave none.", "role", "verdict", "reason")
	descClock           = describe("clock_sure", "1 if readings prove interval boundaries, as far as this gateway's clock goes.")
	descClockErr        = describe("clock_error_seconds", "How far this gateway's clock may be off.")
	descHeight          = describe("ledger_height", "Height of the last block.")
	descCommitAge       = describe("ledger_commit_age_seconds", "Wall time since the last block.")
	descCatching        = describe("ledger_catching_up", "1 while the ledger catches up.")
	descPeers           = describe("ledger_peers", "Connected agents.")
	descUp              = describe("ledger_validators_up", "Validators that sign.")
	descPool            = describe("ledger_pool_transactions", "Transactions waiting for a block.")
	descRejected        = describe("ledger_rejected_total", "Transactions refused since the start.", "code")
	descOmitted         = describe("orders_omitted_total", "Orders that blocks left out though this home had long held them.", "proposer")
	descBadProposals    = describe("proposals_refused_total", "Proposals of blocks that this home refused.", "proposer", "reason")
	descDoubleVotes     = describe("validators_double_voted", "Validators that are proven to have signed two blocks of one height.")
)

// Describe sends none, which makes the collector unchecked: which samples there
// are depends on what is known.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := snapshot(c.provider)
	out := samples{ch}
	out.gauge(descBuild, 1, c.version)
	out.gauge(descStreams, float64(c.hub.open()))
	out.gauge(descReady, boolValue(len(notReady(s)) == 0))
	for flow, w := range map[string]*int64{
		"connection": s.Power.ConnectionW, "grid": s.Power.GridW, "neighbours": s.Power.NeighboursW,
		"solar": s.Power.SolarW, "battery": s.Power.BatteryW, "house": s.Power.HouseW,
	} {
		out.gaugeIf(descPower, w, 1, flow)
	}
	out.gaugeIf(descPrice, s.PriceNow.Price, 1e-6)
	out.gaugeIf(descBalance, s.Account.Balance, 1e-6)
	out.counter(descSettled, float64(s.Account.Settlements))
	collectMeters(out, s.Meters)
	collectControls(out, s.Controls)
	out.gauge(descClock, boolValue(s.Clock.Sure))
	out.gaugeIf(descClockErr, s.Clock.ErrorMs, 1e-3)
	collectLedger(out, s.Ledger, s.WallAt)
}

// collectMeters sends one sample a role. A role repeats if a home has two
// roofs: their counters add up, and the role is up only if all its meters are.
func collectMeters(out samples, meters []Meter) {
	type role struct {
		up, importKnown, exportKnown bool
		importWh, exportWh           float64
		readings                     int64
		others                       map[string]int64
	}
	roles := make(map[string]role)
	for _, m := range meters {
		r, seen := roles[m.Role]
		if !seen {
			r = role{up: true, importKnown: true, exportKnown: true, others: map[string]int64{}}
		}
		r.readings += m.Readings
		for key, n := range m.Others {
			r.others[key] += n
		}
		r.up = r.up && m.State == MeterOK
		r.importKnown = r.importKnown && m.ImportWh != nil
		r.exportKnown = r.exportKnown && m.ExportWh != nil
		if m.ImportWh != nil {
			r.importWh += float64(*m.ImportWh)
		}
		if m.ExportWh != nil {
			r.exportWh += float64(*m.ExportWh)
		}
		roles[m.Role] = r
	}
	for name, r := range roles {
		out.gauge(descMeterUp, boolValue(r.up), name)
		out.counter(descReadings, float64(r.readings), name)
		for key, n := range r.others {
			verdict, reason, _ := strings.Cut(key, "/")
			out.counter(descOthers, float64(n), name, verdict, reason)
		}
		if r.importKnown {
			out.counter(descImport, r.importWh*joulesPerWattHour, name)
		}
		if r.exportKnown {
			out.counter(descExport, r.exportWh*joulesPerWattHour, name)
		}
	}
}

func collectLedger(out samples, l Ledger, now time.Time) {
	out.gaugeIf(descHeight, l.Height, 1)
	out.gaugeIf(descUp, l.ValidatorsUp, 1)
	if l.LastBlockAt != nil {
		out.gauge(descCommitAge, max(0, now.Sub(*l.LastBlockAt).Seconds()))
	}
	out.gauge(descCatching, boolValue(l.CatchingUp))
	out.gauge(descPeers, float64(len(l.Peers)))
	out.gauge(descPool, float64(l.PoolSize))
	for code, n := range l.Rejected {
		out.counter(descRejected, float64(n), code)
	}
	for proposer, n := range l.Omitted {
		out.counter(descOmitted, float64(n), proposer)
	}
	for proposer, reasons := range l.BadProposals {
		for reason, n := range reasons {
			out.counter(descBadProposals, float64(n), proposer, reason)
		}
	}
	out.gauge(descDoubleVotes, float64(len(l.DoubleVotes)))
}

// samples sends metrics; one that cannot be made (a label that is no text) is
// sent as an error, which /metrics reports and survives.
type samples struct{ ch chan<- prometheus.Metric }

func (s samples) send(d *prometheus.Desc, t prometheus.ValueType, v float64, labels []string) {
	m, err := prometheus.NewConstMetric(d, t, v, labels...)
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	s.ch <- m
}

func (s samples) gauge(d *prometheus.Desc, v float64, labels ...string) {
	s.send(d, prometheus.GaugeValue, v, labels)
}

func (s samples) counter(d *prometheus.Desc, v float64, labels ...string) {
	s.send(d, prometheus.CounterValue, v, labels)
}

func (s samples) gaugeIf(d *prometheus.Desc, v *int64, factor float64, labels ...string) {
	if v != nil {
		s.gauge(d, float64(*v)*factor, labels...)
	}
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// metricsHandler serves this package's metrics and the configured ones.
func (s *Server) metricsHandler() (http.Handler, error) {
	own := prometheus.NewRegistry()
	if err := own.Register(&collector{provider: s.cfg.Provider, hub: s.hub, version: s.cfg.Version}); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	gatherers := prometheus.Gatherers{own}
	if s.cfg.Registry != nil {
		gatherers = append(gatherers, s.cfg.Registry)
	}
	// What can be gathered is shown even if one metric is broken.
	return promhttp.HandlerFor(gatherers, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError,
		ErrorLog:      slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelWarn),
	}), nil
}
