package cli

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
	"github.com/commonwatt/commonwatt/p2p"
)

// cooperativeFolder holds keys of officers that were made here.
const cooperativeFolder = "cooperative"

func newCommunityCreate(s streams) *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "create DIR",
		Short: "Found a community: its rules, network, officers and first homes",
		Long: `Asks what a community begins with, or reads it from a file (configs/community.yaml is an
example), and makes DIR: the genesis document, and a folder for each of the first homes, which
keep the ledger. Further homes come with ` + "`commonwatt community invite`" + `.

Officers make their keys themselves, each on their own machine, with ` + "`commonwatt community officer new`" + `,
and bring the public keys. Then the first homes are admitted by them too: each home's
admission.json is signed with ` + "`commonwatt community approve`" + ` and kept with ` + "`community admit`" + `. To begin
alone, three officers' keys can be made here; hand two of them to others before money flows.

The genesis document can never be changed. Its hash is what invitations carry.`,
		Example: `  commonwatt community create elm-street
  commonwatt community create elm-street --file community.yaml`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir := args[0]
			if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
				return &problem{exitUsage, fmt.Errorf("%s is there already, and not empty", dir), "choose another folder"}
			}
			f, err := foundingOf(c.Context(), file, dir, s)
			if err != nil {
				return err
			}
			return create(dir, f, s)
		},
	}
	c.Flags().StringVar(&file, "file", "", "read it from this file instead of asking")
	return c
}

func foundingOf(ctx context.Context, file, dir string, s streams) (household.FoundingFile, error) {
	if file != "" {
		return household.LoadFounding(file)
	}
	f, err := askFounding(ctx, newDialogue(s), filepath.Base(dir))
	if errors.Is(err, errNoAnswer) {
		return f, &problem{exitUsage, errors.New("the answers ended before the last question; nothing was made"), "--file reads them from a file"}
	}
	return f, err
}

// askFounding is the dialogue. What cannot be is asked again.
func askFounding(ctx context.Context, d *dialogue, name string) (f household.FoundingFile, err error) {
	ask := func(into *string, question, otherwise string) {
		if err != nil {
			return
		}
		for {
			var answer string
			if answer, err = d.askOr(ctx, question, otherwise); err != nil {
				return
			}
			before := *into
			*into = answer
			var wrong *household.ConfigError
			if _, e := f.Founding(); !errors.As(e, &wrong) || wrong.Key == "homes" || wrong.Key == "homes[0].name" && answer == "" {
				return
			}
			*into = before
			fmt.Fprintf(d.out, "%s: %s\n", wrong.Key, wrong.Text)
		}
	}
	ask(&f.Name, "name of the community", name)
	ask(&f.Rules.ImportPrice, "what the grid takes for a kWh", "0.30")
	ask(&f.Rules.ExportPrice, "what the grid pays for a kWh", "0.08")
	if err == nil {
		err = askNetwork(ctx, d, &f)
	}
	if err == nil {
		err = askOfficers(ctx, d, &f)
	}
	ask(&f.Operator, "public key of the grid operator (nothing: one is made here)", "")
	h := household.FoundingHome{Unit: 1}
	for _, q := range []struct {
		into               *string
		question, standing string
	}{
		{&h.Name, "name of the first home, which keeps the ledger", "home-1"},
		{&h.Definition, "its meter, see `commonwatt meter list`", "eastron-sdm630"},
		{&h.Address, "where that meter is", "tcp://127.0.0.1:502"},
	} {
		if err == nil {
			*q.into, err = d.askOr(ctx, q.question, q.standing)
		}
	}
	if len(f.Network) > 1 && err == nil {
		h.Node, err = d.askOr(ctx, "at which feeder it hangs", f.Network[len(f.Network)-1].ID)
	}
	f.Homes = []household.FoundingHome{h}
	if err == nil {
		_, err = f.Founding()
	}
	return f, err
}

