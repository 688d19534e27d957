package bed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Client makes HTTP requests as a program in a place or a home would.
func (b *Bed) Client(name string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return DialIn(ctx, "/run/netns/"+name, network, addr)
		},
	}}
}

// DialIn makes a connection in the namespace at a path. Threads are in namespaces, not goroutines: the
// one that goes there is kept for this and ends with it.
func DialIn(ctx context.Context, space, network, addr string) (net.Conn, error) {
	type dialled struct {
		conn net.Conn
		err  error
	}
	done := make(chan dialled, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread goes when the goroutine ends
		var d dialled
		if d.err = enter(space); d.err == nil {
			// Addresses are numbers: a resolver might use another thread.
			d.conn, d.err = (&net.Dialer{FallbackDelay: -1}).DialContext(ctx, network, addr)
		}
		done <- d
	}()
	d := <-done
	return d.conn, d.err
}

func enter(space string) error {
	f, err := os.Open(space) //nolint:gosec // one of the bed's own
	if err != nil {
		return err
	}
	err = unix.Setns(int(f.Fd()), unix.CLONE_NEWNET)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("entering %s: %w", space, err)
	}
	return nil
}
