package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/agent/access"
	"github.com/commonwatt/commonwatt/agent/household"
)

// openAccess prepares who may use the page, and what it shows to browsers. A page without a login
// is for demonstrations.
func (g *gateway) openAccess(community string) error {
	if g.cfg.Access == household.AccessOpen && !household.MayBeOpen(community) {
		return &household.ConfigError{
			File: filepath.Join(g.dir, household.ConfigFile), Key: "access",
			Text: fmt.Sprintf("got open in the community %s, want claimed: only those whose names begin with demo- or sim- are open", community),
		}
	}
	log := g.log.With("room", "access")
	var err error
	if g.cfg.Listen.UsesTLS() {
		hosts := g.cfg.Listen.Hosts
		if host, _, err := net.SplitHostPort(g.cfg.Listen.API); err == nil {
			if a, err := netip.ParseAddr(host); err != nil || !a.IsUnspecified() {
				hosts = append(slices.Clone(hosts), host)
			}
		}
		if g.certificate, err = access.OpenCertificate(g.dir, hosts, time.Now, log); err != nil {
			return accessProblem(err)
		}
	}
	if g.cfg.Access == household.AccessOpen {
		return nil
	}
	g.keeper, err = access.Open(access.Options{Dir: g.dir, Now: time.Now, Log: log})
	return accessProblem(err)
}

// accessProblem gives errors about the files of package access their exit code.
func accessProblem(err error) error {
	if errors.As(err, new(*access.ExposedError)) || errors.Is(err, access.ErrDamaged) {
		return &problem{code: exitUsage, err: err}
	}
	return err
}

// tellPage says where the page is, and until the gateway is claimed, how that is done.
func (g *gateway) tellPage(ctx context.Context) {
	page := []any{"page", g.cfg.Listen.PageURL(g.page.Addr())}
	if g.certificate != nil {
		page = append(page, "certificate", g.certificate.Fingerprint())
	}
	if g.keeper != nil {
		if code, err := g.keeper.Code(); err == nil {
			g.log.WarnContext(ctx, "nobody owns this gateway yet: open its page and type the code", append(page, "code", code)...)
			return
		}
	}
	g.log.InfoContext(ctx, "page ready", page...)
}