// askNetwork asks for the feeders: name, and the watts that their cable carries each way.
func askNetwork(ctx context.Context, d *dialogue, f *household.FoundingFile) error {
	for {
		line, err := d.ask(ctx, "a feeder: NAME [IMPORT_W [EXPORT_W]] (nothing: no more): ")
		if err != nil || line == "" {
			return err
		}
		fields := strings.Fields(line)
		n := household.FoundingNode{ID: fields[0], Parent: ledger.RootNode}
		var wrong error
		for i, into := range []**int64{&n.ImportLimitW, &n.ExportLimitW} {
			if len(fields) <= i+1 {
				continue
			}
			w, err := strconv.ParseInt(fields[i+1], 10, 64)
			if err != nil || w < 0 {
				wrong = fmt.Errorf("got %q, want watts", fields[i+1])
			}
			*into = &w
		}
		if wrong == nil && len(fields) > 3 {
			wrong = fmt.Errorf("got %d words, want 1 to 3", len(fields))
		}
		if wrong != nil {
			fmt.Fprintln(d.out, wrong)
			continue
		}
		if len(f.Network) == 0 {
			f.Network = []household.FoundingNode{{ID: ledger.RootNode}}
		}
		f.Network = append(f.Network, n)
	}
}

func askOfficers(ctx context.Context, d *dialogue, f *household.FoundingFile) error {
	for {
		line, err := d.ask(ctx, fmt.Sprintf("public key of officer %d (nothing: no more; none at all: three are made here): ", len(f.Officers)+1))
		if err != nil {
			return err
		}
		if line == "" {
			break
		}
		var k ledger.Key
		if err := k.UnmarshalText([]byte(line)); err != nil {
			fmt.Fprintln(d.out, err)
			continue
		}
		f.Officers = append(f.Officers, line)
	}
	for {
		answer, err := d.askOr(ctx, "how many officers must sign", "2")
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(answer)
		most := len(f.Officers)
		if most == 0 {
			most = 3
		}
		if err == nil && n >= 1 && n <= most {
			f.Rules.Approvals = n
			return nil
		}
		fmt.Fprintf(d.out, "got %q, want 1 to the %d officers\n", answer, most)
	}
}

// create makes what was agreed on; nothing, if it cannot be.
func create(dir string, file household.FoundingFile, s streams) error {
	f, err := file.Founding()
	if err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Second)
	f.Start, f.Dir = now, filepath.Join(dir, cooperativeFolder)
	if f.Epoch.IsZero() {
		f.Epoch = now
	}
	for i, h := range file.Homes {
		d, err := meter.FindDefinition("", h.Definition)
		if err != nil {
			return err
		}
		if d.SignedBy == meter.SignedByDevice {
			return usagef("homes[%d].definition: %s signs its own readings, so its key has to be registered; begin with another home, and let this one join", i, d.ID)
		}
		f.Homes[i].Dir = filepath.Join(dir, h.Name)
		f.Homes[i].Meter = ledger.RegisterMeter{SignedBy: ledger.SignedByAgent, Definition: d.Source()}
	}
	if err := household.Found(f); err != nil {
		return &problem{code: exitUsage, err: err}
	}
	hints, err := furnish(dir, file)
	if err != nil {
		return err
	}
	return announceFounding(dir, f, hints, s)
}

// furnish writes each home's configuration. Homes on one machine get ports of their own.
func furnish(dir string, file household.FoundingFile) (hints []string, err error) {
	var all [][]string
	for i := range file.Homes {
		h := &file.Homes[i]
		if h.Page == "" {
			h.Page = fmt.Sprintf("127.0.0.1:%d", 8600+10*i)
		}
		if h.NetworkPort == 0 {
			h.NetworkPort = 8602 + 10*i
		}
		if h.Address == "" {
			h.Address = "tcp://127.0.0.1:502"
		}
		keys, err := household.LoadKeys(filepath.Join(dir, h.Name))
		if err != nil {
			return nil, err
		}
		var addrs []string
		if h.Host != "" {
			id, err := p2p.IDOf(keys.Network.Public().(ed25519.PublicKey)) //nolint:forcetypeassert // that of crypto/ed25519
			if err != nil {
				return nil, err
			}
			found, err := multiaddrs(fmt.Sprintf("%s:%d", h.Host, h.NetworkPort))
			if err != nil {
				return nil, err
			}
			for _, a := range found {
				addrs = append(addrs, a+"/p2p/"+string(id))
			}
		}
		all = append(all, addrs)
	}
	for i, h := range file.Homes {
		home := filepath.Join(dir, h.Name)
		var others []string
		for j, addrs := range all {
			if j != i {
				others = append(others, addrs...)
			}
		}
		err := household.WriteConfig(home, household.Config{
			Name: h.Name, Role: "validator", Clock: clockFor(),
			Listen: household.ListenConfig{API: h.Page, Network: household.NetworkAddresses(h.NetworkPort)},
			Peers:  household.PeersConfig{Bootstrap: others, MDNS: true},
			Meters: []household.MeterConfig{{Role: household.RoleConnection, Definition: h.Definition, Address: h.Address, Unit: h.Unit}},
		})
		if err != nil {
			return nil, err
		}
		// Nobody has seen the words of these households yet.
		if err := os.WriteFile(household.KeyFile(home, household.UncheckedFile), nil, 0o600); err != nil {
			return nil, err
		}
		if _, err := os.Lstat(filepath.Join(home, household.AdmissionRequest)); err == nil {
			hints = append(hints, fmt.Sprintf("%d officers sign: `commonwatt community approve %s --home %s --key KEY`; then `commonwatt community admit %s --home %s`",
				max(1, file.Rules.Approvals), filepath.Join(home, household.AdmissionRequest), home, filepath.Join(home, household.AdmissionRequest), home))
		}
		hints = append(hints, fmt.Sprintf("start it with `commonwatt run --home %s`", home))
	}
	return hints, nil
}

