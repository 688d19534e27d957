package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
)

// event is one server-sent event.
type event struct{ id, name, data, retry string }

func (e event) sections(t *testing.T) map[string]json.RawMessage {
	t.Helper()
	var body struct {
		Version  string
		Sections map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(e.data), &body); err != nil {
		t.Fatalf("%v in %q", err, e.data)
	}
	return body.Sections
}

// reader reads a stream, event by event.
type reader struct {
	scan  *bufio.Scanner
	close func()
}

func newReader(r io.Reader, closer func()) *reader {
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, 4<<20)
	return &reader{scan: scan, close: closer}
}

// read returns the next event, or an error when the stream has ended.
func (r *reader) read() (event, error) {
	var e event
	for r.scan.Scan() {
		name, value, _ := strings.Cut(r.scan.Text(), ": ")
		switch name {
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			e.data = value
		case "retry":
			e.retry = value
		case "":
			return e, nil
		default:
			return e, fmt.Errorf("a line that is no field: %q", r.scan.Text())
		}
	}
	return e, cmpErr(r.scan.Err(), io.EOF)
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// next returns the next event of a name, and passes over the others.
func (r *reader) next(t *testing.T, name string) event {
	t.Helper()
	for {
		e, err := r.read()
		if err != nil {
			t.Fatalf("waiting for an event named %s: %v", name, err)
		}
		if e.name == name {
			return e
		}
	}
}

// openStream opens a stream over a real connection; it ends with the test.
func openStream(t *testing.T, url string) *reader {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Last-Event-ID", "18446744073709551615; drop table") // it must do no harm
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	closer := func() {
		cancel()
		resp.Body.Close()
	}
	t.Cleanup(closer)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("got %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	return newReader(resp.Body, closer)
}

func keys(m map[string]json.RawMessage) string {
	var out []string
	for _, k := range []string{"status", "now", "intervals", "account"} {
		if _, ok := m[k]; ok {
			out = append(out, k)
		}
	}
	if len(out) != len(m) {
		return fmt.Sprintf("%d sections, among them %v", len(m), out)
	}
	return strings.Join(out, " ")
}

func TestStreamSendsAllThenWhatChanged(t *testing.T) {
	h := newHome(sunny())
	s := serve(t, api.Config{Provider: h, StreamGap: time.Millisecond})
	st := openStream(t, s.url+"/events")
	if e, err := st.read(); err != nil || e.retry != "2000" {
		t.Errorf("the first thing is %+v, %v, expected a retry time", e, err)
	}
	first := st.next(t, "update")
	if got, want := keys(first.sections(t)), "status now intervals account"; got != want || first.id == "" {
		t.Errorf("the first event has %s and id %q, expected %s and an id", got, first.id, want)
	}
	for path, section := range map[string]string{"/api/status": "status", "/api/now": "now", "/api/account": "account"} {
		if _, body := get(t, s.url+path); strings.TrimSpace(body) != string(first.sections(t)[section]) {
			t.Errorf("%s differs between its route and the stream:\n%s\n%s", section, body, first.sections(t)[section])
		}
	}

	eventually(t, "the hub's subscription", func() bool { return h.subscribed() == 1 })
	snap := sunny()
	snap.Account.Balance = p[int64](-7)
	h.set(snap)
	second := st.next(t, "update")
	if got, want := keys(second.sections(t)), "account"; got != want || second.id == first.id {
		t.Errorf("after a payment the event has %s and id %s, expected %s and another id than %s", got, second.id, want, first.id)
	}
	if got := string(second.sections(t)["account"]); !strings.Contains(got, `"balance_micro":-7`) {
		t.Errorf("the account is %s", got)
	}
	// A second stream begins with everything.
	if got := keys(openStream(t, s.url+"/events").next(t, "update").sections(t)); got != "status now intervals account" {
		t.Errorf("a second stream begins with %s", got)
	}
}

func TestStreamsAreLimited(t *testing.T) {
	s := serve(t, api.Config{Provider: newHome(sunny()), MaxStreams: 2})
	one := openStream(t, s.url+"/events")
	one.next(t, "update")
	openStream(t, s.url+"/events?view=page").next(t, "update")
	resp, body := get(t, s.url+"/events")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "10" || !strings.Contains(body, "all 2 event streams") {
		t.Errorf("the third stream: got %s, Retry-After %q, %s", resp.Status, resp.Header.Get("Retry-After"), body)
	}
	if resp, _ := get(t, s.url+"/api/now"); resp.StatusCode != http.StatusOK {
		t.Errorf("with all streams taken /api/now says %s", resp.Status)
	}
	one.close()
	eventually(t, "a free stream", func() bool { return streams(t, s) == 1 })
	openStream(t, s.url+"/events").next(t, "update")
}

func TestShutdownEndsStreams(t *testing.T) {
	s := serve(t, api.Config{Provider: newHome(sunny())})
	st := openStream(t, s.url+"/events")
	st.next(t, "update")
	s.stop()
	for {
		if _, err := st.read(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("the stream ended with %v, expected its end", err)
			}
			return
		}
	}
}

// pipes is a listener whose connections are in memory, so that they obey the
// virtual time of a synctest bubble and have no buffers in between.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// dial sends a request head and returns the connection, whose answer nobody has read.
func (l *pipes) dial(t *testing.T, head string) net.Conn {
	t.Helper()
	here, there := net.Pipe()
	l.conns <- there
	if _, err := io.WriteString(here, head); err != nil {
		t.Fatal(err)
	}
	return here
}

const eventsHead = "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"

// stream reads the answer of a stream up to its events.
func stream(t *testing.T, conn net.Conn) *reader {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("got %v, %v", resp, err)
	}
	return newReader(resp.Body, func() { conn.Close() })
}

