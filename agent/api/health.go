package api

import (
	"encoding/json"
	"net/http"
)

// Reason is one thing that keeps the agent from being ready.
type Reason struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

// Readiness is the answer of /readyz.
type Readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []Reason `json:"reasons"`
}

// notReady lists why the home cannot trade and be settled now.
func notReady(s Snapshot) []Reason {
	reasons := []Reason{}
	add := func(code, text string) { reasons = append(reasons, Reason{Code: code, Text: text}) }
	if s.Home.ID == "" {
		add("no_household", "this agent does not know which household it is")
	}
	connection := false
	for _, m := range s.Meters {
		if m.Role != MeterConnection {
			continue
		}
		connection = true
		if m.State != MeterOK {
			add("meter_"+string(m.State), "the meter at the connection is "+string(m.State)+withNote(m.Note))
		}
	}
	if !connection {
		add("no_meter", "no meter at the connection is configured")
	}
	if s.Ledger.Height == nil {
		add("no_ledger", "this agent has no block of the ledger yet")
	}
	if s.Ledger.CatchingUp {
		add("catching_up", "the ledger is catching up")
	}
	if s.Ledger.WaitingFor != "" {
		add("ledger_waiting", "the ledger is "+s.Ledger.WaitingFor)
	}
	for _, p := range s.Problems {
		if p.Severity == SeverityError {
			add(p.Code, p.Text)
		}
	}
	return reasons
}

func withNote(note string) string {
	if note == "" {
		return ""
	}
	return ": " + note
}

// serveLive answers if the server and the Provider do.
func (s *Server) serveLive(w http.ResponseWriter, _ *http.Request) {
	s.cfg.Provider.Snapshot()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	reasons := notReady(snapshot(s.cfg.Provider))
	w.Header().Set("Content-Type", "application/json")
	if len(reasons) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(Readiness{Ready: len(reasons) == 0, Reasons: reasons})
}
