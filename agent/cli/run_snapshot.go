package cli

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/p2p"
)

// joinFile is where an agent that is still fetching its ledger says how far it is: there is
// no page yet.
const joinFile = "join.json"

// joinView is what it says.
type joinView struct {
	At time.Time `json:"at"`
	consensus.JoinProgress
}

// joinLedger gets a home that has no ledger one by a snapshot, if it is to begin so.
func joinLedger(ctx context.Context, cfg household.Config, dir string, log *slog.Logger) (err error) {
	if cfg.Role == "light" {
		return nil // it keeps no ledger
	}
	keys, err := household.LoadKeys(dir)
	if err != nil {
		return keysProblem(err)
	}
	genesis, err := os.ReadFile(filepath.Join(dir, household.CommunityFile)) //nolint:gosec // the home's own folder
	if err != nil {
		return &problem{exitUsage, fmt.Errorf("reading the community: %w", err), "ask your cooperative for its " + household.CommunityFile}
	}
	keyFile, _ := household.ValidatorKeyFiles(dir)
	own, err := consensus.LoadValidatorKey(keyFile)
	if err != nil {
		return err
	}
	j := consensus.Join{
		Home: filepath.Join(dir, household.EngineFolder), Genesis: genesis, Mode: cfg.JoinMode(), Own: own,
		Retention: cfg.KeptFor(), Log: log.With("room", "consensus"),
	}
	if needed, err := j.Needed(); !needed || err != nil {
		return err
	}
	if len(cfg.Peers.Bootstrap) == 0 && !cfg.Peers.MDNS {
		return nil // there is nobody to ask
	}
	host, err := askingHost(cfg, dir, keys, genesis, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	askOver(&j, host)
	w := &joinWatch{file: filepath.Join(dir, joinFile), log: log}
	j.Progress = w.note
	defer w.end()
	return j.Run(ctx)
}

// askOver has a machine that joins ask whoever a host is connected with.
func askOver(j *consensus.Join, host *p2p.Host) {
	j.Ask = func(ctx context.Context, provider string, q []byte) ([]byte, error) {
		return host.Request(ctx, p2p.PeerID(provider), consensus.AnswerProtocol, q, consensus.MaxAnswer)
	}
	j.Providers = func() (all []consensus.Provider) {
		for _, p := range host.Peers() {
			if key, err := p2p.KeyOf(p.ID); err == nil {
				all = append(all, consensus.Provider{ID: string(p.ID), Key: key})
			}
		}
		return all
	}
}

// askingHost joins the network with those who are members from the beginning, and those whom
// agent.yaml names: who else is a member is in the ledger. What they say is checked.
func askingHost(cfg household.Config, dir string, keys *household.Keys, genesis []byte, log *slog.Logger) (*p2p.Host, error) {
	chain, g, err := consensus.ParseGenesis(genesis)
	if err != nil {
		return nil, err
	}
	state, err := ledger.NewState(chain, g)
	if err != nil {
		return nil, err
	}
	named := map[string]bool{}
	for _, b := range cfg.Peers.Bootstrap {
		if _, id, ok := strings.Cut(b, "/p2p/"); ok {
			if key, err := p2p.KeyOf(p2p.PeerID(id)); err == nil {
				named[string(key)] = true
			}
		}
	}
	mdns := ""
	if cfg.Peers.MDNS {
		mdns = p2p.ServiceTag(chain)
	}
	return p2p.New(p2p.Config{
		Key: keys.Network, Listen: cfg.Listen.Network, Bootstrap: cfg.Peers.Bootstrap, MDNS: mdns,
		AddressFile: filepath.Join(dir, household.AddressFile), PortMapping: cfg.Listen.PortMapping,
		Member: func(pub ed25519.PublicKey) bool { return named[string(pub)] || state.IsMember(pub) },
		Log:    log.With("room", "p2p"),
	})
}

// joinWatch tells people how far it is: in the log, and in joinFile for `commonwatt status`.
type joinWatch struct {
	file   string
	log    *slog.Logger
	step   string
	logged time.Time
	saved  time.Time
}

// How often it is told.
const (
	joinLogEvery  = 5 * time.Second
	joinSaveEvery = time.Second
)

func (w *joinWatch) note(p consensus.JoinProgress) {
	now := time.Now()
	if p.Step != w.step || now.Sub(w.logged) >= joinLogEvery {
		w.step, w.logged = p.Step, now
		w.log.Info("joining", "step", p.Step, "snapshot", p.Height, "newest", p.Newest, "bytes", p.Bytes, "of", p.Of, "lines", p.Lines, "provider", p.Provider)
	}
	if now.Sub(w.saved) < joinSaveEvery {
		return
	}
	w.saved = now
	raw, err := json.Marshal(joinView{At: now.UTC(), JoinProgress: p})
	if err == nil {
		err = os.WriteFile(w.file, append(raw, '\n'), 0o600)
	}
	if err != nil {
		w.log.Debug("how far it is cannot be told", "err", err)
	}
}

func (w *joinWatch) end() { _ = os.Remove(w.file) }

// joinStale is how old what joinFile says may be.
const joinStale = 30 * time.Second

// joiningNow reads how far an agent is that is fetching its ledger; nil if none is.
func joiningNow(dir string) (raw []byte, v *joinView) {
	raw, err := os.ReadFile(filepath.Join(dir, joinFile)) //nolint:gosec // the home's own folder
	if err != nil || len(raw) > maxStatusBytes {
		return nil, nil
	}
	v = new(joinView)
	if json.Unmarshal(raw, v) != nil || time.Since(v.At) > joinStale {
		return nil, nil
	}
	return raw, v
}

// printJoining is the answer of `commonwatt status` for it.
func printJoining(s streams, output string, raw []byte, v *joinView) error {
	if output == "json" {
		_, err := s.out.Write(raw)
		return err
	}
	text := fmt.Sprintf("ledger  joining by a snapshot: %s", v.Step)
	if v.Height > 0 {
		text += fmt.Sprintf(", of block %d (the chain is at %d)", v.Height, v.Newest)
	}
	text += fmt.Sprintf("\n        %d bytes", v.Bytes)
	if v.Of > 0 {
		text += fmt.Sprintf(" (the state has %d)", v.Of)
	}
	text += fmt.Sprintf(", %d lines of history", v.Lines)
	if v.Provider != "" {
		text += "\nfrom    " + v.Provider
	}
	if v.Trouble != "" {
		text += "\ntrouble " + v.Trouble
	}
	_, err := fmt.Fprintln(s.out, text)
	return err
}