func announceFounding(dir string, f household.Founding, hints []string, s streams) error {
	first := f.Homes[0].Dir
	raw, err := readGenesis(first)
	if err != nil {
		return err
	}
	if err := household.ReplaceFile(filepath.Join(dir, household.CommunityFile), raw); err != nil {
		return err
	}
	hash, err := consensus.GenesisHash(raw)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "community %s is founded, genesis %x\n", f.Name, hash)
	for _, h := range f.Homes {
		keys, err := household.LoadKeys(h.Dir)
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "home %s is household %s, in %s\n", h.Name, keys.ID(), h.Dir)
	}
	if len(f.Officers) == 0 {
		fmt.Fprintf(s.err, "hint: three officers' keys are in %s: give two of them to other people, and keep no copy\n", f.Dir)
	}
	if len(f.Operators) == 0 {
		fmt.Fprintf(s.err, "hint: the grid operator's key is %s\n", filepath.Join(f.Dir, household.OperatorFile))
	}
	for _, h := range hints {
		fmt.Fprintf(s.err, "hint: %s\n", h)
	}
	fmt.Fprintf(s.err, "hint: then invite the others with `commonwatt community invite --home %s`\n", first)
	return nil
}

func newCommunityOfficer(s streams) *cobra.Command {
	c := &cobra.Command{Use: "officer", Short: "Officers' keys"}
	c.AddCommand(&cobra.Command{
		Use:   "new FILE",
		Short: "Make an officer's key, on the officer's own machine, and print its public key",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := os.Lstat(args[0]); err == nil {
				return usagef("%s is there already, want the name of a new file", args[0])
			}
			if err := household.CreateKey(args[0]); err != nil {
				return &problem{code: exitFailed, err: err}
			}
			key, err := household.LoadKey(args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(s.err, "hint: %s stays with you; the line below is for whoever founds the community\n", args[0])
			_, err = fmt.Fprintln(s.out, household.Public(key))
			return err
		},
	})
	return c
}

// admitOwn keeps the signed admission of a founding home for its agent.
func admitOwn(path, home string, s streams) error {
	d, err := readDecision(path)
	if err != nil {
		return err
	}
	chain, g, err := community(home)
	if err != nil {
		return err
	}
	keys, err := coldKeys(home)
	if err != nil {
		return err
	}
	if d.Community != chain || d.Household != keys.ID().String() || d.Kind != ledger.KindHousehold.String() {
		return usagef("%s is the %s of household %s in %q, want the admission of this home, %s in %s", path, d.Kind, d.Household, d.Community, keys.ID(), chain)
	}
	if n := len(d.Approvals); n < g.Rules.ApprovalsNeeded {
		return &problem{exitUsage, fmt.Errorf("%s: %d of %d officers have signed", path, n, g.Rules.ApprovalsNeeded), "they do it with `commonwatt community approve " + path + "`"}
	}
	transactions, err := d.Transactions(signWith(keys))
	if err != nil {
		return &problem{code: exitUsage, err: err}
	}
	if err := writeAdmission(home, transactions); err != nil {
		return &problem{code: exitFailed, err: err}
	}
	_, err = fmt.Fprintf(s.out, "household %s registers itself when its agent starts\n", market.HouseholdIDOf(keys.HouseholdPublic()))
	return err
}
