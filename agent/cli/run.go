package cli

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/commonwatt/commonwatt/agent/access"
	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/bill"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/agent/joining"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/market/store"
	"github.com/commonwatt/commonwatt/p2p"
)

func newRun(version string, s streams) *cobra.Command {
	var home, log string
	c := &cobra.Command{
		Use:   "run",
		Short: "Run this home's agent until Ctrl-C",
		Long: `Runs the agent of one home: it reads the meters that agent.yaml names, trades, and
keeps the ledger with the other homes. Ctrl-C or SIGTERM ends it cleanly; it can be
killed at any moment and goes on where it was.`,
		Example: `  commonwatt run --home /var/lib/commonwatt`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return runHome(c.Context(), version, home, log, s)
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the home's folder, made by `commonwatt init`")
	c.Flags().StringVar(&log, "log", "", "debug, info, warn or error (default: agent.yaml's, else info)")
	return c
}

// newLog logs for people on a terminal, and as JSON anywhere else.
func newLog(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if level == "" {
		level = "info"
	}
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usagef("--log: got %q, want debug, info, warn or error", level)
	}
	if f, ok := w.(*os.File); ok && isTerminal(f) {
		return slog.New(tint.NewTextHandler(w, &tint.Options{Level: l, TimeFormat: time.TimeOnly, NoColor: os.Getenv("NO_COLOR") != ""})), nil
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: l})), nil
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// gateway is one running agent: the four rooms joined.
type gateway struct {
	cfg  household.Config
	dir  string
	log  *slog.Logger
	node *consensus.Node // nil in a light home
	host *p2p.Host
	home *household.Home
	page *api.Server

	keeper      *access.Keeper      // nil: the page is open
	certificate *access.Certificate // nil: the page is in clear, on this machine alone
	desk        *joining.Desk       // for those who join

	topic   *p2p.Topic
	tunnels *p2p.Tunnels

	light  *consensus.Light // nil in all others
	ledger gatewayLedger    // the one of the two that there is
}

func runHome(ctx context.Context, version, dir, level string, s streams) error {
	cfg, err := household.LoadConfig(filepath.Join(dir, household.ConfigFile))
	if err != nil {
		return err
	}
	if level == "" {
		level = cfg.Log
	}
	log, err := newLog(s.err, level)
	if err != nil {
		return err
	}
	keepSmall()
	if err := checkRoom(dir, startRoom); err != nil {
		return explain(err, cfg, dir)
	}
	if err := joinLedger(ctx, cfg, dir, log); err != nil {
		return explain(err, cfg, dir)
	}
	g := &gateway{cfg: cfg, dir: dir, log: log}
	if err := g.open(version); err != nil {
		return errors.Join(explain(err, cfg, dir), g.close())
	}
	pid := filepath.Join(dir, household.PIDFile)
	if err := os.WriteFile(pid, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return errors.Join(explain(fmt.Errorf("writing process id: %w", err), cfg, dir), g.close())
	}
	defer os.Remove(pid) //nolint:errcheck // a stale one is recognised
	g.tellPage(ctx)
	log.InfoContext(ctx, "agent started", "home", cfg.Name, "page", cfg.Listen.PageURL(g.page.Addr()), "network", string(g.host.ID()))
	err = g.run(ctx)
	log.InfoContext(ctx, "agent stopped", "home", cfg.Name)
	return explain(err, cfg, dir)
}

// keysProblem says how a home comes by keys that it has not; what is wrong with keys that are
// there, the error says itself.
func keysProblem(err error) error {
	hint := ""
	if errors.Is(err, fs.ErrNotExist) {
		hint = "`commonwatt join` or `commonwatt init` makes a home's keys"
	}
	return &problem{exitUsage, err, hint}
}

