package joining

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/agent/decision"
	"github.com/commonwatt/commonwatt/market"
)

const (
	requestsFolder = "requests"
	// MaxRequests bounds those who wait at one home at the same time.
	MaxRequests = 64
	// RequestDays is how long a request waits for officers.
	RequestDays = 60
)

// Requests are who asks a home's community for admission: a decision.File each, named by
// the household.
type Requests struct{ dir string }

// OpenRequests names the requests in a home's folder; it may not be there yet.
func OpenRequests(home string) Requests { return Requests{filepath.Join(home, requestsFolder)} }

// Request is one of them.
type Request struct {
	ID    market.HouseholdID
	Since time.Time // the file's
	File  *decision.File
}

func (r Requests) path(h market.HouseholdID) string {
	return filepath.Join(r.dir, h.String()+".json")
}

// List reads all requests, oldest first; those that waited too long are removed.
func (r Requests) List(now time.Time) ([]Request, error) {
	entries, err := os.ReadDir(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading requests: %w", err)
	}
	var all []Request
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), ".json")
		h, err := market.ParseHouseholdID(name)
		if !ok || err != nil || len(all) >= 2*MaxRequests {
			continue
		}
		q, err := r.Get(h)
		if err != nil {
			return nil, err
		}
		if now.Sub(q.Since) > RequestDays*24*time.Hour {
			if err := os.Remove(r.path(h)); err != nil {
				return nil, fmt.Errorf("forgetting a request: %w", err)
			}
			continue
		}
		all = append(all, *q)
	}
	slices.SortFunc(all, func(a, b Request) int { return a.Since.Compare(b.Since) })
	return all, nil
}

// Get reads one; errors.Is fs.ErrNotExist if there is none.
func (r Requests) Get(h market.HouseholdID) (*Request, error) {
	info, err := os.Stat(r.path(h))
	if err != nil {
		return nil, fmt.Errorf("reading request: %w", err)
	}
	f, err := decision.Read(r.path(h))
	if err != nil {
		return nil, fmt.Errorf("reading request: %w", err)
	}
	return &Request{ID: h, Since: info.ModTime(), File: f}, nil
}

// Find reads the one whose id begins so.
func (r Requests) Find(prefix string, now time.Time) (*Request, error) {
	all, err := r.List(now)
	if err != nil {
		return nil, err
	}
	var found []Request
	for _, q := range all {
		if strings.HasPrefix(q.ID.String(), prefix) {
			found = append(found, q)
		}
	}
	if len(found) != 1 || prefix == "" {
		return nil, fmt.Errorf("request: got %.40q, which %d of the %d that wait begin with, want one", prefix, len(found), len(all))
	}
	return &found[0], nil
}

// Put keeps a request, or replaces it. Its time is that of its first file.
func (r Requests) Put(h market.HouseholdID, f *decision.File) error {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("keeping request: %w", err)
	}
	info, err := os.Stat(r.path(h))
	if werr := f.Write(r.path(h)); werr != nil {
		return fmt.Errorf("keeping request: %w", werr)
	}
	if err == nil {
		return os.Chtimes(r.path(h), info.ModTime(), info.ModTime())
	}
	return nil
}

// Remove forgets one.
func (r Requests) Remove(h market.HouseholdID) error {
	if err := os.Remove(r.path(h)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
