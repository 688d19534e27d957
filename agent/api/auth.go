package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/agent/access"
)

// authorizer lets pass who may. It stands behind the guard and in front of the mux.
type authorizer struct {
	*Server

	mux *routeMux
}

type principalKey struct{}

// principal is who asks, in a handler.
func principal(r *http.Request) access.Principal {
	p, _ := r.Context().Value(principalKey{}).(access.Principal)
	return p
}

// ServeHTTP finds the route, its rule and who asks, and refuses what the rule does not allow.
func (a *authorizer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, pattern := a.mux.Handler(r)
	rule, ok := ruleFor(pattern, r)
	if !ok {
		writeProblem(w, http.StatusForbidden, "nobody may do this here")
		return
	}
	p := access.Principal{Role: access.Anybody}
	if a.cfg.Access != nil {
		if p, ok = a.identify(w, r); !ok || !a.admit(w, r, rule, pattern, p) {
			return
		}
	}
	r = r.WithContext(context.WithValue(r.Context(), principalKey{}, p))
	if a.cfg.Access == nil || r.Method != http.MethodPost || rule.page {
		a.mux.ServeHTTP(w, r) // pages write what was done to the log themselves
		return
	}
	noted := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	a.mux.ServeHTTP(noted, r)
	result := "ok"
	if noted.status >= http.StatusBadRequest {
		result = strconv.Itoa(noted.status)
	}
	a.cfg.Access.Note(p.Actor(remote(r)), r.Method+" "+r.URL.Path, result, "")
}

// identify finds who asks: the machine's own commands by their token, people by their session.
func (a *authorizer) identify(w http.ResponseWriter, r *http.Request) (access.Principal, bool) {
	if scheme, secret, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok {
		if !strings.EqualFold(scheme, "Bearer") || !a.cfg.Access.ByToken(secret) || !fromHere(r) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeProblem(w, http.StatusUnauthorized, "this is not the token of this agent's commands; it is in the home's folder, another one since each start, and good on this machine only")
			return access.Principal{}, false
		}
		return access.Principal{Role: access.Local}, true
	}
	cookie, err := r.Cookie(a.cookie)
	if err != nil {
		return access.Principal{}, true
	}
	p, err := a.cfg.Access.ByCookie(cookie.Value)
	if err != nil {
		a.brokenAccess(w, r, err)
		return p, false
	}
	return p, true
}

// brokenAccess answers while the accounts cannot be read. Nobody gets in then.
func (a *authorizer) brokenAccess(w http.ResponseWriter, r *http.Request, err error) {
	a.cfg.Log.ErrorContext(r.Context(), "accounts not read", "err", err)
	writeProblem(w, http.StatusServiceUnavailable, "the accounts of this gateway cannot be read; its log says why")
}

// admit says whether a principal may go on, and answers if not.
func (a *authorizer) admit(w http.ResponseWriter, r *http.Request, rule rule, pattern string, p access.Principal) bool {
	if rule.who == everyone && rule.unclaimed && !rule.page {
		return true // no file is read for a sign of life
	}
	claimed, err := a.cfg.Access.Claimed()
	if err != nil {
		a.brokenAccess(w, r, err)
		return false
	}
	if !claimed && !rule.unclaimed && p.Role != access.Local {
		a.elsewhere(w, r, rule, "/claim", http.StatusForbidden, "this gateway is not claimed yet: open its page and type the code that it shows on its console, or that `commonwatt claim` prints on the machine")
		return false
	}
	if p.Role != access.Local && !rule.page {
		if err := a.cfg.Access.Request(p, remote(r)); err != nil {
			tooMany(w, err)
			return false
		}
	}
	switch {
	case rule.who&rightOf[p.Role] != 0:
		return true
	case p.Role == access.Nobody:
		a.elsewhere(w, r, rule, "/login", http.StatusUnauthorized, "log in at /login first")
	case pattern == "GET /{$}" && startPages[p.Role] != "":
		http.Redirect(w, r, startPages[p.Role], http.StatusSeeOther)
	default:
		a.cfg.Access.Note(p.Actor(remote(r)), r.Method+" "+r.URL.Path, "refused", "")
		if r.URL.Query().Has("household") {
			// Who may not see another's does not learn either whether there is such a household.
			writeProblem(w, http.StatusNotFound, "there is nothing of that household for the role "+string(p.Role)+"; what is your own is here without ?household=")
			return false
		}
		writeProblem(w, http.StatusForbidden, "this is not for the role "+string(p.Role))
	}
	return false
}

// elsewhere leads a person to another page, and tells a program why it gets nothing.
func (a *authorizer) elsewhere(w http.ResponseWriter, r *http.Request, rule rule, page string, status int, detail string) {
	if rule.page && r.Method != http.MethodPost {
		http.Redirect(w, r, page, http.StatusSeeOther)
		return
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	writeProblem(w, status, detail)
}

// tooMany answers who has to wait.
func tooMany(w http.ResponseWriter, err error) {
	setRetryAfter(w, err)
	writeProblem(w, http.StatusTooManyRequests, err.Error())
}

func setRetryAfter(w http.ResponseWriter, err error) {
	if wait := (*access.Wait)(nil); errors.As(err, &wait) {
		w.Header().Set("Retry-After", strconv.FormatInt(int64(wait.For/time.Second)+1, 10))
	}
}

// remote is the address that a request came from; the zero address if it has none.
func remote(r *http.Request) netip.Addr {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Addr().Unmap()
}

// fromHere says whether a request came from this machine, by whichever of its addresses.
func fromHere(r *http.Request) bool {
	if fromLoopback(r) {
		return true
	}
	here, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	from := remote(r)
	return ok && from.IsValid() && here.AddrPort().Addr().Unmap().WithZone("") == from.WithZone("")
}

// statusWriter remembers how a request was answered.
type statusWriter struct {
	http.ResponseWriter

	status int
}

// WriteHeader notes the status.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// cookieName is of one gateway: several of them on one machine share a browser's cookies, which
// know no ports.
func cookieName(listen net.Addr) string {
	_, port, _ := net.SplitHostPort(listen.String()) // an address of a listener has one, or it is a test's pipe
	return "__Host-commonwatt-" + port
}

// setSession hands a session to the browser, or takes it away. A browser sends it back inside TLS
// and on this machine only, no script reads it, and other sites' forms do not carry it.
func (s *Server) setSession(w http.ResponseWriter, value string) {
	c := &http.Cookie{
		Name: s.cookie, Value: value, Path: "/", HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode,
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}
