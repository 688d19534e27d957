package meter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/meter/def"
	"github.com/commonwatt/commonwatt/meter/httpjson"
	"github.com/commonwatt/commonwatt/meter/p1"
	"github.com/commonwatt/commonwatt/meter/serial"
)

// The P1 port's usual settings since DSMR 4. Older meters need baud=9600&bits=7&parity=E.
var usualP1Line = serialLine{baud: 115200, dataBits: 8, stopBits: 1, parity: "N"}

// parseP1Line reads p1:///dev/ttyUSB0?baud=…&bits=…&parity=…&stop=….
func parseP1Line(text string, _ def.Definition) (address, error) {
	return parseLine(text, usualP1Line, "baud", "bits", "parity", "stop")
}

func openP1TCP(c Config, d Definition, a address) (Source, error) {
	return openP1(c, d, a.host, p1.TCP(a.host)), nil
}

func openP1Line(c Config, d Definition, a address) (Source, error) {
	l := serial.Settings{Device: a.line.device, Baud: a.line.baud, DataBits: a.line.dataBits, StopBits: a.line.stopBits, Parity: serial.Parity(a.line.parity[0])}
	return openP1(c, d, l.String(), p1.Serial(l)), nil
}

func openP1(c Config, d Definition, name string, dial func(context.Context) (p1.Port, error)) Source {
	return &p1Source{
		telegrams: telegrams{def: d, decoder: d.NewTelegramDecoder()},
		reader:    p1.Open(p1.Config{Name: name, Dial: dial, Now: c.Now, Log: c.Log}),
		timeout:   c.Timeout,
	}
}

// telegrams makes samples of telegrams; it is the part of the sources that needs no port.
type telegrams struct {
	def     Definition
	decoder *def.Decoder
	last    []byte // the one before
}

func (t *telegrams) Definition() Definition { return t.def }

func (t *telegrams) identity() Identity { return t.decoder.Identity() }

// take makes a sample. A telegram that came before and tells its time is the same one again, and stale: a reader that is
// cut off from the meter repeats its last.
func (t *telegrams) take(telegram p1.Telegram, raw []byte, at time.Time) Sample {
	before := t.decoder.Identity()
	v := t.decoder.Telegram(telegram.Ident, telegram.Values, at)
	sample := sampleOf(v, at, t.def)
	sample.Identity, sample.Raw = t.identity(), bounded(raw)
	if sample.Identity.Contradicts(before) && t.last != nil {
		sample.Quality |= IdentityChanged
	}
	if sample.DeviceAt != nil && bytes.Equal(raw, t.last) {
		sample.Quality |= Stale
	}
	t.last = raw
	return sample
}

// p1Source waits for what a meter says at its P1 port.
type p1Source struct {
	telegrams
	reader  *p1.Reader
	timeout time.Duration
}

func (s *p1Source) Push() bool   { return true }
func (s *p1Source) Close() error { return s.reader.Close() }

func (s *p1Source) Identity(context.Context) (Identity, error) { return s.identity(), nil }

func (s *p1Source) Read(ctx context.Context) (Sample, error) {
	if s.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.timeout)
		defer cancel()
	}
	select {
	case m := <-s.reader.Messages():
		if m.Err != nil {
			return Sample{}, fmt.Errorf("meter %s: %w: %w", s.def.ID, ErrPayload, m.Err)
		}
		return s.take(m.Telegram, m.Raw, m.At), nil
	case <-s.reader.Done():
		return Sample{}, fmt.Errorf("meter %s: %w", s.def.ID, ErrClosed)
	case <-ctx.Done():
		return Sample{}, fmt.Errorf("meter %s: %w, %s: %w", s.def.ID, ErrNoMessage, s.reader.State(), ctx.Err())
	}
}

// p1FileSource reads the newest telegram of a file each time that it is asked: to set things up, and for programs that
// write telegrams down.
type p1FileSource struct {
	telegrams
	path string
	now  func() time.Time
}

