package api

import (
	"bytes"
	"errors"
	"net/http"

	"github.com/commonwatt/commonwatt/agent/access"
)

// maxFormBytes is what the largest form takes: three passwords whose every byte is escaped.
const maxFormBytes = 4 << 10

// form is what the pages about access show.
type form struct {
	Title, Home, Community, Version string
	Error                           string   // why it was not done
	Done                            string   // what was done
	Name                            string   // as typed before
	Fingerprint                     []string // of the page's certificate, in two lines; nil without TLS
	LoggedIn                        bool
	Who                             access.Principal
	Claimed                         bool
	Settings                        *settingsView
	Audit                           *auditView
	Network                         *view
}

// showForm renders one of the pages about access.
func (s *Server) showForm(w http.ResponseWriter, r *http.Request, name string, status int, f form) {
	snap := snapshot(s.cfg.Provider)
	f.Home, f.Community, f.Version, f.Who = snap.Home.Name, snap.Home.Community, s.cfg.Version, principal(r)
	f.LoggedIn = f.Who.Account != ""
	if !f.LoggedIn {
		f.Home, f.Community = "", "" // strangers need not know whose it is
	}
	var b bytes.Buffer
	if err := s.pages.templates.ExecuteTemplate(&b, name, f); err != nil {
		s.cfg.Log.ErrorContext(r.Context(), "page not rendered", "page", name, "err", err)
		writeProblem(w, http.StatusInternalServerError, "the page could not be rendered; the log says why")
		return
	}
	w.Header().Set("Content-Security-Policy", formPolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // an error means that the client is gone
}

// parseForm reads a form within its bound; it answers if it cannot.
func (s *Server) parseForm(w http.ResponseWriter, r *http.Request, page string, f form) bool {
	err := r.ParseForm()
	if err == nil {
		return true
	}
	status := http.StatusBadRequest
	f.Error = "the form cannot be read"
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		status, f.Error = http.StatusRequestEntityTooLarge, "the form is larger than this page sends"
	}
	s.showForm(w, r, page, status, f)
	return false
}

// formError is the status and the words for what went wrong with a form.
func (s *Server) formError(w http.ResponseWriter, r *http.Request, err error) (int, string) {
	setRetryAfter(w, err)
	switch {
	case errors.As(err, new(*access.Wait)):
		return http.StatusTooManyRequests, err.Error()
	case errors.Is(err, access.ErrCredentials), errors.Is(err, access.ErrCode):
		return http.StatusUnauthorized, err.Error()
	case errors.As(err, new(*access.InputError)):
		return http.StatusUnprocessableEntity, err.Error()
	case errors.Is(err, access.ErrClaimed), errors.Is(err, access.ErrUnclaimed):
		return http.StatusConflict, err.Error()
	case r.Context().Err() != nil:
		return http.StatusServiceUnavailable, "the request was given up"
	default:
		s.cfg.Log.ErrorContext(r.Context(), "access not changed", "err", err)
		return http.StatusInternalServerError, "it could not be done; the gateway's log says why"
	}
}

// registerAccess adds the pages about access. Where everybody may come in they lead to the page.
func (s *Server) registerAccess(mux *routeMux) {
	add := func(pattern string, h http.HandlerFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if s.cfg.Access == nil {
				http.Redirect(w, r, "/", http.StatusSeeOther)
				return
			}
			h(w, r)
		})
	}
	add("GET /claim", s.serveClaim)
	add("POST /claim", s.takeClaim)
	add("GET /login", s.serveLogin)
	add("POST /login", s.takeLogin)
	add("POST /logout", s.takeLogout)
	add("GET /settings", s.serveSettings)
	add("POST /settings/password", s.takePassword)
	add("POST /settings/sessions", s.takeSession)
	add("POST /settings/accounts", s.takeAccount)
	add("POST /settings/accounts/remove", s.takeRemoval)
	add("GET /audit", s.serveAudit)
	mux.HandleFunc("GET /community", s.serveCommunity)
}

// fingerprint is of the certificate inside which the page is served; empty without one.
func (s *Server) fingerprint() string {
	if s.cfg.Certificate == nil {
		return ""
	}
	return s.cfg.Certificate.Fingerprint()
}

// halves break a fingerprint where a person's eye can: 16 pairs of digits a line.
func halves(fingerprint string) []string {
	if fingerprint == "" {
		return nil
	}
	half := len(fingerprint)/2 + 1
	return []string{fingerprint[:half], fingerprint[half:]}
}

func (s *Server) serveClaim(w http.ResponseWriter, r *http.Request) {
	if claimed, err := s.cfg.Access.Claimed(); err == nil && claimed {
		http.Redirect(w, r, "/login", http.StatusSeeOther)
		return
	}
	s.showForm(w, r, "claim", http.StatusOK, form{Title: "Claim this gateway", Name: "home", Fingerprint: halves(s.fingerprint())})
}

func (s *Server) takeClaim(w http.ResponseWriter, r *http.Request) {
	f := form{Title: "Claim this gateway", Fingerprint: halves(s.fingerprint())}
	if !s.parseForm(w, r, "claim", f) {
		return
	}
	f.Name = r.PostForm.Get("name")
	var err error
	cookie := ""
	if r.PostForm.Get("password") != r.PostForm.Get("again") {
		err = &access.InputError{Field: "password", Text: "the two are not the same"}
	} else {
		cookie, err = s.cfg.Access.Claim(r.Context(), remote(r), r.PostForm.Get("code"), f.Name, r.PostForm.Get("password"))
	}
	if err != nil {
		var status int
		status, f.Error = s.formError(w, r, err)
		s.showForm(w, r, "claim", status, f)
		return
	}
	s.cfg.Log.InfoContext(r.Context(), "gateway claimed", "account", f.Name, "remote", r.RemoteAddr)
	s.setSession(w, cookie)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *Server) serveLogin(w http.ResponseWriter, r *http.Request) {
	if start := startPages[principal(r).Role]; start != "" {
		http.Redirect(w, r, start, http.StatusSeeOther)
		return
	}
	s.showForm(w, r, "login", http.StatusOK, form{Title: "Log in"})
}

func (s *Server) takeLogin(w http.ResponseWriter, r *http.Request) {
	f := form{Title: "Log in"}
	if !s.parseForm(w, r, "login", f) {
		return
	}
	f.Name = r.PostForm.Get("name")
	cookie, role, err := s.cfg.Access.Login(r.Context(), remote(r), f.Name, r.PostForm.Get("password"))
	if err != nil {
		var status int
		status, f.Error = s.formError(w, r, err)
		s.showForm(w, r, "login", status, f)
		return
	}
	s.cfg.Access.Logout(principal(r), remote(r)) // what the browser held before
	s.setSession(w, cookie)
	http.Redirect(w, r, startPages[role], http.StatusSeeOther)
}

func (s *Server) takeLogout(w http.ResponseWriter, r *http.Request) {
	s.cfg.Access.Logout(principal(r), remote(r))
	s.setSession(w, "")
	http.Redirect(w, r, "/login", http.StatusSeeOther)
}
