package p2p_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/commonwatt/commonwatt/p2p"
)

// pair is two connected hosts: a asks, b answers.
func pair(tb testing.TB, listen []string, asked p2p.Limits) (a, b *p2p.Host) {
	tb.Helper()
	keys := newKeys(tb, 2)
	members := newCommunity(keys...)
	b = start(tb, p2p.Config{Key: keys[0], Listen: listen, Member: members.has, Limits: asked})
	a = start(tb, p2p.Config{Key: keys[1], Listen: listen, Member: members.has, Bootstrap: b.Addrs()})
	eventually(tb, "the pair is connected", func() bool { return connected(a, b.ID()) && connected(b, a.ID()) })
	return a, b
}

const echo = "/test/echo/1"

func TestRequest(t *testing.T) {
	for name, listen := range transports {
		t.Run(name, func(t *testing.T) { testRequest(t, listen) })
	}
}

func testRequest(t *testing.T, listen []string) {
	t.Helper()
	a, b := pair(t, listen, p2p.Limits{RequestRate: 1000, RequestBurst: 1000, ReplySize: 2 << 20})
	b.Handle(echo, 1<<20, func(_ context.Context, from p2p.PeerID, request []byte) ([]byte, error) {
		if from != a.ID() {
			t.Errorf("request from %s, want %s", from, a.ID())
		}
		return request, nil
	})
	b.Handle("/test/small/1", 100, func(_ context.Context, _ p2p.PeerID, request []byte) ([]byte, error) { return request, nil })
	b.Handle("/test/fail/1", 100, func(context.Context, p2p.PeerID, []byte) ([]byte, error) {
		return nil, errors.New("no such account " + strings.Repeat("x", 300))
	})
	b.Handle("/test/huge/1", 100, func(context.Context, p2p.PeerID, []byte) ([]byte, error) { return make([]byte, 3<<20), nil })

	for _, size := range []int{0, 1, 1 << 10, 1 << 20} {
		want := bytes.Repeat([]byte{7}, size)
		got, err := a.Request(t.Context(), b.ID(), echo, want, 1<<20)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("echo of %d bytes: got %d bytes, error %v", size, len(got), err)
		}
	}
	for _, tc := range []struct {
		name, protocol string
		size, maxReply int
		want           error
	}{
		{"request above the handler's limit", "/test/small/1", 101, 0, p2p.ErrTooLarge},
		{"request far above the handler's limit", "/test/small/1", 1 << 20, 0, p2p.ErrTooLarge},
		{"request above our own limit", echo, 1<<20 + 1, 0, p2p.ErrTooLarge},
		{"reply above what we want", echo, 101, 100, p2p.ErrTooLarge},
		{"handler fails", "/test/fail/1", 1, 0, p2p.ErrRemote},
		{"reply above the answerer's limit", "/test/huge/1", 1, 0, p2p.ErrRemote},
	} {
		got, err := a.Request(t.Context(), b.ID(), tc.protocol, make([]byte, tc.size), tc.maxReply)
		if !errors.Is(err, tc.want) || got != nil {
			t.Errorf("%s: got %d bytes, error %v, want %v", tc.name, len(got), err, tc.want)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Errorf("%s: the error has %d bytes", tc.name, len(err.Error()))
		}
	}
	if _, err := a.Request(t.Context(), b.ID(), "/test/unknown/1", nil, 0); err == nil {
		t.Error("unknown protocol: got no error")
	}
	if _, err := a.Request(t.Context(), "nobody", echo, nil, 0); err == nil {
		t.Error("peer id that is none: got no error")
	}
	if s := b.Stats(); s.Oversized != 2 || s.RequestsIn != 7 {
		t.Errorf("oversized %d, requests in %d, want 2 and 7", s.Oversized, s.RequestsIn)
	}
}

