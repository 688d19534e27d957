package api

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed assets
var assetFiles embed.FS

// fragmentIDs are the parts of the page that are renewed while it is open: each
// is a template and the id of the element that holds it.
var fragmentIDs = [...]string{
	"clock", "sentence", "problems", "flow", "tiles", "flowtable", "price", "money",
	"strip", "totals", "intervals", "network", "networktable", "ledger", "meters",
}

// pages renders the live page and its fragments, and serves the assets. It is
// safe for concurrent use.
type pages struct {
	version   string
	settings  bool // there are some: people log in
	zone      *time.Location
	templates *template.Template
	assets    map[string]asset
}

// asset is an embedded file, compressed once.
type asset struct {
	contentType string
	plain, gzip []byte
	hash        string
}

// fragment is one part of the page.
type fragment struct {
	id   string
	html string
}

var assetTypes = map[string]string{
	"page.css":             "text/css; charset=utf-8",
	"forms.css":            "text/css; charset=utf-8",
	"page.js":              "text/javascript; charset=utf-8",
	"icon.svg":             "image/svg+xml",
	"manifest.webmanifest": "application/manifest+json",
}

func newPages(cfg Config) (*pages, error) {
	p := &pages{version: cfg.Version, settings: cfg.Access != nil, zone: cfg.Location, assets: make(map[string]asset)}
	for name, contentType := range assetTypes {
		plain, err := assetFiles.ReadFile("assets/" + name)
		if err != nil {
			return nil, fmt.Errorf("reading embedded asset %s: %w", name, err)
		}
		packed, err := compress(plain, gzip.BestCompression)
		if err != nil {
			return nil, fmt.Errorf("compressing embedded asset %s: %w", name, err)
		}
		sum := sha256.Sum256(plain)
		p.assets[name] = asset{contentType: contentType, plain: plain, gzip: packed, hash: hex.EncodeToString(sum[:6])}
	}
	functions := template.FuncMap{
		"asset": func(name string) string { return "/assets/" + name + "?v=" + p.assets[name].hash },
	}
	var err error
	if p.templates, err = template.New("").Funcs(functions).ParseFS(templateFiles, "templates/*.html"); err != nil {
		return nil, fmt.Errorf("parsing embedded templates: %w", err)
	}
	return p, nil
}

func compress(plain []byte, level int) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(plain); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// fragments renders every part of the page that is renewed.
func (p *pages) fragments(s Snapshot) ([]fragment, error) {
	v := newView(s, p.version, p.zone)
	out := make([]fragment, 0, len(fragmentIDs))
	for _, id := range fragmentIDs {
		var b strings.Builder
		if err := p.templates.ExecuteTemplate(&b, id, v); err != nil {
			return nil, fmt.Errorf("rendering %s: %w", id, err)
		}
		out = append(out, fragment{id: id, html: b.String()})
	}
	return out, nil
}

// page renders the whole page.
func (p *pages) page(s Snapshot) ([]byte, error) {
	v := newView(s, p.version, p.zone)
	v.Settings = p.settings
	var b bytes.Buffer
	if err := p.templates.ExecuteTemplate(&b, "page", v); err != nil {
		return nil, fmt.Errorf("rendering the page: %w", err)
	}
	return b.Bytes(), nil
}

func (s *Server) servePage(w http.ResponseWriter, r *http.Request) {
	body, err := s.pages.page(snapshot(s.cfg.Provider))
	if err != nil {
		s.cfg.Log.ErrorContext(r.Context(), "page not rendered", "err", err)
		writeProblem(w, http.StatusInternalServerError, "the page could not be rendered; the log says why")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Vary", "Accept-Encoding")
	if acceptsGzip(r) {
		if packed, err := compress(body, gzip.DefaultCompression); err == nil {
			w.Header().Set("Content-Encoding", "gzip")
			body = packed
		}
	}
	_, _ = w.Write(body) // an error means that the client is gone
}

// serveAsset serves an embedded file. Its address carries a hash of its
// content, so a browser may keep it for good.
func (p *pages) serveAsset(w http.ResponseWriter, r *http.Request) {
	a, ok := p.assets[r.PathValue("name")]
	if !ok {
		writeProblem(w, http.StatusNotFound, "no such asset")
		return
	}
	w.Header().Set("Content-Type", a.contentType)
	w.Header().Set("Vary", "Accept-Encoding")
	if r.URL.Query().Get("v") == a.hash {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		w.Header().Set("Cache-Control", "no-cache")
	}
	body := a.plain
	if acceptsGzip(r) {
		w.Header().Set("Content-Encoding", "gzip")
		body = a.gzip
	}
	_, _ = w.Write(body)
}

// acceptsGzip reads Accept-Encoding as far as it matters: gzip named, and not
// with a weight of zero.
func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			return strings.Trim(strings.TrimPrefix(strings.TrimSpace(weight), "q="), "0.") != "" || weight == ""
		}
	}
	return false
}
