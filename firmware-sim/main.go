// Firmware-sim pretends to be the physical world of a street: homes with loads,
// solar panels and batteries, behind meters that speak Modbus TCP and MQTT as
// real ones do, in community time.
//
// Data goes to stdout, messages go to stderr. Exit status: 0 when it was ended,
// 1 when something failed, 2 for a mistake in the command line or the
// configuration.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/commonwatt/commonwatt/firmware-sim/config"
	"github.com/commonwatt/commonwatt/firmware-sim/scenario"
)

// Exit statuses.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main with its surroundings as arguments.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once
	command := newCommand()
	command.SetArgs(args)
	command.SetOut(stdout)
	command.SetErr(stderr)
	err := command.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	status := exitFailed
	text := fmt.Sprintf("firmware-sim: %v", err)
	if problems, ok := errors.AsType[config.Problems](err); ok {
		status = exitUsage
		text = problems.Error() // file:line first, for editors
	} else if _, ok := errors.AsType[usageError](err); ok || errors.Is(err, scenario.ErrNoStreet) {
		status = exitUsage
	}
	_, _ = fmt.Fprintln(stderr, text) // nobody is left to tell
	return status
}