// open prepares all rooms. What was opened before an error is closed by close.
func (g *gateway) open(version string) error {
	keys, err := household.LoadKeys(g.dir)
	if err != nil {
		return keysProblem(err)
	}
	genesis, err := os.ReadFile(filepath.Join(g.dir, household.CommunityFile))
	if err != nil {
		return &problem{exitUsage, fmt.Errorf("reading the community: %w", err), "ask your cooperative for its " + household.CommunityFile}
	}
	if g.cfg.Role == household.RoleLight {
		err = g.openLight(keys, genesis)
	} else {
		err = g.openNode(keys, genesis)
	}
	if err != nil {
		return err
	}
	g.home, err = household.New(household.Options{
		Config: g.cfg, Dir: g.dir, Keys: keys, Ledger: g.ledger, Peers: g.peers, Reached: g.host.Reached,
		Now: time.Now, Log: g.log.With("room", "household"),
	})
	if err != nil {
		return err
	}
	g.page, err = api.New(api.Config{
		Listen: g.cfg.Listen.API, Hosts: g.cfg.Listen.Hosts, Provider: g.home, Network: g.home, Readings: g.home, Meters: g.home, Office: g.home, Controls: g.home, Version: version,
		Access: g.keeper, Open: g.keeper == nil, Certificate: g.certificate, Operations: g.cfg.Listen.Operations,
		Bills: &bill.Desk{Own: keys.ID(), Source: g.ledger, Genesis: genesis},
		Log:   g.log.With("room", "api"),
	})
	return err
}

// openNode prepares the ledger and the network of a validator or replica.
func (g *gateway) openNode(keys *household.Keys, genesis []byte) (err error) {
	keyFile, stateFile := household.ValidatorKeyFiles(g.dir)
	g.node, err = consensus.New(consensus.Config{
		Home: filepath.Join(g.dir, household.EngineFolder), Genesis: genesis, NodeKey: keys.Network,
		ValidatorKeyFile: keyFile, ValidatorStateFile: stateFile,
		Retention: g.cfg.KeptFor(),
		Publish:   func(ctx context.Context, b []byte) error { return g.topic.Publish(ctx, b) },
		Ask:       g.ask,
		Replica:   g.cfg.Role != "validator",
		Log:       g.log.With("room", "consensus"),
	})
	if err != nil {
		return err
	}
	g.ledger = g.node
	chain := g.node.Status().ChainID
	if err := g.openAccess(chain); err != nil {
		return err
	}
	if err := g.openDesk(keys, genesis); err != nil {
		return err
	}
	return g.openNetwork(keys, chain)
}

// openHost joins the network with those who are members, and has guests in if there is
// somebody to receive them.
func (g *gateway) openHost(keys *household.Keys, chain string, member, guest func(ed25519.PublicKey) bool) (err error) {
	mdns := ""
	if g.cfg.Peers.MDNS {
		mdns = p2p.ServiceTag(chain)
	}
	var seek func(ed25519.PublicKey) bool
	if g.light != nil {
		seek = g.light.Seeks
	}
	g.host, err = p2p.New(p2p.Config{
		Key: keys.Network, Listen: g.cfg.Listen.Network, Bootstrap: g.cfg.Peers.Bootstrap, MDNS: mdns,
		AddressFile: filepath.Join(g.dir, household.AddressFile), PortMapping: g.cfg.Listen.PortMapping,
		Member: member, Guest: guest, Seek: seek, Log: g.log.With("room", "p2p"),
	})
	return err
}

func (g *gateway) openNetwork(keys *household.Keys, chain string) error {
	err := g.openHost(keys, chain, func(pub ed25519.PublicKey) (member bool) {
		g.node.Read(func(s *ledger.State) { member = s.IsMember(pub) })
		return member
	}, g.desk.Guest)
	if err != nil {
		return err
	}
	if g.tunnels, err = g.host.Tunnel(consensus.TunnelProtocol, consensus.TunnelsPerPeer); err != nil {
		return err
	}
	g.receiveGuests()
	g.topic, err = g.host.Join("commonwatt/"+chain+"/"+gossipFormat, consensus.MaxBundleBytes,
		func(_ context.Context, _ p2p.PeerID, data []byte) p2p.Verdict { return verdict(g.node.Validate(data)) },
		func(p2p.PeerID, []byte) {}) // what is good is in the pool already
	answerOthers(g.host, g.node)
	return err
}

// verdict translates what the ledger thinks of a message into the network's words.
func verdict(v consensus.Verdict) p2p.Verdict {
	switch v {
	case consensus.Accept:
		return p2p.Accept
	case consensus.Reject:
		return p2p.Reject
	case consensus.Ignore:
		return p2p.Ignore
	default:
		return p2p.Ignore
	}
}

