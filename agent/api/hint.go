package api

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
)

// hintListener tells browsers that speak HTTP to the TLS port where the page is.
type hintListener struct {
	net.Listener

	guard *guard
}

// Accept does not wait for anything that the connection sends.
func (l *hintListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &hintConn{Conn: c, guard: l.guard}, nil
}

// hintConn lies between TLS and the network. The first bytes tell which it is: TLS begins with 22,
// the type of a handshake, and HTTP with a letter.
type hintConn struct {
	net.Conn

	guard *guard
	heard bool // owned by whoever reads, and that is one goroutine
}

const tlsHandshake = 22

// Read ends the connection after the hint.
func (c *hintConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.heard || n == 0 {
		return n, err
	}
	c.heard = true
	if b[0] < 'A' || b[0] > 'Z' || b[0] == tlsHandshake {
		return n, err
	}
	c.hint(bytes.Clone(b[:n]))
	return 0, io.EOF
}

// hint answers one request, which has to be whole within the time that a handshake has.
func (c *hintConn) hint(begun []byte) {
	r, err := http.ReadRequest(bufio.NewReader(io.LimitReader(io.MultiReader(bytes.NewReader(begun), c.Conn), maxHeaderBytes)))
	if err != nil {
		return
	}
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, c.LocalAddr()))
	const words = "This page is inside TLS: its address begins with https://\n"
	status, location := http.StatusBadRequest, ""
	_, port, err := net.SplitHostPort(r.Host)
	_, noPort := strconv.ParseUint(port, 10, 16)
	if (r.Method == http.MethodGet || r.Method == http.MethodHead) && c.guard.hostAllowed(r) && (err != nil || noPort == nil) {
		// Not for good: a browser would remember it after the page has left TLS.
		status, location = http.StatusTemporaryRedirect, "Location: https://"+r.Host+r.URL.RequestURI()+"\r\n"
	}
	_, _ = fmt.Fprintf(c.Conn, "HTTP/1.1 %d %s\r\n%sConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s",
		status, http.StatusText(status), location, len(words), words) // an error means that nobody listens
}
