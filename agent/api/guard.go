package api

import (
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"time"
)

// guard is what every request passes first: the Host allow-list, the methods,
// cross-origin protection, size and time limits, and the security headers.
type guard struct {
	hosts map[string]bool
	log   *slog.Logger
	cross *http.CrossOriginProtection

	within time.Duration // an answer is written within it
}

func newGuard(hosts []string, listen net.Addr, log *slog.Logger) *guard {
	g := &guard{hosts: map[string]bool{"localhost": true}, log: log, cross: http.NewCrossOriginProtection(), within: responseTimeout}
	for _, h := range hosts {
		g.hosts[h] = true
	}
	if host, _, err := net.SplitHostPort(listen.String()); err == nil {
		g.hosts[host] = true
	}
	return g
}

// The content security policies: of pages that only show, and of those that send forms to us.
const (
	showPolicy = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
	formPolicy = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)

// securityHeaders forbid everything the page does not need: it is one origin
// that talks to itself.
var securityHeaders = [...][2]string{
	{"Content-Security-Policy", showPolicy},
	{"X-Content-Type-Options", "nosniff"},
	{"X-Frame-Options", "DENY"},
	{"Referrer-Policy", "no-referrer"},
	{"Cross-Origin-Opener-Policy", "same-origin"},
	{"Cross-Origin-Resource-Policy", "same-origin"},
	{"Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"},
	{"Cache-Control", "no-store"},
}

func (g *guard) wrap(next http.Handler) http.Handler {
	next = g.cross.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, h := range securityHeaders {
			w.Header().Set(h[0], h[1])
		}
		if !g.hostAllowed(r) {
			g.log.WarnContext(r.Context(), "host header refused", "host", clip(r.Host, 100), "remote", r.RemoteAddr)
			writeProblem(w, http.StatusMisdirectedRequest, "this agent does not answer to the host name "+
				clip(r.Host, 100)+"; if it is yours, add it to the allowed hosts in the agent's configuration")
			return
		}
		limit := int64(maxBodyBytes)
		switch {
		case r.Method == http.MethodPost && postLimit(r.URL.Path) > 0:
			limit = postLimit(r.URL.Path)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			writeProblem(w, http.StatusMethodNotAllowed, "got "+clip(r.Method, 20)+", expected GET or HEAD here")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		// Streams replace this deadline by their own.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(g.within))
		next.ServeHTTP(w, r)
	})
}

// posts are the paths that take more than reading, and how much of it.
var posts = []struct {
	pattern string // of path.Match
	limit   int64
}{
	{transactionsPath, 3 * maxTransactionBytes},
	{approvalPath, maxBodyBytes},
	{controlPath, maxBodyBytes},
	{"/claim", maxFormBytes},
	{"/login", maxFormBytes},
	{"/logout", maxFormBytes},
	{"/settings/*", maxFormBytes},
	{"/settings/accounts/remove", maxFormBytes},
}

// postLimit is what a path takes at most; 0: nothing.
func postLimit(p string) int64 {
	for _, post := range posts {
		if ok, err := path.Match(post.pattern, p); err == nil && ok {
			return post.limit
		}
	}
	return 0
}

// hostAllowed refuses names that are not ours. An address is allowed if it is
// the one the connection came in on: a rebinding attack needs a name.
func (g *guard) hostAllowed(r *http.Request) bool {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = normalHost(host)
	if g.hosts[host] {
		return true
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	addr = addr.Unmap()
	if addr.IsLoopback() {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && local.AddrPort().Addr().Unmap().WithZone("") == addr.WithZone("")
}

// normalHost lowers the case, and takes off brackets and the root's dot.
func normalHost(h string) string {
	h = strings.TrimSuffix(strings.ToLower(h), ".")
	if strings.HasPrefix(h, "[") && strings.HasSuffix(h, "]") {
		return h[1 : len(h)-1]
	}
	return h
}

func validHost(h string) bool {
	if _, err := netip.ParseAddr(h); err == nil {
		return true
	}
	if h == "" || len(h) > 253 {
		return false
	}
	for label := range strings.SplitSeq(h, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// fromLoopback says whether the request came from this machine.
func fromLoopback(r *http.Request) bool {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && addr.Addr().Unmap().IsLoopback()
}

// problem is RFC 9457, in the form huma writes for the API's own errors.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
}

func writeProblem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	// An error means that the client is gone, and with it who could be told.
	_ = json.NewEncoder(w).Encode(problem{Title: http.StatusText(status), Status: status, Detail: detail})
}

// clip keeps what a stranger sent to a length fit for a log line.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
