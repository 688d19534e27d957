package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// insideEnv tells the command that it runs in namespaces of its own.
const insideEnv = "COMMONWATT_NEMESIS"

// shortest is how long faults strike in the short form.
const shortest = 45 * time.Second

// options are what a person can choose.
type options struct {
	duration time.Duration // in which faults strike; up to shortest: one of each cheap kind
	seed     uint64
	only     string // strike with faults of this name alone
	dir      string // where the street is kept; empty: a folder that is removed at the end
	programs string // folder with commonwatt and firmware-sim; empty: they are built
	rate     float64
}

func (o *options) long() bool { return o.duration > shortest }

// pace is how long an interval takes on the wall clock.
func (o *options) pace() time.Duration {
	if o.long() {
		return 10 * time.Second
	}
	return 4 * time.Second
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// command is main with its surroundings as arguments.
func command(ctx context.Context, args []string, out, errs io.Writer) int {
	var o options
	flags := flag.NewFlagSet("nemesis", flag.ContinueOnError)
	flags.SetOutput(errs)
	flags.DurationVar(&o.duration, "duration", shortest, "how long faults strike; more than 45s adds the slow and the costly ones")
	flags.Uint64Var(&o.seed, "seed", 0, "decides the faults and the orders; 0: another one each time")
	flags.StringVar(&o.only, "fault", "", "strike with this fault alone, again and again")
	flags.StringVar(&o.dir, "dir", "", "keep the street in this new folder (default: one that is removed)")
	flags.StringVar(&o.programs, "programs", "", "folder with commonwatt and firmware-sim (default: they are built)")
	flags.Float64Var(&o.rate, "rate", 1, "operations per second")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if err := o.check(); err != nil {
		fmt.Fprintln(errs, err)
		return 2
	}
	if os.Getenv(insideEnv) == "" {
		return enter(ctx, &o, args, out, errs)
	}
	sum, err := run(ctx, o, errs)
	if err != nil {
		fmt.Fprintf(errs, "nemesis: %v (seed %d)\n", err, o.seed)
		return 1
	}
	if err := sum.write(out); err != nil {
		fmt.Fprintf(errs, "nemesis: %v\n", err)
		return 1
	}
	if !sum.good() {
		return 1
	}
	return 0
}

func (o *options) check() error {
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000) + 1 //nolint:gosec // chosen for a person to type again, and printed
	}
	switch {
	case o.duration < time.Second || o.duration > 24*time.Hour:
		return fmt.Errorf("-duration: got %v, want 1s to 24h", o.duration)
	case !(o.rate > 0 && o.rate <= 50): // so that what is no number is refused too
		return fmt.Errorf("-rate: got %v, want more than 0 and at most 50", o.rate)
	}
	if o.only == "" {
		return nil
	}
	var names []string
	for _, f := range faults {
		if f.name == o.only {
			return nil
		}
		names = append(names, f.name)
	}
	return fmt.Errorf("-fault: got %q, want one of %s", o.only, strings.Join(names, ", "))
}

// enter runs the command again in namespaces of its own. The programs are built before,
// where the network is.
func enter(ctx context.Context, o *options, args []string, out, errs io.Writer) int {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(errs, err)
		return 1
	}
	if o.programs == "" {
		dir, err := os.MkdirTemp("", "nemesis-programs-")
		if err != nil {
			fmt.Fprintln(errs, err)
			return 1
		}
		defer os.RemoveAll(dir) //nolint:errcheck // a folder of this run
		if err := build(ctx, dir, errs); err != nil {
			fmt.Fprintln(errs, err)
			return 1
		}
		args = append(args, "-programs", dir)
	}
	space := []string{"--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"}
	if os.Getuid() != 0 {
		space = append(space, "--user", "--map-root-user")
	}
	args = append(append(append(space, self), args...), "-seed", fmt.Sprint(o.seed))
	cmd := exec.CommandContext(ctx, "unshare", args...) //nolint:gosec // ourselves
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdout, cmd.Stderr = out, errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us
	cmd.Cancel = func() error { return cmd.Process.Kill() }
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintf(errs, "nemesis: %v (it takes unshare, nsenter, ip, tc and iptables)\n", err)
		return 1
	}
	return 0
}

// build makes both programs of this checkout.
func build(ctx context.Context, dir string, errs io.Writer) error {
	for name, room := range map[string]string{"commonwatt": "agent", "firmware-sim": "firmware-sim"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, name), modulePath+"/"+room) //nolint:gosec // our own programs
		cmd.Stderr = errs
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("building %s: %w (run it inside the checkout)", name, err)
		}
	}
	return nil
}

const modulePath = "github.com/commonwatt/commonwatt"
