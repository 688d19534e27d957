package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/decision"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/agent/joining"
	"github.com/commonwatt/commonwatt/agent/paper"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
)

// joinPlan is what a person said at the first `join`; it is kept until the home is in, so
// that `join` can be interrupted.
type joinPlan struct {
	Invitation string `json:"invitation"` // text or words
	At         string `json:"at"`
	Name       string `json:"name"`
	Role       string `json:"role"`
	Definition string `json:"definition"`
	Address    string `json:"address"`
	Unit       uint8  `json:"unit"`
	MeterKey   string `json:"meter_key"`
	Page       string `json:"page"`
	Port       int    `json:"port"`
	Node       string `json:"node"` // as the home said
}

type joinOptions struct {
	joinPlan
	home                          string
	wordsLater, showWords, noWait bool
	now                           func() time.Time
}

// joiningFile is the plan, in the home's folder; it holds the invitation's secret.
const joiningFile = "joining.json"

func newJoin(s streams) *cobra.Command {
	o := joinOptions{now: time.Now}
	c := &cobra.Command{
		Use:   "join INVITATION",
		Short: "Join a community with an invitation, on a new gateway",
		Long: `Joins the community that the invitation is for: makes this home's keys, shows the recovery
words of the household once, fetches and checks what the community started from, asks for
admission, and waits until officers have admitted the home. It can be interrupted at any
time; the same command, or ` + "`commonwatt join --home DIR`" + `, goes on.

INVITATION is the text (commonwatt:...), or its words in quotes. With words, say where the
inviting home is with --at, or be on its local network.`,
		Example: `  commonwatt join commonwatt:0G... --home my-home --definition eastron-sdm630 --address tcp://192.168.1.20:502
  commonwatt join "apple river ..." --at 192.168.1.7 --home my-home`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			o.Invitation = strings.Join(args, " ")
			return o.run(c.Context(), s)
		},
	}
	f := c.Flags()
	f.StringVar(&o.home, "home", "", "the folder to make for this home (required)")
	f.StringVar(&o.At, "at", "", "HOST[:PORT] of the inviting home, for words")
	f.StringVar(&o.Name, "name", "", "what you and the officers call this home (default: the folder's name)")
	f.StringVar(&o.Role, "role", "replica", "light, replica or validator; see docs/joining.md")
	f.StringVar(&o.Definition, "definition", "eastron-sdm630", "what the meter at the grid connection is")
	f.StringVar(&o.Address, "address", "tcp://127.0.0.1:502", "where that meter is")
	f.Uint8Var(&o.Unit, "unit", 1, "its Modbus unit id")
	f.StringVar(&o.MeterKey, "meter-key", "", "public key of a meter that signs its readings, in hexadecimal")
	f.StringVar(&o.Page, "page", "127.0.0.1:8600", "host:port of the page")
	f.IntVar(&o.Port, "network-port", 8602, "TCP and UDP port of the network")
	f.BoolVar(&o.wordsLater, "words-later", false, "do not show the recovery words now; 'commonwatt keys backup' does")
	f.BoolVar(&o.showWords, "show-words", false, "show the recovery words although the output is no terminal")
	f.BoolVar(&o.noWait, "no-wait", false, "ask for admission and leave; join again goes on")
	return c
}

func (o *joinOptions) run(ctx context.Context, s streams) error {
	if o.home == "" {
		return usagef("--home is missing, see `commonwatt join --help`")
	}
	plan, err := readPlan(o.home)
	if err != nil {
		return err
	}
	if plan != nil {
		if o.Invitation != "" && o.Invitation != plan.Invitation {
			return &problem{
				exitUsage, fmt.Errorf("%s is joining with another invitation", o.home),
				"`commonwatt join --home " + o.home + "` goes on with it; to begin anew, choose another folder",
			}
		}
		o.joinPlan = *plan
	} else if err := o.fresh(); err != nil {
		return err
	}
	guest, err := o.visit(ctx)
	if err != nil {
		return o.explain(err, plan == nil)
	}
	defer guest.Close() //nolint:errcheck // nothing is lost
	if plan == nil {
		if err := o.prepare(ctx, guest, s); err != nil {
			return o.explain(err, true)
		}
	}
	w := &waiting{o: o, guest: guest, say: s.err, hint: s.out}
	return o.explain(w.run(ctx, s), false)
}

