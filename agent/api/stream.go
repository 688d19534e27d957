package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// streamEvent is the data of one "update" event: the sections that changed
// since the last event of this stream; all of them in the first.
type streamEvent struct {
	Version  string                     `json:"version" doc:"Of the agent; a page made by another one reloads itself"`
	Sections map[string]json.RawMessage `json:"sections" doc:"status, now, intervals, account as their GET routes return them; with view=page, HTML by element id"`
}

// stream is one open connection to /events. All of it belongs to its handler's goroutine.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	version string
	page    bool
	seen    map[string]json.RawMessage
}

// serveStream sends the whole state, then what changes, until the client or the
// server goes away. A Last-Event-ID is of no use, since every stream begins
// with the whole state, and does no harm.
func (s *Server) serveStream(w http.ResponseWriter, r *http.Request, page bool) {
	wake, ok := s.hub.join()
	if !ok {
		w.Header().Set("Retry-After", "10")
		writeProblem(w, http.StatusServiceUnavailable, "all "+strconv.Itoa(s.cfg.MaxStreams)+" event streams are taken; close a page, or ask GET /api/now instead")
		return
	}
	defer s.hub.leave(wake)
	st := &stream{
		w:       w,
		control: http.NewResponseController(w),
		timeout: s.cfg.WriteTimeout,
		version: s.cfg.Version,
		page:    page,
		seen:    make(map[string]json.RawMessage),
	}
	// The server's read timeout would end the request, and with it the stream.
	if err := st.control.SetReadDeadline(time.Time{}); err != nil {
		s.cfg.Log.DebugContext(r.Context(), "event stream ended", "err", err)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		return
	}
	if err := s.runStream(r, st, wake); err != nil {
		s.cfg.Log.DebugContext(r.Context(), "event stream ended", "remote", r.RemoteAddr, "err", err)
	}
}

func (s *Server) runStream(r *http.Request, st *stream, wake <-chan struct{}) error {
	if err := st.write("retry: 2000\n\n"); err != nil {
		return err
	}
	if err := s.sendLatest(st); err != nil {
		return err
	}
	who := principal(r)
	heartbeat := time.NewTicker(s.cfg.Heartbeat)
	defer heartbeat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return nil
		case <-who.Done():
			return nil // logged out
		case <-wake:
			if err := s.sendLatest(st); err != nil {
				return err
			}
		case <-heartbeat.C:
			// A session may also end by what another process does to its account.
			if s.cfg.Access != nil && !s.cfg.Access.Alive(who) {
				return nil
			}
			// An event, not a comment: a browser does not show comments to the
			// page, and the page must notice a connection that died silently.
			if err := st.write("event: heartbeat\ndata: {}\n\n"); err != nil {
				return err
			}
		}
	}
}

// sendLatest sends what changed since the last call, if anything did.
func (s *Server) sendLatest(st *stream) error {
	f := s.hub.latest()
	form := f.data
	if st.page {
		form = f.html
	}
	sections, err := form()
	if err != nil {
		s.cfg.Log.Error("event not made", "err", err) // our fault, not the client's
		return err
	}
	diff := changed(sections, st.seen)
	if len(diff) == 0 {
		return nil
	}
	data, err := encode(streamEvent{Version: st.version, Sections: diff})
	if err != nil {
		return fmt.Errorf("encoding event %d: %w", f.seq, err)
	}
	return st.write(fmt.Sprintf("id: %d\nevent: update\ndata: %s\n\n", f.seq, data))
}

// write sends one event within the write deadline, or fails: a client that does
// not read loses its stream, and nothing else waits for it.
func (st *stream) write(event string) error {
	if err := st.control.SetWriteDeadline(time.Now().Add(st.timeout)); err != nil {
		return fmt.Errorf("setting a write deadline: %w", err)
	}
	if _, err := st.w.Write([]byte(event)); err != nil {
		return fmt.Errorf("writing an event: %w", err)
	}
	if err := st.control.Flush(); err != nil {
		return fmt.Errorf("flushing an event: %w", err)
	}
	return nil
}
