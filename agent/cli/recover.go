package cli

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/agent/joining"
	"github.com/commonwatt/commonwatt/agent/paper"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
)

// ownership is how somebody shows that a household is theirs, and where a member is found.
type ownership struct {
	words  bool
	shares []string
	at     string
	trust  string

	known string // who says which community it is, of those above; empty: nobody
}

func (o *ownership) flags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&o.words, "words", false, "ask for the recovery words")
	f.StringArrayVar(&o.shares, "share", nil, "a share, as text or words in quotes; as many as are needed")
	f.StringVar(&o.at, "at", "", "where a home of the community is: HOST[:PORT], or an invitation (required)")
	f.StringVar(&o.trust, "trust", "", "genesis hash of the community, if you know it; a neighbour's 'commonwatt status' shows it")
}

// key finds the household's key.
func (o *ownership) key(ctx context.Context, s streams) (ed25519.PrivateKey, []byte, error) {
	if o.words == (len(o.shares) > 0) {
		return nil, nil, usagef("want either --words or --share")
	}
	if o.words {
		key, err := askKey(ctx, newDialogue(s), nil)
		return key, nil, err
	}
	var shares []*joining.Share
	var genesis []byte
	for i, text := range o.shares {
		share, err := joining.ParseShare(text)
		if err != nil {
			return nil, nil, &problem{exitUsage, fmt.Errorf("--share, the %s: %w", ordinal(i+1), err), "compare it with the paper"}
		}
		shares = append(shares, share)
		if share.Genesis != [16]byte{} {
			genesis = share.Genesis[:]
		}
	}
	seed, err := joining.Combine(shares, func(seed [32]byte) market.HouseholdID { return householdOf(ed25519.NewKeyFromSeed(seed[:])) })
	if need := int(shares[0].Need); err != nil && len(shares) < need {
		return nil, nil, &problem{
			exitUsage, fmt.Errorf("--share: %w", err),
			fmt.Sprintf("%d shares together give the key: ask %d more of the neighbours who keep one, and name each with a --share of its own", need, need-len(shares)),
		}
	}
	if err != nil {
		return nil, nil, &problem{exitUsage, fmt.Errorf("--share: %w", err), "all have to be of one household and of one `commonwatt keys share`; compare them with the paper"}
	}
	return ed25519.NewKeyFromSeed(seed[:]), genesis, nil
}

func ordinal(n int) string {
	if names := []string{"first", "second", "third", "fourth"}; n <= len(names) {
		return names[n-1]
	}
	return fmt.Sprintf("%dth", n)
}

// visit goes to a home of the community as the household. genesis is what is known of its hash.
func (o *ownership) visit(ctx context.Context, key ed25519.PrivateKey, genesis []byte) (*joining.Guest, error) {
	if o.at == "" {
		return nil, usagef("--at is missing: the address of any home of the community, or an invitation")
	}
	if genesis != nil {
		o.known = "--share"
	}
	if o.trust != "" {
		hash, err := parseTrust(o.trust)
		if err != nil {
			return nil, err
		}
		genesis, o.known = hash[:], "--trust"
	}
	if paper.HasPrefix(joining.Prefix, o.at) {
		i, err := joining.ParseText(o.at)
		if err != nil {
			return nil, &problem{code: exitUsage, err: fmt.Errorf("--at: %w", err)}
		}
		addrs, err := i.Visits()
		if err != nil {
			return nil, err
		}
		if genesis == nil {
			genesis, o.known = i.Genesis[:], "the invitation"
		}
		return joining.VisitAsHousehold(ctx, key, genesis, addrs)
	}
	addrs, err := joining.AddressOf(ctx, key, o.at)
	if err != nil {
		return nil, err
	}
	return joining.VisitAsHousehold(ctx, key, genesis, addrs)
}

// explainVisit gives what can go wrong at the desk its words.
func (o *ownership) explainVisit(err error, key ed25519.PrivateKey) error {
	switch {
	case err == nil, errors.As(err, new(*problem)):
		return err
	case errors.Is(err, joining.ErrNobody):
		return &problem{exitFailed, err, fmt.Sprintf(
			"does an agent run at --at, and is household %s a member of its community? wrong words that fit together give another household", householdOf(key))}
	case errors.Is(err, joining.ErrGenesis) && o.known != "":
		return &problem{exitFailed, err, "either " + o.known + " or --at is of another community: `commonwatt status` of a neighbour shows the genesis hash of its own"}
	case errors.Is(err, joining.ErrClock):
		return &problem{exitFailed, err, "set this machine's clock: `sudo timedatectl set-ntp true`"}
	}
	return &problem{code: exitFailed, err: err}
}