// fresh judges what was said at the first time, before anything is made.
func (o *joinOptions) fresh() error {
	if o.Invitation == "" {
		return &problem{exitUsage, errors.New("INVITATION is missing"), "a member makes one with `commonwatt community invite`"}
	}
	for _, name := range []string{household.ConfigFile, "keys", household.EngineFolder} {
		if _, err := os.Lstat(filepath.Join(o.home, name)); err == nil {
			return &problem{exitUsage, fmt.Errorf("%s is a home already", o.home), "choose another folder"}
		}
	}
	if o.Name == "" {
		abs, err := filepath.Abs(o.home)
		if err != nil {
			return err
		}
		o.Name = filepath.Base(abs)
	}
	if err := decision.ValidName(o.Name); err != nil {
		return usagef("--name: %v", err)
	}
	if !slices.Contains([]string{"light", "replica", "validator"}, o.Role) {
		return usagef("--role: got %q, want light, replica or validator", o.Role)
	}
	d, err := meter.FindDefinition("", o.Definition)
	if err != nil {
		return err
	}
	if signs := d.SignedBy == meter.SignedByDevice; signs != (o.MeterKey != "") {
		if signs {
			return usagef("--meter-key is missing: %s signs its own readings", d.ID)
		}
		return usagef("--meter-key: the agent signs for %s, want a definition whose meter signs itself", d.ID)
	}
	var key ledger.Key
	if o.MeterKey != "" && key.UnmarshalText([]byte(o.MeterKey)) != nil {
		return usagef("--meter-key: got %.80q, want 64 hexadecimal digits", o.MeterKey)
	}
	return nil
}

// visit goes to the inviting home.
func (o *joinOptions) visit(ctx context.Context) (*joining.Guest, error) {
	if joining.LooksLikeText(o.Invitation) {
		i, err := joining.ParseText(o.Invitation)
		if err != nil {
			return nil, err
		}
		return joining.Visit(ctx, i)
	}
	secret, tag, err := joining.ParseWords(paper.SplitWords(o.Invitation))
	if err != nil {
		return nil, err
	}
	return joining.VisitWithWords(ctx, secret, tag, o.At)
}

// meet has the home that was found show that it is the right one, and fetches what its
// community started from, which has to have the hash that was expected.
func meet(ctx context.Context, guest *joining.Guest, now func() time.Time) (hello *joining.Hello, doc []byte, chain string, err error) {
	if hello, err = guest.Hello(ctx, nil, now); err != nil {
		return nil, nil, "", err
	}
	if doc, err = guest.Document(ctx, nil, hello); err != nil {
		return nil, nil, "", err
	}
	chain, _, err = consensus.ParseGenesis(doc)
	return hello, doc, chain, err
}

// prepare checks the home that was found and makes this one's folder, whole or not at all.
func (o *joinOptions) prepare(ctx context.Context, guest *joining.Guest, s streams) error {
	hello, doc, chain, err := meet(ctx, guest, o.now)
	if err != nil {
		return err
	}
	o.Node = hello.Node
	fmt.Fprintf(s.err, "community %s, genesis %x\n", chain, hello.Genesis)
	return stage(o.home, func(next string) error { return o.fill(ctx, next, doc, s) },
		"keys", household.EngineFolder, household.CommunityFile, joiningFile)
}

// stage makes the parts of a home's folder aside and moves them to their place, so that a
// full disk or a person who gives up leaves nothing. The last part marks that all are there.
func stage(home string, fill func(next string) error, parts ...string) error {
	_, err := os.Lstat(home)
	made := errors.Is(err, os.ErrNotExist)
	if err := os.MkdirAll(home, 0o700); err != nil {
		return fmt.Errorf("making the home's folder: %w", err)
	}
	next := filepath.Join(home, ".joining")
	if err = os.RemoveAll(next); err == nil { // of one that was killed here
		err = fill(next)
	}
	for _, name := range parts {
		if err == nil {
			err = os.Rename(filepath.Join(next, name), filepath.Join(home, name))
		}
	}
	if gone := os.RemoveAll(next); err == nil {
		err = gone
	}
	if err != nil && made {
		err = errors.Join(err, os.Remove(home))
	}
	return err
}

func (o *joinOptions) fill(ctx context.Context, next string, doc []byte, s streams) error {
	keys, err := household.CreateKeys(next)
	if err != nil {
		return err
	}
	if err := household.CreateValidatorKey(next); err != nil {
		return err
	}
	if err := o.giveWords(ctx, next, keys, s); err != nil {
		return err
	}
	if err := household.ReplaceFile(filepath.Join(next, household.CommunityFile), doc); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(o.joinPlan, "", "  ")
	if err != nil {
		return err
	}
	return household.ReplaceFile(filepath.Join(next, joiningFile), append(raw, '\n'))
}

