// Package cli is the command line of the agent. Data goes to stdout, everything
// said to people to stderr, in the form `commonwatt: error: ...` with a line
// `hint: ...` where there is a way out.
//
// Exit codes: 0 success, 1 something failed, 2 the input is wrong (command line,
// configuration, file), 4 a check found differences, 5 the disk is full, read-only or
// failing.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/meter"
)

// Exit codes.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitDiffers = 4
	exitDisk    = 5
)

// problem is an error with what a shell and a person need of it.
type problem struct {
	code int
	err  error
	hint string
}

func (p *problem) Error() string { return p.err.Error() }
func (p *problem) Unwrap() error { return p.err }

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// Main runs the command line and returns the exit code.
func Main(version string, args []string, in io.Reader, out, errOut io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, version, args, streams{in: in, out: out, err: errOut})
}

func run(ctx context.Context, version string, args []string, s streams) int {
	root := newRoot(version, s)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code, hint := classify(err)
	fmt.Fprintf(s.err, "commonwatt: error: %v\n", err)
	if hint != "" {
		fmt.Fprintf(s.err, "hint: %s\n", hint)
	}
	return code
}

// classify finds the exit code and the hint of an error.
func classify(err error) (code int, hint string) {
	if p := (*problem)(nil); errors.As(err, &p) {
		return p.code, p.hint
	}
	if c := (*household.ConfigError)(nil); errors.As(err, &c) {
		return exitUsage, ""
	}
	if c := (*meter.ConfigError)(nil); errors.As(err, &c) {
		return exitUsage, ""
	}
	return exitFailed, ""
}

func newRoot(version string, s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "commonwatt",
		Short: "A street that shares its sun",
		Long: `Commonwatt is the agent of one home. It reads the smart meter, trades what the
roof leaves over with the neighbours, and keeps with them the ledger on which
everything is settled.

Begin with a whole street on this machine:

  commonwatt demo`,
		SilenceErrors: true, SilenceUsage: true, Version: version,
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &problem{exitUsage, err, fmt.Sprintf("see `%s --help`", c.CommandPath())}
	})
	root.AddCommand(
		newDemo(s), newInit(s), newJoin(s), newRecover(s), newLeave(s), newKeys(s), newRun(version, s), newStatus(s),
		newMeter(s), newMarket(s), newGrid(s), newLedger(s), newBill(s), newVerify(s), newCommunity(s), newClaim(s), newAccount(s), newAudit(s), newSimulate(s), newVersion(version, s),
	)
	for _, c := range []*cobra.Command{root} {
		strictArgs(c)
	}
	return root
}

// strictArgs makes a wrong word on the command line a usage error everywhere, also
// below commands that only group others.
func strictArgs(c *cobra.Command) {
	check := c.Args
	if check == nil && c.HasSubCommands() {
		c.RunE = func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			var names []string
			for _, sub := range c.Commands() {
				if sub.IsAvailableCommand() {
					names = append(names, sub.Name())
				}
			}
			return usagef("unknown command %q for %q, want one of %s", args[0], c.CommandPath(), strings.Join(names, ", "))
		}
		check = cobra.ArbitraryArgs
	}
	if check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return &problem{exitUsage, err, fmt.Sprintf("see `%s --help`", c.CommandPath())}
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		strictArgs(sub)
	}
}

func usagef(format string, args ...any) error {
	return &problem{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// addOutput adds --output with the allowed values, the first being the default.
func addOutput(c *cobra.Command, value *string, allowed ...string) {
	c.Flags().StringVarP(value, "output", "o", allowed[0], "how to print: "+strings.Join(allowed, " or "))
	check := c.PreRunE
	c.PreRunE = func(c *cobra.Command, args []string) error {
		if !slices.Contains(allowed, *value) {
			return usagef("--output: got %q, want %s", *value, strings.Join(allowed, " or "))
		}
		if check != nil {
			return check(c, args)
		}
		return nil
	}
}
