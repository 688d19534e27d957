// Package api is the household's window: a JSON API, one live page,
// server-sent events, health and metrics, served from one net/http server.
//
// It knows nothing of meters, markets or ledgers. The household's loops fill a
// [Snapshot] and hand it over through a [Provider]; everything that leaves this
// package is derived from one such Snapshot, so the JSON, the page, the pictures
// and the metrics can never disagree about the same instant. Bills are made on request
// by package bill, whose Statement is served as it is; the network in an interval that
// is over is asked of the [Network], which also takes the transactions that programs on
// this machine hand over.
//
// Who asks is found by package access, and what they may is one table, rules: a row for each pattern of
// the mux. A request that matches no row is refused, and New fails if a route has none. A gateway that
// nobody has claimed answers with the claim page. Config.Open turns all of that off, for demonstrations.
// Metrics and profiles are on a port of their own that only this machine reaches.
//
// # Units and signs
//
// Power is in watts, energy in watt-hours, money in micro-units of the currency
// (1 EUR = 1,000,000), prices in micro-units per kWh, all int64. No float takes
// part in any amount that is shown. A nil pointer means unknown; it is shown as a
// dash and never becomes 0.
//
// Signs follow one rule, "into the home and into its consumers is positive":
//
//	connection_w = grid_w + neighbours_w        (positive: the home imports)
//	connection_w + solar_w = house_w + battery_w
//
// solar_w and house_w are not negative, battery_w is positive while it charges.
// Money is seen from the home: positive is good for it.
//
// # Goroutines
//
// [New] binds the listener and starts nothing. [Server.Run] starts the HTTP
// server and one goroutine that turns the Provider's change signal into frames
// for the streams, and returns only after both, and every request, have ended.
// A slow stream costs one write deadline and then loses its connection; it never
// holds up the Provider, the hub, or another stream.
//
// # Errors
//
// New returns errors that wrap [ErrConfig] for a setting that cannot be right,
// and the listener's error otherwise. Run returns nil when its context ends.
// Requests that are refused get an RFC 9457 problem document.
package api