type recoverOptions struct {
	ownership
	joinOptions
}

// recoveringFile marks a folder whose gateway is not in the ledger yet.
const recoveringFile = "recovering.json"

func newRecover(s streams) *cobra.Command {
	var o recoverOptions
	o.now = time.Now
	c := &cobra.Command{
		Use:   "recover",
		Short: "Go on with a household on a new gateway, from its words or from shares of neighbours",
		Long: `Puts this machine in the place of a gateway that broke, was lost or stolen: makes new keys
for it, and has the ledger take them instead of the old ones, which are worthless from the
next block on. Balance and history are the household's, and are there again.

It can be interrupted; the same command goes on.`,
		Example: `  commonwatt recover --words --at 192.168.1.7 --home my-home
  commonwatt recover --share "$A" --share "$B" --at street.example.org --home my-home`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context(), s) },
	}
	o.ownership.flags(c)
	f := c.Flags()
	f.StringVar(&o.home, "home", "", "the folder to make for this home (required)")
	f.StringVar(&o.Name, "name", "", "what the page calls this home (default: the folder's name)")
	f.StringVar(&o.Role, "role", "replica", "light, replica or validator")
	f.StringVar(&o.Definition, "definition", "eastron-sdm630", "what the meter at the grid connection is")
	f.StringVar(&o.Address, "address", "tcp://127.0.0.1:502", "where that meter is")
	f.Uint8Var(&o.Unit, "unit", 1, "its Modbus unit id")
	f.StringVar(&o.Page, "page", "127.0.0.1:8600", "host:port of the page")
	f.IntVar(&o.Port, "network-port", 8602, "TCP and UDP port of the network")
	return c
}

func (o *recoverOptions) run(ctx context.Context, s streams) error {
	if o.home == "" {
		return usagef("--home is missing, see `commonwatt recover --help`")
	}
	_, err := os.Lstat(filepath.Join(o.home, recoveringFile))
	again := err == nil
	if !again {
		if err := o.freshRecovery(); err != nil {
			return err
		}
	} else if err := o.resume(); err != nil {
		return err
	}
	key, genesis, err := o.key(ctx, s)
	if err != nil {
		return err
	}
	guest, err := o.ownership.visit(ctx, key, genesis)
	if err != nil {
		return o.explainVisit(err, key)
	}
	defer guest.Close() //nolint:errcheck // nothing is lost
	return o.explainVisit(o.replace(ctx, guest, key, again, s), key)
}

// freshRecovery judges what was said before anything is made.
func (o *recoverOptions) freshRecovery() error {
	o.Invitation = "-" // there is none
	if d, err := meter.FindDefinition("", o.Definition); err != nil {
		return err
	} else if d.SignedBy == meter.SignedByDevice {
		o.MeterKey = strings.Repeat("0", 64) // the meter keeps its own key
	}
	return o.fresh()
}

func (o *recoverOptions) resume() error {
	raw, err := os.ReadFile(filepath.Join(o.home, recoveringFile))
	if err != nil {
		return err
	}
	if len(raw) > 64<<10 || json.Unmarshal(raw, &o.joinPlan) != nil {
		return &problem{exitUsage, fmt.Errorf("%s is damaged", filepath.Join(o.home, recoveringFile)), "choose another folder and begin anew"}
	}
	return nil
}

