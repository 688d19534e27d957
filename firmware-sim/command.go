package main

import (
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// usageError is a mistake in the command line.
type usageError struct{ error }

// version is set by the linker (make build).
var version string

//go:embed example.yaml
var exampleConfig string

func newCommand() *cobra.Command {
	var scenario, output string
	var messages messageFlags
	var listing bool
	root := &cobra.Command{
		Use:   "firmware-sim",
		Short: "pretends to be the meters of a street",
		Long: `firmware-sim pretends to be the physical world of a street: homes with loads,
solar panels and batteries, behind meters that speak Modbus, MQTT, P1 and HTTP as
real ones do, with counters that move in community time, and with every fault
that meters and wires have, by scenario or by hand.`,
		Example: `  firmware-sim example > street.yaml
  firmware-sim run --config street.yaml
  firmware-sim --scenario bad-day.yaml
  firmware-sim --list --output json`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case listing && scenario != "":
				return usageError{errors.New("want either --list or --scenario")}
			case listing:
				return list(c.OutOrStdout(), output)
			case c.Flags().Changed("output"):
				return usageError{errors.New("--output belongs to --list")}
			case scenario != "":
				return messages.serve(c, files{scenario: scenario})
			default:
				return c.Help()
			}
		},
	}
	root.Flags().StringVar(&scenario, "scenario", "", "serve a street in which something goes wrong: scenario file (YAML) that names or contains its street")
	root.Flags().BoolVar(&listing, "list", false, "list transports, devices and faults")
	root.Flags().StringVar(&output, "output", "table", "format of --list: table or json")
	messages.add(root)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see %s --help)", err, c.CommandPath())}
	})
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(runCommand(), exampleCommand(), versionCommand())
	return root
}

// messageFlags say how messages look.
type messageFlags struct{ format, level string }

func (m *messageFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&m.format, "log-format", "text", "format of messages: text or json")
	c.Flags().StringVar(&m.level, "log-level", "info", "least level of messages: debug, info, warn or error")
}

func (m *messageFlags) serve(c *cobra.Command, f files) error {
	log, err := newLogger(c, m.format, m.level)
	if err != nil {
		return err
	}
	return serve(c.Context(), f, c.OutOrStdout(), log)
}

// noArguments refuses arguments and, on the root, commands that do not exist.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	if len(names) == 0 {
		return usageError{fmt.Errorf("%s takes no arguments, got %.60q", c.CommandPath(), args[0])}
	}
	return usageError{fmt.Errorf("unknown command %.60q, want one of %s", args[0], strings.Join(names, ", "))}
}

func runCommand() *cobra.Command {
	var f files
	var messages messageFlags
	command := &cobra.Command{
		Use:   "run --config FILE [--scenario FILE]",
		Short: "serve a street until it is interrupted",
		Long: `Serve the street of a configuration until it is interrupted.

As soon as all servers listen, one line of JSON on stdout says where:

  {"ready":true,"modbus":"127.0.0.1:1502","mqtt":"127.0.0.1:1883","control":"127.0.0.1:8080"}

A server that the configuration does without is left out; rtu and p1 are paths of
pseudo-terminals. Messages go to stderr. What the meters show is a function of
configuration, scenario and community time alone, so a firmware-sim that was
killed continues where its meters would be.`,
		Example: `  firmware-sim run --config street.yaml
  firmware-sim run --config street.yaml --scenario bad-day.yaml
  firmware-sim run --config street.yaml --log-format json --log-level debug`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if f.config == "" && f.scenario == "" {
				return usageError{errors.New("--config is missing (firmware-sim example prints one)")}
			}
			return messages.serve(c, f)
		},
	}
	command.Flags().StringVar(&f.config, "config", "", "configuration file (YAML)")
	command.Flags().StringVar(&f.scenario, "scenario", "", "scenario file (YAML): what goes wrong, and the street if there is no configuration")
	messages.add(command)
	return command
}

func newLogger(c *cobra.Command, format, level string) (*slog.Logger, error) {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil || strings.ContainsAny(level, "+-") {
		return nil, usageError{fmt.Errorf("--log-level: got %.20q, want debug, info, warn or error", level)}
	}
	options := &slog.HandlerOptions{Level: least}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(c.ErrOrStderr(), options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(c.ErrOrStderr(), options)), nil
	default:
		return nil, usageError{fmt.Errorf("--log-format: got %.20q, want text or json", format)}
	}
}

func exampleCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "example",
		Short:   "print a commented configuration",
		Example: `  firmware-sim example > street.yaml`,
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(c.OutOrStdout(), exampleConfig)
			return err
		},
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "print the version",
		Example: `  firmware-sim version`,
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(c.OutOrStdout(), versionText())
			return err
		},
	}
}

// versionText is what the linker, or else the Go toolchain, wrote into the
// binary.
func versionText() string {
	text := version
	if info, ok := debug.ReadBuildInfo(); ok && text == "" && info.Main.Version != "(devel)" {
		text = info.Main.Version
	}
	if text == "" {
		text = "devel"
	}
	return fmt.Sprintf("firmware-sim %s %s %s/%s", text, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
