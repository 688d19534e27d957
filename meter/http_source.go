package meter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/meter/def"
	"github.com/commonwatt/commonwatt/meter/httpjson"
)

// parseHTTP reads http://HOST[:PORT][/PATH]. For JSON the path is put before those of the definition; for telegrams it is
// instead of it.
func parseHTTP(usualPort string) func(string, def.Definition) (address, error) {
	return func(text string, d def.Definition) (address, error) {
		u, host, err := splitURL(text, usualPort)
		if err != nil {
			return address{}, err
		}
		path := strings.TrimSuffix(u.EscapedPath(), "/")
		if d.P1 != nil && path == "" {
			path = d.P1.Path
		}
		if d.P1 != nil && path == "" {
			return address{}, errors.New("the path at which there is the telegram")
		}
		if len(path) > 256 {
			return address{}, errors.New("a path of at most 256 characters")
		}
		return address{host: host, path: path}, nil
	}
}

func openHTTP(c Config, d Definition, a address) (Source, error) {
	o := httpjson.Options{Username: c.Username, Password: c.Password, Timeout: c.Timeout, MaxBody: def.MaxAnswer, Log: c.Log}
	if a.scheme == "https" {
		var err error
		if o.TLS, err = c.TLS.clientConfig(); err != nil {
			return nil, err
		}
	}
	pool := c.HTTPPool
	if pool == nil {
		pool = httpjson.NewPool(httpjson.Options{})
	}
	client, release := pool.Get(a.scheme, a.host, o)
	if d.P1 != nil {
		return &p1HTTPSource{telegrams: telegrams{def: d, decoder: d.NewTelegramDecoder()}, client: client, release: release, path: a.path, now: c.Now}, nil
	}
	return &httpSource{def: d, decoder: d.NewAnswerDecoder(), client: client, release: release, prefix: a.path, now: c.Now}, nil
}

// httpSource asks a device for the messages of its definition.
type httpSource struct {
	def     Definition
	decoder *def.Decoder
	client  *httpjson.Client
	release func() error
	prefix  string // of all paths
	now     func() time.Time
	known   bool // the device has answered before
}

func (s *httpSource) Push() bool             { return false }
func (s *httpSource) Definition() Definition { return s.def }
func (s *httpSource) Close() error           { return s.release() }

func (s *httpSource) Identity(ctx context.Context) (Identity, error) {
	if !s.known {
		if _, err := s.Read(ctx); err != nil {
			return Identity{}, err
		}
	}
	return s.decoder.Identity(), nil
}

// Read asks for all messages; the values are of some moment between the first question and the last answer.
func (s *httpSource) Read(ctx context.Context) (Sample, error) {
	asked := s.now()
	answers := make(map[string][]byte, len(s.def.HTTP.Messages))
	for _, m := range s.def.HTTP.Messages {
		body, err := s.client.Get(ctx, s.prefix+m.Path)
		if err != nil {
			return Sample{}, fmt.Errorf("meter %s: %w", s.def.ID, err)
		}
		answers[m.Name] = body
	}
	at := s.now()
	sample, err := answered(s.def, s.decoder, s.known, answers, at)
	if err != nil {
		return Sample{}, fmt.Errorf("meter %s: %w", s.def.ID, err)
	}
	s.known = true
	sample.AskedAt = asked
	return sample, nil
}

// answered makes a sample of answers; it is the part of the source that needs no network.
func answered(d Definition, decoder *def.Decoder, known bool, answers map[string][]byte, at time.Time) (Sample, error) {
	before := decoder.Identity()
	v, err := decoder.Answers(answers, at)
	if err != nil {
		return Sample{}, fmt.Errorf("%w: %w", ErrPayload, err)
	}
	sample := sampleOf(v, at, d)
	sample.Identity = decoder.Identity()
	for _, m := range d.HTTP.Messages {
		sample.Raw = fmt.Appendf(sample.Raw, "%s: %s\n", m.Name, bounded(answers[m.Name]))
	}
	sample.Raw = bounded(sample.Raw)
	if known && sample.Identity.Contradicts(before) {
		sample.Quality |= IdentityChanged
	}
	return sample, nil
}
