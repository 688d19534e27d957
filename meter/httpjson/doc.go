// Package httpjson asks devices over HTTP, as carefully as devices need it.
//
//	H1  One connection to a host, one request at a time, at most one dial a second: small devices fall over otherwise.
//	H2  An answer is read to a bound; a longer one is an error, and so is one that is late.
//	H3  After a failure the host is left alone: 2 s per failure in a row, at most 5 min. A caller that went away says
//	    nothing about the host.
//	H4  Only the host that was asked answers: a redirect to another one is refused, and no proxy is used.
//	H5  A name and a password are shown only to a host that asks for them, by Digest (RFC 7616) if it offers that, else
//	    by Basic. They are never in an error.
//
// A [Client] starts no goroutine that outlives Close, save that of a connection that is just being closed. It is safe for
// concurrent use.
package httpjson
