package street

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// recorder notes what it was asked to push, and at which community time.
type recorder struct {
	name   string
	street *Street
	notes  *[]string
	err    error
	pushed chan int64 // nil: nobody waits
}

func (r recorder) Push(ctx context.Context, index int64) error {
	if r.pushed != nil {
		select {
		case r.pushed <- index:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	*r.notes = append(*r.notes, fmt.Sprint(r.name, " ", r.street.At(index).Format(time.TimeOnly), " at ", r.street.Now().Format(time.TimeOnly)))
	return r.err
}

func manualStreet(t *testing.T) *Street {
	t.Helper()
	cfg := testConfig(t)
	cfg.Clock.Manual = true
	s, err := New(cfg, func() time.Time { panic("a manual clock does not look at the wall") })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestMove(t *testing.T) {
	s := manualStreet(t)
	var notes []string
	s.Push(recorder{name: "a", street: s, notes: &notes}, recorder{name: "b", street: s, notes: &notes, err: errors.New("nobody is there")})
	if err := s.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	moved, err := s.Move(t.Context(), epoch.Add(6*time.Minute)) // 08:01 to 08:07, refreshes at 08:03 and 08:06
	if err != nil || moved != (Moved{Refreshes: 2, Sent: 2, Lost: 2}) {
		t.Errorf("%+v, %v", moved, err)
	}
	want := []string{"a 08:03:00 at 08:03:00", "b 08:03:00 at 08:03:00", "a 08:06:00 at 08:06:00", "b 08:06:00 at 08:06:00"}
	if diff := cmp.Diff(want, notes); diff != "" {
		t.Error(diff)
	}
	if now := s.Now(); !now.Equal(epoch.Add(6 * time.Minute)) {
		t.Errorf("it is %v", now)
	}
	if _, err := s.Move(t.Context(), epoch); !errors.Is(err, ErrBackwards) {
		t.Errorf("got %v, want ErrBackwards", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Move(ctx, epoch.Add(time.Hour)); !errors.Is(err, context.Canceled) || !s.Now().Equal(epoch.Add(8*time.Minute)) {
		t.Errorf("%v; it is %v, want the next refresh", err, s.Now())
	}
	runs, _ := testStreet(t, start)
	if _, err := runs.Move(t.Context(), epoch.Add(time.Hour)); !errors.Is(err, ErrRuns) {
		t.Errorf("got %v, want ErrRuns", err)
	}
}

// TestRunPushesAtEachRefresh in a bubble of virtual time.
func TestRunPushesAtEachRefresh(t *testing.T) {
	cfg := testConfig(t)
	synctest.Test(t, func(t *testing.T) {
		cfg.Clock.Start = time.Now()
		s, err := New(cfg, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		pushed := make(chan int64)
		s.Push(recorder{pushed: pushed})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		for i := int64(1); i <= 5; i++ {
			if index := <-pushed; index != s.first+i {
				t.Errorf("push %d is of refresh %d", i, index-s.first)
			}
		}
		time.Sleep(10 * time.Second) // of the bubble: five refreshes, the first of them waits
		<-pushed
		if index := <-pushed; index < s.first+9 {
			t.Errorf("after a pause refresh %d is pushed, want the newest", index-s.first)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
