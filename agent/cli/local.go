package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/commonwatt/commonwatt/agent/access"
	"github.com/commonwatt/commonwatt/agent/household"
)

// How long, and how often, an agent that lives is asked again when its page does not answer:
// it may have begun a moment ago.
const (
	startPatience = 5 * time.Second
	startEvery    = 200 * time.Millisecond
)

// call puts a question to the running agent of the home in a folder, with the token that the
// agent left there for whoever may read it. The answer is bounded. An agent that lives and is
// not ready yet is asked again for a while.
func call(ctx context.Context, method string, cfg household.Config, home, path string, body []byte, most int64, within time.Duration) (status int, answer []byte, err error) {
	for until := time.Now().Add(startPatience); ; {
		status, answer, err = callOnce(ctx, method, cfg, home, path, body, most, within)
		if !mayAskAgain(err, method) || agentPID(home) == 0 || !time.Now().Before(until) {
			return status, answer, said(err, cfg)
		}
		select {
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		case <-time.After(startEvery):
		}
	}
}

// mayAskAgain: nobody took the question, or whoever did hung up on one that changes nothing.
func mayAskAgain(err error, method string) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || method == http.MethodGet && hungUp(err)
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// said puts into words that nothing came back.
func said(err error, cfg household.Config) error {
	page := cfg.Listen.PageURL(cfg.Listen.API)
	var timeout interface{ Timeout() bool }
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing answers at %s", page)
	case hungUp(err):
		return fmt.Errorf("what listens at %s hung up without an answer", page)
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("what listens at %s gave no answer in time", page)
	}
	return err
}

// agentPID is the process of a home's agent, 0 if there is none that lives. A file that a
// power failure left behind may name another program's.
func agentPID(home string) int {
	raw, err := os.ReadFile(filepath.Join(home, household.PIDFile)) //nolint:gosec // the home's own folder
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid < 2 {
		return 0
	}
	if err := syscall.Kill(pid, 0); err != nil && !errors.Is(err, syscall.EPERM) {
		return 0
	}
	its, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	own, ownErr := os.Executable()
	if err == nil && ownErr == nil && program(its) != program(own) {
		return 0
	}
	return pid // perhaps another user's, who does not show it
}

// program is the name of an executable, also of one that was updated meanwhile.
func program(path string) string { return strings.TrimSuffix(filepath.Base(path), " (deleted)") }

func callOnce(ctx context.Context, method string, cfg household.Config, home, path string, body []byte, most int64, within time.Duration) (status int, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, cfg.Listen.PageURL(cfg.Listen.API)+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	switch token, err := access.ReadToken(home); {
	case err == nil:
		req.Header.Set("Authorization", "Bearer "+token)
	case errors.As(err, new(*access.ExposedError)):
		return 0, nil, &problem{exitUsage, err, "and start the agent again: whoever read it could do what you can until then"}
	case !errors.Is(err, fs.ErrNotExist): // there is none before the first start
		return 0, nil, err
	}
	client, err := localClient(cfg, home)
	if err != nil {
		return 0, nil, err
	}
	defer client.CloseIdleConnections()
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close() //nolint:errcheck // only read from
	raw, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	if err != nil {
		return 0, nil, err
	}
	if int64(len(raw)) > most {
		return 0, nil, fmt.Errorf("%s answered with more than %d bytes", path, most)
	}
	return res.StatusCode, raw, nil
}

// localClient takes, inside TLS, the certificate that is in the home's folder and no other.
func localClient(cfg household.Config, home string) (*http.Client, error) {
	if !cfg.Listen.UsesTLS() {
		return &http.Client{Transport: &http.Transport{}}, nil
	}
	pinned, err := access.Pinned(home)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("it has no certificate yet: it makes one at its first start")
	}
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: pinned}}, nil
}
