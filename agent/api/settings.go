package api

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/commonwatt/commonwatt/agent/access"
)

// settingsView is what the settings page lists.
type settingsView struct {
	Accounts []accountRow // the homeowner sees them
	Sessions []sessionRow
	Roles    []access.Role
}

type accountRow struct {
	Name, Role, Since string
	Self              bool
}

type sessionRow struct {
	ID, Account, From, Began, Seen string
	Self                           bool
}

type auditView struct {
	Rows            []auditRow
	Summary, Broken string
}

type auditRow struct{ At, Who, Role, From, What, Result, Detail string }

func (s *Server) serveSettings(w http.ResponseWriter, r *http.Request) {
	s.showSettings(w, r, http.StatusOK, "", "")
}

// showSettings shows the page with what was done, or why it was not.
func (s *Server) showSettings(w http.ResponseWriter, r *http.Request, status int, done, wrong string) {
	p := principal(r)
	v := &settingsView{Roles: access.Roles}
	list, err := s.cfg.Access.Sessions(p)
	if err != nil {
		status, wrong = s.formError(w, r, err)
	}
	for _, x := range list {
		v.Sessions = append(v.Sessions, sessionRow{x.ID, x.Account, x.From, s.when(x.Began), s.when(x.Seen), x.ID == p.Session})
	}
	if p.Role == access.Homeowner {
		all, err := s.cfg.Access.Accounts()
		if err != nil {
			status, wrong = s.formError(w, r, err)
		}
		for _, a := range all {
			v.Accounts = append(v.Accounts, accountRow{a.Name, string(a.Role), s.when(a.Since), a.Name == p.Account})
		}
	}
	s.showForm(w, r, "settings", status, form{Title: "Settings", Done: done, Error: wrong, Settings: v})
}

func (s *Server) when(t time.Time) string { return t.In(s.cfg.Location).Format("2006-01-02 15:04") }

// settled shows the settings after an attempt to change them.
func (s *Server) settled(w http.ResponseWriter, r *http.Request, done string, err error) {
	if err != nil {
		status, wrong := s.formError(w, r, err)
		s.showSettings(w, r, status, "", wrong)
		return
	}
	s.showSettings(w, r, http.StatusOK, done, "")
}

func (s *Server) takePassword(w http.ResponseWriter, r *http.Request) {
	if !s.parseForm(w, r, "settings", form{Title: "Settings", Settings: &settingsView{}}) {
		return
	}
	p := principal(r)
	if r.PostForm.Get("password") != r.PostForm.Get("again") {
		s.settled(w, r, "", &access.InputError{Field: "password", Text: "the two are not the same"})
		return
	}
	cookie, err := s.cfg.Access.ChangePassword(r.Context(), p, remote(r), r.PostForm.Get("old"), r.PostForm.Get("password"))
	if err != nil {
		s.settled(w, r, "", err)
		return
	}
	s.setSession(w, cookie)
	// The page shall show the session that began, not the one that is over.
	if fresh, err := s.cfg.Access.ByCookie(cookie); err == nil {
		r = r.WithContext(context.WithValue(r.Context(), principalKey{}, fresh))
	}
	s.settled(w, r, "The password is changed. Everybody else who was logged in with the old one is logged out.", nil)
}

func (s *Server) takeSession(w http.ResponseWriter, r *http.Request) {
	if !s.parseForm(w, r, "settings", form{Title: "Settings", Settings: &settingsView{}}) {
		return
	}
	err := s.cfg.Access.EndSession(principal(r), remote(r), r.PostForm.Get("session"))
	s.settled(w, r, "The session is ended.", err)
}

func (s *Server) takeAccount(w http.ResponseWriter, r *http.Request) {
	if !s.parseForm(w, r, "settings", form{Title: "Settings", Settings: &settingsView{}}) {
		return
	}
	name := r.PostForm.Get("name")
	password, err := s.cfg.Access.AddAccount(r.Context(), principal(r), remote(r), name, access.Role(r.PostForm.Get("role")), "")
	s.settled(w, r, "The account "+name+" is made. Its password, shown this once: "+password, err)
}