// maxP1File bounds a file of telegrams. Of a longer one the end is read.
const maxP1File = 1 << 20

// parseP1File reads p1+file:PATH, p1+file:/PATH and p1+file:///PATH. The path is taken as it is, without escapes.
func parseP1File(text string, _ def.Definition) (address, error) {
	path := strings.TrimPrefix(text, "p1+file:")
	if strings.HasPrefix(path, "///") {
		path = path[2:]
	}
	if path == "" || len(path) > 4096 || strings.HasPrefix(path, "//") || strings.ContainsRune(path, 0) {
		return address{}, errors.New("p1+file: and the path of a file")
	}
	return address{path: path}, nil
}

func openP1File(c Config, d Definition, a address) (Source, error) {
	return &p1FileSource{telegrams: telegrams{def: d, decoder: d.NewTelegramDecoder()}, path: a.path, now: c.Now}, nil
}

func (s *p1FileSource) Push() bool   { return false }
func (s *p1FileSource) Close() error { return nil }

func (s *p1FileSource) Identity(ctx context.Context) (Identity, error) {
	if s.last == nil {
		if _, err := s.Read(ctx); err != nil {
			return Identity{}, err
		}
	}
	return s.identity(), nil
}

func (s *p1FileSource) Read(ctx context.Context) (Sample, error) {
	asked := s.now()
	text, err := s.read()
	if err != nil {
		return Sample{}, fmt.Errorf("meter %s: %w", s.def.ID, err)
	}
	if ctx.Err() != nil {
		return Sample{}, fmt.Errorf("meter %s: reading %s: %w", s.def.ID, s.path, ctx.Err())
	}
	telegram, raw, err := p1.Last(text)
	if err != nil {
		return Sample{}, fmt.Errorf("meter %s: %s: %w: %w", s.def.ID, s.path, ErrPayload, err)
	}
	again := bytes.Equal(raw, s.last)
	sample := s.take(telegram, raw, s.now())
	sample.AskedAt = asked
	if again { // nobody knows when it was written, but it is not new
		sample.Quality |= Stale
	}
	return sample, nil
}

// read returns the end of the file.
func (s *p1FileSource) read() ([]byte, error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, fmt.Errorf("reading telegrams: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading telegrams: %s is no file, expected one; serial devices are p1:///dev/…", s.path)
	}
	f, err := os.Open(s.path)
	if err != nil {
		return nil, fmt.Errorf("reading telegrams: %w", err)
	}
	defer f.Close() //nolint:errcheck // nothing was written
	if _, err := f.Seek(max(0, info.Size()-maxP1File), io.SeekStart); err != nil {
		return nil, fmt.Errorf("reading telegrams: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxP1File))
	if err != nil {
		return nil, fmt.Errorf("reading telegrams: %w", err)
	}
	return text, nil
}

// p1HTTPSource asks a reader with a web server for the telegram that it heard last.
type p1HTTPSource struct {
	telegrams
	client  *httpjson.Client
	release func() error
	path    string
	now     func() time.Time
}

func (s *p1HTTPSource) Push() bool   { return false }
func (s *p1HTTPSource) Close() error { return s.release() }

func (s *p1HTTPSource) Identity(ctx context.Context) (Identity, error) {
	if s.last == nil {
		if _, err := s.Read(ctx); err != nil {
			return Identity{}, err
		}
	}
	return s.identity(), nil
}

func (s *p1HTTPSource) Read(ctx context.Context) (Sample, error) {
	asked := s.now()
	text, err := s.client.Get(ctx, s.path)
	if err != nil {
		return Sample{}, fmt.Errorf("meter %s: %w", s.def.ID, err)
	}
	at := s.now()
	telegram, raw, err := p1.Last(text)
	if err != nil {
		return Sample{}, fmt.Errorf("meter %s: answer to %s: %w: %w", s.def.ID, s.path, ErrPayload, err)
	}
	sample := s.take(telegram, raw, at)
	sample.AskedAt = asked
	return sample, nil
}