// replace makes the new gateway and has the ledger take it.
func (o *recoverOptions) replace(ctx context.Context, guest *joining.Guest, key ed25519.PrivateKey, again bool, s streams) error {
	hello, doc, chain, err := meet(ctx, guest, o.now)
	if err != nil {
		return err
	}
	id := householdOf(key)
	fmt.Fprintf(s.err, "household %s of community %s, genesis %x\n", id, chain, hello.Genesis)
	if !again {
		if err := o.build(doc, key); err != nil {
			return o.explain(err, true)
		}
	}
	keys, err := household.LoadKeys(o.home)
	if err != nil {
		return &problem{code: exitUsage, err: err}
	}
	if keys.ID() != id {
		return usagef("%s is being made for household %s, these are the words of household %s", o.home, keys.ID(), id)
	}
	look, err := setDevice(ctx, guest, key, func(seq uint64) []byte {
		return ledger.NewDevice(chain, id, seq, keys.Device, keys.Network).Sign(chain, id, key)
	}, household.Public(keys.Device))
	if err != nil {
		return err
	}
	err = household.WriteConfig(o.home, household.Config{
		Name: o.Name, Role: o.Role, Clock: clockFor(),
		Listen: household.ListenConfig{API: o.Page, Network: household.NetworkAddresses(o.Port)},
		Peers:  household.PeersConfig{Bootstrap: firstOf(guest.At(), look.Peers), MDNS: true},
		Meters: []household.MeterConfig{{Role: household.RoleConnection, Definition: o.Definition, Address: o.Address, Unit: o.Unit}},
	})
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(o.home, recoveringFile)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "this gateway is that of household %s now; the old one's keys are worthless\nconfiguration: %s\n", id, filepath.Join(o.home, household.ConfigFile))
	fmt.Fprintf(s.err, "hint: start it with `commonwatt run --home %s`\n", o.home)
	if o.MeterKey == "" {
		fmt.Fprintf(s.err, "hint: the old gateway signed the meter's readings; officers approve the new one's: `commonwatt meter replace --home %s --reason \"new gateway\"`\n", o.home)
	}
	return err
}

// build makes the folder of the new gateway. The household's key stays off it.
func (o *recoverOptions) build(doc []byte, key ed25519.PrivateKey) error {
	plan, err := json.MarshalIndent(o.joinPlan, "", "  ")
	if err != nil {
		return err
	}
	return stage(o.home, func(next string) error {
		if err := os.MkdirAll(filepath.Join(next, "keys"), 0o700); err != nil {
			return err
		}
		if err := household.KeepPublic(next, key.Public().(ed25519.PublicKey)); err != nil { //nolint:forcetypeassert // that of crypto/ed25519
			return err
		}
		if _, err := household.CreateKeys(next); err != nil {
			return err
		}
		if err := household.CreateValidatorKey(next); err != nil {
			return err
		}
		if err := household.ReplaceFile(filepath.Join(next, household.CommunityFile), doc); err != nil {
			return err
		}
		return household.ReplaceFile(filepath.Join(next, recoveringFile), append(plan, '\n'))
	}, "keys", household.EngineFolder, household.CommunityFile, recoveringFile)
}

// setDevice hands a change of the gateway's keys to the ledger and waits until it has it.
func setDevice(ctx context.Context, guest *joining.Guest, key ed25519.PrivateKey, tx func(seq uint64) []byte, want ledger.Key) (*joining.Look, error) {
	id := householdOf(key)
	tick := time.NewTicker(lookEvery / 2)
	defer tick.Stop()
	for {
		look, err := guest.Look(ctx, id)
		if err != nil {
			return nil, err
		}
		switch {
		case !look.Member:
			return nil, usagef("household %s is no member of this community", id)
		case bytes.Equal(look.Device, want[:]) && look.DeviceSeq > 0:
			return look, nil
		}
		if _, err := guest.Submit(ctx, id, tx(look.DeviceSeq+1)); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

func firstOf(first string, rest []string) []string {
	all := []string{first}
	for _, a := range rest {
		if a != first {
			all = append(all, a)
		}
	}
	return all
}

func newKeysRevoke(s streams) *cobra.Command {
	var o ownership
	c := &cobra.Command{
		Use:   "revoke",
		Short: "Make the keys of a stolen gateway worthless, before there is a new one",
		Long: `From the next block on, nothing that the old gateway signs counts, and it is let in nowhere.
` + "`commonwatt recover`" + ` brings a new gateway later; it also revokes the old one, so this is only
for the time until then.`,
		Example: `  commonwatt keys revoke --words --at 192.168.1.7`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx := c.Context()
			key, genesis, err := o.key(ctx, s)
			if err != nil {
				return err
			}
			guest, err := o.visit(ctx, key, genesis)
			if err != nil {
				return o.explainVisit(err, key)
			}
			defer guest.Close() //nolint:errcheck // nothing is lost
			return o.explainVisit(revoke(ctx, guest, key, s), key)
		},
	}
	o.flags(c)
	return c
}

func revoke(ctx context.Context, guest *joining.Guest, key ed25519.PrivateKey, s streams) error {
	_, _, chain, err := meet(ctx, guest, time.Now)
	if err != nil {
		return err
	}
	id := householdOf(key)
	_, err = setDevice(ctx, guest, key, func(seq uint64) []byte {
		return (&ledger.SetDevice{Seq: seq}).Sign(chain, id, key)
	}, ledger.Key{})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "the gateway of household %s in %s is revoked: its keys are worthless\n", id, chain)
	return err
}
