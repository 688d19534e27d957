package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/commonwatt/commonwatt/market/ledger"
)

// notifier tells the service manager how the agent is, as sd_notify(3) has it: words in datagrams
// to the socket that the environment names.
type notifier struct {
	socket string
	every  time.Duration // between two signs of life
	log    *slog.Logger
}

// Times of the notifier.
const (
	notifyStart = 250 * time.Millisecond // between two looks whether the agent is ready
	notifyIdle  = 20 * time.Second       // between two looks, where nobody watches
	oldestView  = 45 * time.Second       // of the home's picture: its loop makes one every ten seconds
	livezWithin = 5 * time.Second
)

// newNotifier reads the environment; nil: nobody wants to know.
func newNotifier(getenv func(string) string, log *slog.Logger) *notifier {
	n := &notifier{socket: getenv("NOTIFY_SOCKET"), every: notifyIdle, log: log}
	if n.socket == "" {
		return nil
	}
	// A watchdog that is meant for another process is none of ours.
	if pid := getenv("WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
		if usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && usec > 0 && usec < int64(24*time.Hour/time.Microsecond) {
			n.every = time.Duration(usec) * time.Microsecond / 3
		}
	}
	return n
}

// send hands a word to the service manager.
func (n *notifier) send(ctx context.Context, word string) error {
	c, err := new(net.Dialer).DialContext(ctx, "unixgram", n.socket)
	if err != nil {
		return fmt.Errorf("telling the service manager %s: %w", word, err)
	}
	_, err = c.Write([]byte(word + "\n"))
	if err = errors.Join(err, c.Close()); err != nil {
		return fmt.Errorf("telling the service manager %s: %w", word, err)
	}
	return nil
}

// run says READY=1 once alive finds nothing wrong, and WATCHDOG=1 as long as it does. If it finds
// something or does not return, nothing is said, and the service manager starts the agent again.
func (n *notifier) run(ctx context.Context, alive func(context.Context) error) {
	word, gap := "READY=1", min(notifyStart, n.every)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			if err := n.send(context.WithoutCancel(ctx), "STOPPING=1"); err != nil {
				n.log.DebugContext(ctx, "end not told", "err", err)
			}
			return
		case <-timer.C:
		}
		err := alive(ctx)
		if err == nil {
			if err = n.send(ctx, word); err == nil {
				word, gap = "WATCHDOG=1", n.every
			}
		}
		if err != nil && ctx.Err() == nil {
			n.log.WarnContext(ctx, "no sign of life for the service manager", "instead_of", word, "err", err)
		}
		timer.Reset(gap)
	}
}

// alive looks whether the agent's loops turn: the home makes new pictures, the ledger can be
// read, the page answers over the network.
func (g *gateway) alive(ctx context.Context) error {
	if age := time.Since(g.home.Snapshot().WallAt); age > oldestView {
		return fmt.Errorf("the home's loop has made no picture for %v", age.Round(time.Second))
	}
	g.ledger.Read(func(*ledger.State) {})
	ctx, cancel := context.WithTimeout(ctx, livezWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.cfg.Listen.PageURL(g.page.Addr())+"/livez", nil)
	if err != nil {
		return err
	}
	client, err := localClient(g.cfg, g.dir)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("the page does not answer: %w", err)
	}
	defer res.Body.Close() //nolint:errcheck // nothing is read from it
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("the page answers %s", res.Status)
	}
	return nil
}
