// Package fault makes the simulated world misbehave on purpose. A fault is one
// type in one row of the table in table.go; a [Rule] says when, where and how
// strongly it strikes; a [Book] keeps the rules of a street and is asked at three
// places:
//
//   - between what a meter has counted and what its registers show
//     ([Book.Show]): frozen, jump, zero-bounce, reset, tampering and the like;
//   - between a server and its wire ([Book.Spoil]): late, split, short, drop and
//     the like;
//   - by the servers themselves ([Book.Dead], [Book.BrokerDown], [Book.Stale]):
//     power cuts, a broker that restarts, a message that a broker has kept.
//
// # Time
//
// Rules are in community time. A rule strikes from At on, for For (0: until it is
// ended), or again and again with Every. Whether one occurrence strikes is
// decided by Probability and the rule's seed and number alone, so that what a
// meter shows stays a function of configuration, scenario and instant: no state
// is kept, the past can be asked for, a restarted firmware-sim misbehaves the
// same. Only the share of answers that a wire fault hits depends on the number of
// answers that the device gave there before, and that is the same if the requests
// are.
//
// What devices send by themselves, and what happens to brokers and power, changes
// at refreshes, or at once when a rule is started or ended by hand.
//
// # What stays true
//
// [Book.Counted] is what the device itself has counted: with tampering, which no
// reader can see, and without everything that only its display or its wire does.
// A settlement has to agree with that.
//
// # Units
//
// Counters are milliwatt-hours inside, parameters Wh. A fault never makes a
// counter negative. A Book may be used by many goroutines and starts none.
package fault
