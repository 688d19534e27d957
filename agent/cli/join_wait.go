package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/commonwatt/commonwatt/agent/decision"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/agent/joining"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// waiting is the second half of a join: it asks, waits for officers, and brings the home in.
// Each step can be done again.
type waiting struct {
	o     *joinOptions
	guest *joining.Guest
	say   io.Writer // progress
	hint  io.Writer
	said  string

	chain string
	g     ledger.Genesis
	keys  *household.Keys
	file  *decision.File
}

// lookEvery is how often the home asks how it is; a person who admits it waits for it.
const lookEvery = 2 * time.Second

func (w *waiting) run(ctx context.Context, s streams) error {
	var err error
	if w.chain, w.g, err = community(w.o.home); err != nil {
		return err
	}
	if w.keys, err = household.LoadKeys(w.o.home); err != nil {
		return &problem{code: exitUsage, err: err}
	}
	if w.file, err = w.o.request(w.chain, w.keys); err != nil {
		return err
	}
	look, err := w.ask(ctx)
	if err != nil {
		return err
	}
	if w.o.noWait && !look.Member {
		w.tell("household %s asks for admission", w.keys.ID())
		_, err := fmt.Fprintf(s.out, "household %s asks for admission\n", w.keys.ID())
		fmt.Fprintf(s.err, "hint: `commonwatt join --home %s` goes on\n", w.o.home)
		return err
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		done, err := w.step(ctx, look)
		if err != nil {
			return err
		}
		if done {
			return w.finish(look, s)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if look, err = w.look(ctx); err != nil {
			return err
		}
	}
}

func (w *waiting) tell(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); text != w.said {
		w.said = text
		fmt.Fprintln(w.say, text)
	}
}

// ask asks for admission. A home that has asked already and comes back finds its place.
func (w *waiting) ask(ctx context.Context) (*joining.Look, error) {
	id := w.keys.ID()
	if _, err := w.guest.Hello(ctx, &id, w.o.now); err != nil {
		return nil, err
	}
	return w.guest.Ask(ctx, w.file)
}

// look asks how it is; a home that is away is visited again, without end.
func (w *waiting) look(ctx context.Context) (*joining.Look, error) {
	l, err := w.guest.Look(ctx, w.keys.ID())
	if err == nil || errors.As(err, new(*joining.Refused)) || ctx.Err() != nil {
		return l, err
	}
	again, verr := w.o.visit(ctx)
	if verr != nil {
		w.tell("the inviting home does not answer; it is asked again, Ctrl-C does no harm")
		return &joining.Look{Needed: -1}, ctx.Err()
	}
	_ = w.guest.Close() // the old visit is over anyway
	w.guest = again
	if l, err = w.guest.Look(ctx, w.keys.ID()); err != nil && !errors.As(err, new(*joining.Refused)) {
		return &joining.Look{Needed: -1}, ctx.Err()
	}
	return l, err
}

// step does what can be done now.
func (w *waiting) step(ctx context.Context, l *joining.Look) (done bool, err error) {
	if l.Needed < 0 {
		return false, nil // nobody has answered
	}
	if l.File != nil {
		if _, err := w.file.Merge(l.File, w.g); err != nil {
			return false, fmt.Errorf("reading the officers' signatures: %w", err)
		}
	}
	n := len(w.file.Approvals)
	switch {
	case l.Member && l.Meter:
		return true, nil
	case n < l.Needed:
		w.tell("waiting for officers: %d of %d have signed for household %s", n, l.Needed, w.keys.ID())
		return false, nil
	}
	transactions, err := w.file.Transactions(signWith(w.keys))
	if err != nil {
		return false, err
	}
	// Kept for the agent too: it brings what is missing, should this be interrupted.
	if err := writeAdmission(w.o.home, transactions); err != nil {
		return false, err
	}
	if !l.Member {
		w.tell("%d officers have signed; waiting for the ledger to take the household in", n)
		transactions = transactions[:1]
	} else {
		w.tell("the household is a member; waiting for the ledger to take its meter in")
		transactions = transactions[1:]
	}
	_, err = w.guest.Submit(ctx, w.keys.ID(), transactions...)
	if refused := (*joining.Refused)(nil); errors.As(err, &refused) {
		return false, err
	}
	return false, nil // what did not get through is sent again
}

// finish writes the configuration, and takes away what was only for joining.
func (w *waiting) finish(l *joining.Look, s streams) error {
	clock := clockFor()
	err := household.WriteConfig(w.o.home, household.Config{
		Name: w.o.Name, Role: w.o.Role, Clock: clock,
		Listen: household.ListenConfig{API: w.o.Page, Network: household.NetworkAddresses(w.o.Port)},
		Peers:  household.PeersConfig{Bootstrap: firstOf(w.guest.At(), l.Peers), MDNS: true},
		Meters: []household.MeterConfig{{Role: household.RoleConnection, Definition: w.o.Definition, Address: w.o.Address, Unit: w.o.Unit}},
	})
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(w.o.home, joiningFile)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(s.out, "household %s is a member of %s\nconfiguration: %s\n",
		w.keys.ID(), w.chain, filepath.Join(w.o.home, household.ConfigFile)); err != nil {
		return err
	}
	fmt.Fprintf(s.err, "hint: start it with `commonwatt run --home %s`\n", w.o.home)
	if w.o.Role == "validator" {
		fmt.Fprintln(s.err, "hint: it follows the ledger until officers have made it a validator, see `commonwatt community propose --help`")
	}
	return nil
}
