package access

import (
	"net/netip"
	"sync"
	"time"
)

// limiter is a token bucket for each key: burst attempts at once, then one every gap. At most
// most keys have a bucket of their own; when all are in use, the others share one, so that
// whoever comes from ever new addresses holds up others like them and nobody else.
type limiter struct {
	burst int
	gap   time.Duration
	most  int
	now   func() time.Time

	mu      sync.Mutex
	buckets map[string]time.Time // when the bucket will be full again
	shared  time.Time
}

func newLimiter(burst int, gap time.Duration, most int, now func() time.Time) *limiter {
	return &limiter{burst: burst, gap: gap, most: most, now: now, buckets: map[string]time.Time{}}
}

// take uses one attempt up, or says how long to wait for the next.
func (l *limiter) take(key string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	full, own := l.buckets[key]
	if !own && len(l.buckets) >= l.most {
		l.sweep(now)
	}
	if own = own || len(l.buckets) < l.most; !own {
		full = l.shared
	}
	if full.Before(now) {
		full = now
	}
	// A full bucket has burst attempts: the one after next is paid for when full lies burst gaps ahead.
	if ahead := full.Add(l.gap).Sub(now); ahead > time.Duration(l.burst)*l.gap {
		return &Wait{For: ahead - time.Duration(l.burst)*l.gap}
	}
	l.put(key, own, full.Add(l.gap))
	return nil
}

// giveBack returns an attempt that was no guess.
func (l *limiter) giveBack(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if full, own := l.buckets[key]; own {
		l.put(key, true, full.Add(-l.gap))
	}
}

func (l *limiter) put(key string, own bool, full time.Time) {
	switch {
	case !own:
		l.shared = full
	case full.After(l.now()):
		l.buckets[key] = full
	default:
		delete(l.buckets, key)
	}
}

// sweep forgets the buckets that are full again.
func (l *limiter) sweep(now time.Time) {
	for key, full := range l.buckets {
		if !full.After(now) {
			delete(l.buckets, key)
		}
	}
}

// addressKey is what counts as one stranger: an IPv4 address, or the network of an IPv6 one, in
// which a home has as many addresses as it likes.
func addressKey(a netip.Addr) string {
	if a = a.Unmap().WithZone(""); a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