// inBubble runs a server on pipes in virtual time, with every default.
func inBubble(t *testing.T, test func(t *testing.T, h *home, l *pipes, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h, l := newHome(sunny()), newPipes()
		server, err := api.New(api.Config{Listener: l, Provider: h, Open: true, Log: slog.New(slog.DiscardHandler), Location: time.UTC})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- server.Run(ctx) }()
		stopped := false
		stop := func() {
			if stopped {
				return
			}
			stopped = true
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		}
		defer stop()
		synctest.Wait()
		test(t, h, l, stop)
	})
}

// A quiet stream lives on, far beyond every timeout, and proves it.
func TestHeartbeat(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *home, l *pipes, _ func()) {
		conn := l.dial(t, eventsHead)
		defer conn.Close()
		st := stream(t, conn)
		st.next(t, "update")
		begin := time.Now()
		for range 20 { // five minutes
			before := time.Now()
			e, err := st.read()
			if err != nil {
				t.Fatalf("after %s: %v", time.Since(begin), err)
			}
			if silence := time.Since(before); e.name != "heartbeat" || silence > 15*time.Second {
				t.Fatalf("got %+v after %s of silence, expected a heartbeat within 15 s", e, silence)
			}
		}
	})
}

// However fast the home changes, a stream gets two events a second, and the
// last state within half a second.
func TestChangesAreCoalesced(t *testing.T) {
	inBubble(t, func(t *testing.T, h *home, l *pipes, _ func()) {
		conn := l.dial(t, eventsHead)
		defer conn.Close()
		st := stream(t, conn)
		st.next(t, "update")
		updates := make(chan event, 1000)
		go func() {
			defer close(updates)
			for {
				e, err := st.read()
				if err != nil {
					return
				}
				if e.name == "update" {
					updates <- e
				}
			}
		}()
		for n := range int64(10_000) { // ten seconds, a change each millisecond
			snap := sunny()
			snap.Account.Settlements = n
			snap.Intervals = nil
			h.set(snap)
			time.Sleep(time.Millisecond) // virtual
		}
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		conn.Close()
		var got []event
		for e := range updates {
			got = append(got, e)
		}
		if len(got) < 20 || len(got) > 22 {
			t.Errorf("got %d events in ten seconds, expected two a second", len(got))
		}
		if last := string(got[len(got)-1].sections(t)["account"]); !strings.Contains(last, `"settlements":9999}`) {
			t.Errorf("the last event has %s, expected the last change", last)
		}
	})
}

// A client that does not read loses its stream after one write deadline, and
// holds up nobody meanwhile.
func TestSlowClient(t *testing.T) {
	inBubble(t, func(t *testing.T, h *home, l *pipes, _ func()) {
		slow := l.dial(t, eventsHead) // a pipe has no buffer: the first write hangs
		defer slow.Close()
		begin := time.Now()
		good := l.dial(t, eventsHead)
		defer good.Close()
		st := stream(t, good)
		st.next(t, "update")
		snap := sunny()
		snap.Account.Settlements = 7
		h.set(snap)
		st.next(t, "update")
		if waited := time.Since(begin); waited > time.Second {
			t.Errorf("the good client waited %s for a change, expected no more than the gap", waited)
		}
		if open := openStreams(t, l); open != 2 {
			t.Fatalf("got %d open streams, expected both", open)
		}
		time.Sleep(5*time.Second - time.Since(begin)) // virtual
		synctest.Wait()
		if open := openStreams(t, l); open != 1 {
			t.Errorf("got %d open streams after the write deadline, expected the slow one to be gone", open)
		}
		if _, err := io.ReadAll(slow); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the slow client's connection: %v, expected its end", err)
		}
	})
}

// openStreams counts through the count of the limit's answer: with 64 streams
// allowed, so many more are let in.
func openStreams(t *testing.T, l *pipes) int {
	t.Helper()
	var extra []net.Conn
	defer func() {
		for _, c := range extra {
			c.Close()
		}
		synctest.Wait()
	}()
	for n := range 65 {
		conn := l.dial(t, eventsHead)
		extra = append(extra, conn)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode == http.StatusServiceUnavailable {
			return 64 - n
		}
	}
	t.Fatal("no limit of 64 streams")
	return 0
}

// Even a client that hangs in a write does not hold up the shutdown for longer
// than its deadline.
func TestShutdownWithASlowClient(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *home, l *pipes, stop func()) {
		slow := l.dial(t, eventsHead)
		defer slow.Close()
		synctest.Wait()
		begin := time.Now()
		stop()
		if took := time.Since(begin); took > 6*time.Second {
			t.Errorf("the shutdown took %s, expected one write deadline", took)
		}
	})
}

// A client that never finishes its request, or does nothing at all, is put out.
func TestSlowRequests(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *home, l *pipes, _ func()) {
		for name, c := range map[string]struct {
			head string
			want time.Duration
		}{
			"half a header": {"GET / HTTP/1.1\r\nHost: local", 5 * time.Second},
			"nothing":       {"", 5 * time.Second},
			"half a body":   {"GET /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf", 11 * time.Second},
			"idle":          {"HEAD /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", 61 * time.Second},
		} {
			begin := time.Now()
			conn := l.dial(t, c.head)
			if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("%s: %v", name, err)
			}
			conn.Close()
			if took := time.Since(begin); took > c.want {
				t.Errorf("%s: the connection was kept for %s, expected %s at most", name, took, c.want)
			}
		}
	})
}