// giveWords shows the recovery words, or notes that nobody has seen them.
func (o *joinOptions) giveWords(ctx context.Context, dir string, keys *household.Keys, s streams) error {
	if o.wordsLater {
		return os.WriteFile(household.KeyFile(dir, household.UncheckedFile), nil, 0o600)
	}
	if !atTerminal(s) && !o.showWords {
		return &problem{
			exitUsage, errors.New("the output is no terminal, and the recovery words must not get into a log"),
			"with --words-later they are shown by `commonwatt keys backup`; with --show-words they are printed all the same",
		}
	}
	err := newDialogue(s).showWords(ctx, [32]byte(keys.Household.Seed()))
	if errors.Is(err, errNoAnswer) {
		return &problem{exitUsage, errors.New("the words were not given back"), "run it again, and have paper ready"}
	}
	return err
}

// readPlan reads what is kept of a join; nil if there is none.
func readPlan(dir string) (*joinPlan, error) {
	raw, err := os.ReadFile(filepath.Join(dir, joiningFile)) //nolint:gosec // the person's own folder
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p := new(joinPlan)
	if len(raw) > 64<<10 || json.Unmarshal(raw, p) != nil {
		return nil, &problem{exitUsage, fmt.Errorf("%s is damaged", filepath.Join(dir, joiningFile)), "choose another folder and begin anew"}
	}
	return p, nil
}

// request is what the home asks for.
func (o *joinOptions) request(chain string, keys *household.Keys) (*decision.File, error) {
	d, err := meter.FindDefinition("", o.Definition)
	if err != nil {
		return nil, err
	}
	m := &decision.Meter{Key: household.Public(keys.Meter).String(), SignedBy: ledger.SignedByAgent.String(), Definition: d.Source()}
	if o.MeterKey != "" {
		m.Key, m.SignedBy = o.MeterKey, ledger.SignedByDevice.String()
	}
	return decision.New(ledger.KindHousehold, chain, keys.ID(), &decision.Admission{
		Name: o.Name, Key: ledger.KeyOf(keys.HouseholdPublic()).String(), Device: household.Public(keys.Device).String(),
		Network: household.Public(keys.Network).String(), Node: o.Node, Meter: m,
	})
}

// signWith says which of the home's keys signs a transaction.
func signWith(keys *household.Keys) func(ledger.Kind) (decision.Signer, error) {
	return func(k ledger.Kind) (decision.Signer, error) {
		if k != ledger.KindHousehold {
			return decision.Signer{Key: keys.Device}, nil
		}
		if keys.Household == nil {
			return decision.Signer{}, &problem{exitUsage, errors.New("the household's key is not on this gateway"), "it is needed once more, to be admitted: `commonwatt keys restore`"}
		}
		return decision.Signer{Key: keys.Household}, nil
	}
}

// explain gives what can go wrong its words and its way out.
func (o *joinOptions) explain(err error, nothingMade bool) error {
	again := "`commonwatt join --home " + o.home + "` goes on where it was"
	if nothingMade {
		again = "nothing was made; try it again"
	}
	refused := (*joining.Refused)(nil)
	switch {
	case err == nil, errors.As(err, new(*problem)):
		return err
	case errors.As(err, new(*paper.Mistake)):
		return &problem{exitUsage, fmt.Errorf("INVITATION: %w", err), "compare it with what you were given; if it is right there, ask for a new one"}
	case errors.As(err, &refused):
		return &problem{exitFailed, fmt.Errorf("the inviting home refuses: %w", err), "the one who invited you makes a new one with `commonwatt community invite`"}
	case errors.Is(err, joining.ErrClock):
		return &problem{exitFailed, err, "set this machine's clock: `sudo timedatectl set-ntp true`, and look at it with `date -u`; " + again}
	case errors.Is(err, joining.ErrGenesis):
		return &problem{exitFailed, err, "whoever answers there is of another community: ask the one who invited you for a new invitation"}
	case errors.Is(err, joining.ErrProof):
		return &problem{exitFailed, err, "check --at, and that it is the home of the one who invited you"}
	case errors.Is(err, joining.ErrNobody):
		return &problem{
			exitFailed, fmt.Errorf("%w", err),
			"is this machine on the network, does the inviting home's agent run, and does it still know this invitation (`commonwatt community invitations` there)? " + again,
		}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		return &problem{exitFailed, fmt.Errorf("the disk has no room: %w", err), "make room, for example with `df -h` and by deleting what is not needed; " + again}
	case errors.Is(err, context.Canceled):
		return &problem{exitFailed, errors.New("interrupted"), again}
	}
	return &problem{exitFailed, err, again}
}
