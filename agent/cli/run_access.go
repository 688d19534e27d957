package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/commonwatt/commonwatt/agent/access"
	"github.com/commonwatt/commonwatt/agent/household"
)

// openAccess prepares who may use the page. A page without a login is for demonstrations.
func (g *gateway) openAccess(community string) error {
	if g.cfg.Access == household.AccessOpen {
		if !household.MayBeOpen(community) {
			return &household.ConfigError{
				File: filepath.Join(g.dir, household.ConfigFile), Key: "access",
				Text: fmt.Sprintf("got open in the community %s, want claimed: only those whose names begin with demo- or sim- are open", community),
			}
		}
		return nil
	}
	var err error
	g.keeper, err = access.Open(access.Options{Dir: g.dir, Now: time.Now, Log: g.log.With("room", "access")})
	if errors.As(err, new(*access.ExposedError)) || errors.Is(err, access.ErrDamaged) {
		return &problem{exitUsage, err, "or remove it, and claim the gateway anew"}
	}
	return err
}

// tellClaim shows, until the gateway is claimed, how that is done.
func (g *gateway) tellClaim(ctx context.Context) {
	if g.keeper == nil {
		return
	}
	if code, err := g.keeper.Code(); err == nil {
		g.log.WarnContext(ctx, "nobody owns this gateway yet: open its page and type the code", "page", g.cfg.Listen.PageURL(g.page.Addr()), "code", code)
	}
}
