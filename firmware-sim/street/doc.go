// Package street joins homes, meters and time: it answers what each meter of
// each home has counted at any instant of community time.
//
// # Time
//
// Community time is epoch + rate × (wall clock − start) and is computed in
// integers. Every counter is refreshed at the multiples of the refresh period
// since 1970, as real meters renew their registers at a period of their own, and
// stays as it is in between. A wall clock that is set back does not take the
// meters back: [Street.Latest] never falls.
//
// A manual clock stands still until [Street.Move] moves it, and never goes back.
//
// # The past is not stored
//
// A street keeps no files. What a meter shows is a function of configuration
// (with the content of the files it names) and instant, so a firmware-sim that
// was killed and started again shows the same counters, signed chains included.
// The price is that the start integrates from the epoch: about 60 ms for a home
// and a year of three-minute refreshes.
//
// # Signs
//
// A grid meter imports what the house takes from the street. A solar meter
// exports what the panels produce and never imports. A battery's meter imports
// what it is charged with and exports what it gives.
//
// A Street may be used by many goroutines. [Street.Run] starts one for each
// pusher and waits for them.
package street
