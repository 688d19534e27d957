// Package broker is firmware-sim's side of MQTT: a broker of our own for streets
// that have none, and the connection by which each simulated device publishes,
// to that broker or to any other.
//
// Each device has a connection of its own, as in the field: that is what makes
// its last will work. A [Client] keeps it: it connects again after a second
// whenever it is gone, says that it is there (retained), publishes what its
// counters show at that moment, and then whenever it is asked to ([Client.Push]),
// which is at each refresh. What is due while there is no broker is not kept for
// later: a meter's counter says it all at the next refresh.
//
// The paho client is used for one connection only and thrown away with it. Its
// own ways of reconnecting lose subscriptions, resend in random order and leave
// goroutines behind that nobody waits for.
//
// [Server.Serve] and [Client.Run] end with their context and wait for what they
// started.
package broker
