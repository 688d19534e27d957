package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market/ledger"
	"github.com/commonwatt/commonwatt/meter"
)

type initOptions struct {
	dir, name, found, definition, address, api string
	unit                                       uint8
	networkPort                                int
}

func newInit(s streams) *cobra.Command {
	var o initOptions
	c := &cobra.Command{
		Use:   "init DIR",
		Short: "Make a home's folder: keys and a commented configuration",
		Long: `Makes the folder of one home: its keys, readable by you alone, and agent.yaml.

With --found NAME it also founds a community of this one home, so that you can see
your own meter on the page at once. To take part in a cooperative's community,
put its community.json, and the admission.txt that it made for you, into the folder.`,
		Example: `  commonwatt init my-home --found my-street --definition eastron-sdm630 --address tcp://192.168.1.20:502 --unit 1
  commonwatt run --home my-home`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			o.dir = args[0]
			return o.run(s)
		},
	}
	f := c.Flags()
	f.StringVar(&o.name, "name", "", "what the page calls this home (default: the folder's name)")
	f.StringVar(&o.found, "found", "", "found a community of this name with this home as its only validator")
	f.StringVar(&o.definition, "definition", "eastron-sdm630", "what the meter at the grid connection is")
	f.StringVar(&o.address, "address", "tcp://127.0.0.1:502", "where that meter is: tcp://HOST:PORT or mqtt://HOST:PORT/TOPIC")
	f.Uint8Var(&o.unit, "unit", 1, "its Modbus unit id")
	f.StringVar(&o.api, "page", "127.0.0.1:8600", "host:port of the page")
	f.IntVar(&o.networkPort, "network-port", 8602, "TCP and UDP port for the other homes")
	return c
}

func (o *initOptions) run(s streams) error {
	if _, err := os.Stat(filepath.Join(o.dir, household.ConfigFile)); !errors.Is(err, fs.ErrNotExist) {
		return &problem{exitUsage, fmt.Errorf("%s is a home already", o.dir), "choose another folder"}
	}
	definition, err := meter.FindDefinition("", o.definition)
	if err != nil {
		return err
	}
	if o.name == "" {
		abs, err := filepath.Abs(o.dir)
		if err != nil {
			return err
		}
		o.name = filepath.Base(abs)
	}
	if err := os.MkdirAll(o.dir, 0o700); err != nil {
		return fmt.Errorf("making the home's folder: %w", err)
	}
	role := "replica"
	if o.found != "" {
		role = "validator"
		err = o.foundCommunity(definition)
	} else {
		err = household.CreateValidatorKey(o.dir)
	}
	if err != nil {
		return &problem{code: exitUsage, err: err}
	}
	keys, err := household.CreateKeys(o.dir)
	if err != nil {
		return err
	}
	clock := clockFor()
	err = household.WriteConfig(o.dir, household.Config{
		Name: o.name, Role: role, Clock: clock,
		Listen: household.ListenConfig{API: o.api, Network: household.NetworkAddresses(o.networkPort), PortMapping: true},
		Peers:  household.PeersConfig{MDNS: true},
		Meters: []household.MeterConfig{{Role: household.RoleConnection, Definition: o.definition, Address: o.address, Unit: o.unit}},
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.out, "home %s is household %s\nconfiguration: %s\n", o.name, keys.ID(), filepath.Join(o.dir, household.ConfigFile))
	if err != nil {
		return err
	}
	if clock == household.ClockTrusted {
		fmt.Fprintf(s.err, "hint: nobody keeps this machine's clock as far as its kernel knows; %s says to trust it, `clock: %s` is safer once a time service runs\n",
			household.ConfigFile, household.ClockSystem)
	}
	if o.found == "" {
		fmt.Fprintf(s.err, "hint: put your cooperative's %s and your %s into %s, then `commonwatt run --home %s`\n",
			household.CommunityFile, household.AdmissionFile, o.dir, o.dir)
	} else {
		fmt.Fprintf(s.err, "hint: start it with `commonwatt run --home %s`\n", o.dir)
	}
	return nil
}

// clockFor is what a new home is told of its clock. Where nobody tells the kernel that the
// clock is kept, in a container or without a time service, no interval would ever be proven.
func clockFor() string {
	if !meter.NewSystemClock().State().Sure() {
		return household.ClockTrusted
	}
	return household.ClockSystem
}

func (o *initOptions) foundCommunity(d meter.Definition) error {
	now := time.Now().UTC().Truncate(time.Second)
	signedBy := ledger.SignedByAgent
	if d.SignedBy == meter.SignedByDevice {
		return &problem{
			exitUsage, fmt.Errorf("--definition: %s signs its own readings, so its key has to be registered", d.ID),
			"a community of one can be founded with a meter that the agent signs for",
		}
	}
	return household.Found(household.Founding{
		Name: o.found, Dir: filepath.Join(o.dir, "cooperative"), Epoch: now, Start: now, Rate: 1, Rules: ledger.DefaultRules(),
		Homes: []household.Founder{{
			Name: o.name, Dir: o.dir, Validator: true,
			Meter: ledger.RegisterMeter{SignedBy: signedBy, Definition: d.Source()},
		}},
	})
}