// TestRequestTimeout: the asker's deadline, the answerer's, and the asker's Close.
func TestRequestTimeout(t *testing.T) {
	a, b := pair(t, both, p2p.Limits{RequestTimeout: 200 * time.Millisecond})
	ended := make(chan error, 1000)
	b.Handle("/test/slow/1", 0, func(ctx context.Context, _ p2p.PeerID, _ []byte) ([]byte, error) {
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	})
	// On a busy machine a request may need longer than that to get to the handler.
	eventually(t, "the handler ends", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := a.Request(ctx, b.ID(), "/test/slow/1", nil, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want DeadlineExceeded", err)
		}
		select {
		case err := <-ended:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the handler's context ended with %v, want DeadlineExceeded", err)
			}
			return true
		default:
			return false
		}
	})
	// Now the answerer's time is over first.
	if _, err := a.Request(t.Context(), b.ID(), "/test/slow/1", nil, 0); err == nil {
		t.Error("got no error from a handler that ran out of time")
	}
	if err := receive(t, "the handler ends again", ended); err == nil {
		t.Error("the handler's context ended without an error")
	}

	c, d := pair(t, both, p2p.Limits{})
	started := make(chan struct{})
	d.Handle("/test/stuck/1", 0, func(ctx context.Context, _ p2p.PeerID, _ []byte) ([]byte, error) {
		close(started)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	done := make(chan error, 1)
	go func() {
		_, err := c.Request(context.Background(), d.ID(), "/test/stuck/1", nil, 0)
		done <- err
	}()
	receive(t, "the handler runs", started)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := receive(t, "the request ends", done); !errors.Is(err, p2p.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// TestRequestLimits: a peer's rate and its share of handlers.
func TestRequestLimits(t *testing.T) {
	a, b := pair(t, both, p2p.Limits{RequestRate: 0.001, RequestBurst: 4, Requests: 2})
	running, finish := make(chan struct{}), make(chan struct{})
	b.Handle("/test/wait/1", 0, func(ctx context.Context, _ p2p.PeerID, _ []byte) ([]byte, error) {
		running <- struct{}{}
		<-finish
		return []byte("done"), ctx.Err()
	})
	results := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := a.Request(context.Background(), b.ID(), "/test/wait/1", nil, 0)
			results <- err
		}()
	}
	receive(t, "the first handler runs", running)
	receive(t, "the second handler runs", running)
	if _, err := a.Request(t.Context(), b.ID(), "/test/wait/1", nil, 0); !errors.Is(err, p2p.ErrBusy) {
		t.Errorf("third request at once: got %v, want ErrBusy", err)
	}
	close(finish)
	for range 2 {
		if err := receive(t, "a request ends", results); err != nil {
			t.Error(err)
		}
	}
	go func() { <-running }()
	if _, err := a.Request(t.Context(), b.ID(), "/test/wait/1", nil, 0); err != nil {
		t.Errorf("fourth request: got %v, want its reply", err)
	}
	if _, err := a.Request(t.Context(), b.ID(), "/test/wait/1", nil, 0); !errors.Is(err, p2p.ErrBusy) {
		t.Errorf("fifth request, above the rate: got %v, want ErrBusy", err)
	}
	if got := b.Stats().Limited.Requests; got != 2 {
		t.Errorf("limited %d requests, want 2", got)
	}
}

// TestRequestFromAttacker: frames that our own Request would never send.
func TestRequestFromAttacker(t *testing.T) {
	keys := newKeys(t, 2)
	h := start(t, p2p.Config{Key: keys[0], Listen: both, Member: newCommunity(keys...).has})
	handled := make(chan struct{}, 10)
	h.Handle(echo, 100, func(_ context.Context, _ p2p.PeerID, request []byte) ([]byte, error) {
		handled <- struct{}{}
		return request, nil
	})
	a := newAttacker(t, keys[1])
	if err := a.connect(t, h); err != nil {
		t.Fatal(err)
	}
	head := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	for name, in := range map[string][]byte{
		"empty":             {},
		"half a length":     head(1)[:2],
		"cut body":          append(head(5), "1234"...),
		"bytes left over":   append(head(2), "123"...),
		"announces 4 GiB":   head(1<<32 - 1),
		"above the limit":   append(head(101), make([]byte, 101)...),
		"not a frame":       []byte("GET / HTTP/1.1\r\n\r\n"),
		"length of 2³¹ - 1": append(head(1<<31-1), make([]byte, 1000)...),
	} {
		s, err := a.host.NewStream(t.Context(), peerID(t, h.ID()), echo)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.Write(in) // it may be refused before it is all written
		_ = s.CloseWrite()
		reply, _ := io.ReadAll(s)
		if len(reply) > 0 && reply[0] == 0 {
			t.Errorf("%s: got the reply %q", name, reply)
		}
	}
	if len(handled) != 0 {
		t.Errorf("%d of them reached the handler", len(handled))
	}
	if got := h.Stats().RequestsFailed; got != 8 {
		t.Errorf("failed %d requests, want 8", got)
	}
}