func (s *Server) takeRemoval(w http.ResponseWriter, r *http.Request) {
	if !s.parseForm(w, r, "settings", form{Title: "Settings", Settings: &settingsView{}}) {
		return
	}
	name := r.PostForm.Get("name")
	err := s.cfg.Access.Remove(principal(r).Actor(remote(r)), name)
	s.settled(w, r, "The account "+name+" is removed.", err)
}

// auditShown is how many lines the page shows.
const auditShown = 200

func (s *Server) serveAudit(w http.ResponseWriter, r *http.Request) {
	f := form{Title: "Audit log"}
	status := http.StatusOK
	t, err := s.cfg.Access.Audit(auditShown)
	if err != nil {
		status, f.Error = s.formError(w, r, err)
	}
	f.Audit = s.newAuditView(t)
	s.showForm(w, r, "audit", status, f)
}

func (s *Server) newAuditView(t access.Trail) *auditView {
	v := &auditView{Broken: t.Broken}
	if t.Last > 0 {
		v.Summary = "Lines " + formatCount(&t.First) + " to " + formatCount(&t.Last) + " are kept. Each carries the hash of the one before; the newest is " + t.Head + "."
	}
	for _, e := range slices.Backward(t.Entries) {
		v.Rows = append(v.Rows, auditRow{e.At.In(s.cfg.Location).Format("2006-01-02 15:04:05"), e.Who, string(e.Role), e.From, e.What, e.Result, e.Detail})
	}
	return v
}

// serveCommunity shows the network: what is not one household's.
func (s *Server) serveCommunity(w http.ResponseWriter, r *http.Request) {
	snap := snapshot(s.cfg.Provider)
	shown := Snapshot{At: snap.At, WallAt: snap.WallAt, Home: Home{Community: snap.Home.Community, Rate: snap.Home.Rate}, Grid: snap.Grid}
	shown.Account.Currency = snap.Account.Currency
	for _, p := range snap.Problems {
		if p.Code == ProblemDoubleVote { // it is everybody's
			shown.Problems = append(shown.Problems, p)
		}
	}
	if snap.Grid != nil && principal(r).Role == access.Operator {
		g := snap.Grid.aggregated()
		shown.Grid = &g
	}
	v := newView(shown, s.cfg.Version, s.cfg.Location)
	s.showForm(w, r, "community", http.StatusOK, form{Title: "Community", Network: &v})
}

// Claim is how the gateway is claimed.
type Claim struct {
	Claimed     bool   `json:"claimed"`
	Code        string `json:"code,omitempty" doc:"Of this start, until it is claimed"`
	Fingerprint string `json:"fingerprint,omitempty" doc:"SHA-256 of the page's certificate"`
}

// registerAccounts adds what programs ask about access.
func (s *Server) registerAccounts(api huma.API) {
	const open = "this gateway is open: it has neither code, accounts nor audit log"
	get(api, "claim", "/api/claim", "The code that claims the gateway, for its own commands",
		func(context.Context, *struct{}) (*output[Claim], error) {
			if s.cfg.Access == nil {
				return nil, huma.Error404NotFound(open)
			}
			claimed, err := s.cfg.Access.Claimed()
			if err != nil {
				return nil, err
			}
			c := Claim{Claimed: claimed, Fingerprint: s.fingerprint()}
			if !claimed {
				if c.Code, err = s.cfg.Access.Code(); err != nil {
					return nil, err
				}
			}
			return &output[Claim]{c}, nil
		})
	type auditInput struct {
		Limit int `query:"limit" minimum:"0" maximum:"10000" default:"100" doc:"The newest so many"`
	}
	get(api, "audit", "/api/audit", "Who did what at this gateway",
		func(_ context.Context, in *auditInput) (*output[access.Trail], error) {
			if s.cfg.Access == nil {
				return nil, huma.Error404NotFound(open)
			}
			t, err := s.cfg.Access.Audit(in.Limit)
			return &output[access.Trail]{t}, err
		})
}
