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
// What a meter shows is a function of configuration (with the content of the
// files it names), instant, and what inverters were told before that instant; so
// a firmware-sim that was killed and started again shows the same counters,
// signed chains included. What inverters were told is the only thing that a
// street writes, into the journal of its configuration: a line is on the disk
// before the command is acknowledged. Without a journal commands are forgotten.
// The price is that the start integrates from the epoch: about 60 ms for a home
// and a year of three-minute refreshes.
//
// # Commands
//
// A write into an inverter's registers is a command. It takes effect at the
// community time at which it came, or at the newest refresh or command if that
// is later, since the past does not change. Timers in an inverter's registers
// (revert times, remote command timeouts) are seconds of COMMUNITY time: at a
// rate of 90 a lease of 900 s is over after 10 s on the wall. Registers of an
// inverter show its counters at the newest refresh, and its powers, content and
// settings at the moment of the question. A manual clock that finds a journal
// stands at the last command in it.
//
// # Signs
//
// A grid meter imports what the house takes from the street. A solar meter
// exports what the panels produce and never imports. A battery's meter imports
// what it is charged with and exports what it gives. An inverter with panels and
// battery behind it counts at its terminals: export is what it gives the house.
//
// A Street may be used by many goroutines. [Street.Run] starts one for each
// pusher and waits for them.
package street
