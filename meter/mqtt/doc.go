// Package mqtt hears what devices publish, through paho and around its sharp edges.
//
//	Q1  The handler only copies into a bounded queue and never waits; when the queue is full the oldest message goes,
//	    for a counter says everything that the lost one said.
//	Q2  Every connection is a new paho client that subscribes before it counts as connected: paho forgets subscriptions
//	    when it reconnects by itself, and sleeps in goroutines that nobody can end. Clean session, order kept.
//	Q3  A broker that is not there, or goes away, is looked for every 1 to 5 s for as long as the subscriber lives.
//	Q4  A packet above the limit is thrown away as it arrives, before anybody allocates memory for it.
//	Q5  A retained message is marked: nobody knows its age.
//	Q6  With TLS, the handshake is part of the connection: what is wrong with a certificate, ours or the broker's, is
//	    the error of it. Err keeps the last one for a person to read; no password is in it.
//	Q7  Two clients of one id throw each other off: they come back more and more slowly, and Err says so.
//
// Open starts one goroutine, which owns the paho client and its goroutines; Close waits for all of them.
package mqtt
