// Package demo runs a whole street on one machine: firmware-sim and one agent per
// home, each an operating-system process of its own with a folder of its own, on
// loopback. It plays the cooperative that founds the community, and the person who
// switches everything on and off. What it reports at the end it takes from the
// ledgers on disk and from firmware-sim's own counters, not from what it watched.
//
// # Goroutines
//
// Run owns one goroutine per process, which waits for its end and starts it again
// if nobody asked for that end, one that watches, and one for an outage. Run returns
// when all processes and goroutines have ended.
//
// # Folder
//
//	demo.json           what was founded; a second start continues from it
//	cooperative/        the officers' keys, and the grid operator's
//	devices/            keys inside meters that sign
//	firmware-sim.yaml   the physical world
//	homes/home-N/       one home: agent.yaml, keys/, engine/, home.db
//	logs/               what the processes said
package demo
