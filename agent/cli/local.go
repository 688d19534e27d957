package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"github.com/commonwatt/commonwatt/agent/access"
	"github.com/commonwatt/commonwatt/agent/household"
)

// call puts a question to the running agent of the home in a folder, with the token that the
// agent left there for whoever may read it. The answer is bounded.
func call(ctx context.Context, method string, cfg household.Config, home, path string, body []byte, most int64, within time.Duration) (status int, answer []byte, err error) {
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