func (g *gateway) peers() []api.Peer {
	peers := g.host.Peers()
	list := make([]api.Peer, len(peers))
	for i, p := range peers {
		list[i] = api.Peer{ID: string(p.ID), Address: p.Addr, Path: string(p.Path), Via: string(p.Via)}
	}
	return list
}

// run runs all rooms. The ledger ends last, so that the home can still read it.
func (g *gateway) run(ctx context.Context) error {
	ledgerCtx, stopLedger := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLedger()
	ended := make(chan error, 1)
	homes, ctx := errgroup.WithContext(ctx)
	go func() { ended <- g.runLedger(ledgerCtx) }()
	homes.Go(func() error { return g.home.Run(ctx) })
	homes.Go(func() error { return g.page.Run(ctx) })
	if n := newNotifier(os.Getenv, g.log); n != nil {
		homes.Go(func() error {
			n.run(ctx, g.alive)
			return nil
		})
	}
	if g.node != nil {
		homes.Go(func() error { return g.expel(ctx) })
	}
	homes.Go(func() error { return g.beFound(ctx) })
	homes.Go(func() error { return g.watchRoom(ctx) })
	ledgerEnded := make(chan struct{})
	var ledgerErr error
	go func() {
		ledgerErr = <-ended
		close(ledgerEnded)
	}()
	homes.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-ledgerEnded:
			if ledgerErr == nil {
				return errors.New("the ledger ended by itself")
			}
			return ledgerErr
		}
	})
	err := homes.Wait()
	if g.keeper != nil {
		err = errors.Join(err, g.keeper.Close())
	}
	stopLedger()
	<-ledgerEnded
	return errors.Join(err, g.host.Close())
}

// close gives back what open took, when run was never reached.
func (g *gateway) close() error {
	var errs []error
	if g.host != nil {
		errs = append(errs, g.host.Close())
	}
	if g.home != nil {
		errs = append(errs, g.home.Close())
	}
	if g.node != nil {
		errs = append(errs, g.node.Close())
	}
	if g.light != nil {
		errs = append(errs, g.light.Close())
	}
	return errors.Join(errs...)
}

// explain gives errors that a person can do something about their hint.
func explain(err error, cfg household.Config, dir string) error {
	file := filepath.Join(dir, household.ConfigFile)
	if err == nil || errors.As(err, new(*problem)) || errors.As(err, new(*household.ConfigError)) {
		return err
	}
	if full := diskProblem(err, dir); full != nil {
		return full
	}
	heal := "`commonwatt ledger heal --home " + dir
	switch {
	case isAddressInUse(err):
		return portProblem(err, cfg, file)
	case errors.Is(err, consensus.ErrInUse), errors.Is(err, household.ErrInUse):
		return &problem{exitFailed, err, "this home's agent is running already" + runningAs(dir) + "; one folder, one agent"}
	case errors.Is(err, consensus.ErrElsewhere):
		return &problem{exitFailed, err, "a validator key may be at work in one place only, lest it sign twice: end the other agent, or write `role: replica` into " + file + " to follow the ledger from here without signing; if there is no other, and this folder came from a backup, run " + heal + " --restored`"}
	case errors.Is(err, consensus.ErrSignState):
		return &problem{exitFailed, err, "without it this validator could sign twice: " + heal + "` finds out from the other homes from where on it may sign"}
	case errors.Is(err, store.ErrCorrupt), errors.Is(err, consensus.ErrCorrupt):
		return &problem{exitFailed, err, heal + "` gets the ledger from the other homes, and keeps the damaged one, the keys and the readings"}
	case errors.Is(err, consensus.ErrHalted):
		return &problem{exitFailed, err, "start it again; if it stops again, " + heal + "` gets the ledger from the other homes, and keeps this one"}
	case errors.Is(err, consensus.ErrGenesis), errors.Is(err, consensus.ErrOtherChain), errors.Is(err, consensus.ErrConfig),
		errors.Is(err, p2p.ErrConfig), errors.Is(err, api.ErrConfig):
		return &problem{exitUsage, err, "see " + file}
	default:
		return err
	}
}

func runningAs(dir string) string {
	raw, err := os.ReadFile(filepath.Join(dir, household.PIDFile)) //nolint:gosec // the home's own folder
	if err != nil {
		return ""
	}
	return " as process " + strings.TrimSpace(string(raw))
}
