// Package access knows who may use a home's gateway: the accounts and their passwords, the code
// that claims a new gateway, sessions, the token of the machine's own commands, how often anybody
// may try, and the log of what was done. It knows no HTTP; package api asks it at every request.
//
// # Invariants
//
// A gateway is claimed once it has an account of role homeowner, and keeps at least one from then
// on. There is no password that the gateway comes with. A password is kept as argon2id
// (19 MiB, 3 passes), and one is checked at a time, so that guessing takes one core's and one
// check's worth of memory at most.
//
// A session lives in memory, at most [MaxSessions] of them, and ends with its idle or its longest
// time, with its account, with a change of its account's password or role, and with the process.
// What a browser holds is 256 random bits; what is kept here is their hash.
//
// Every map whose keys strangers choose is bounded.
//
// # Files
//
// All are in the home's folder, of its owner, and for nobody else: access.json (the accounts),
// audit.log with its older parts, api.token, access.lock. The running agent and the commands both
// change them, under the lock; the agent notices at its next request.
//
// # Goroutines and errors
//
// None are started. All methods may be called from many goroutines. A person's mistake is an
// *InputError; ErrCredentials is a wrong name, password or code; *Wait says how long to wait;
// ErrClaimed and ErrUnclaimed are about the gateway; ErrDamaged is a file that is not what was
// written.
package access
