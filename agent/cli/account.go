package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/access"
	"github.com/commonwatt/commonwatt/agent/household"
)

func newAccount(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "account",
		Short: "Say who may log in to this home's gateway",
		Long: `Accounts are for the gateway's page. Whoever may read the home's folder may change them; a
running agent follows at once.

The roles: a homeowner sees and does everything of the own home; an operator of the grid sees
limits and sums over at least three homes; a cooperative sees the network and members' bills;
an auditor sees proofs and the audit log.`,
	}
	c.AddCommand(newAccountList(s), newAccountAdd(s), newAccountReset(s), newAccountRemove(s))
	return c
}

// openFolder opens the accounts of a home.
func openFolder(home string) (*access.Folder, access.Actor, error) {
	by := access.Actor{Name: string(access.Local), Role: access.Local, From: fmt.Sprintf("user id %d", os.Getuid())}
	if _, err := os.Stat(filepath.Join(home, household.ConfigFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, by, &problem{exitUsage, fmt.Errorf("%s is no home: it has no %s", home, household.ConfigFile), "name a home's folder with --home"}
	}
	f, err := access.OpenFolder(home, time.Now)
	return f, by, accountProblem(err)
}

// accountProblem says whose fault it is.
func accountProblem(err error) error {
	switch {
	case errors.As(err, new(*access.InputError)):
		return &problem{code: exitUsage, err: err}
	case errors.Is(err, access.ErrUnclaimed):
		return &problem{exitFailed, err, "`commonwatt claim` prints the code for it, or `commonwatt account add NAME --role homeowner` makes the first account"}
	default:
		return accessProblem(err)
	}
}

func newAccountList(s streams) *cobra.Command {
	var home, output string
	c := &cobra.Command{
		Use: "list", Short: "List the accounts", Example: `  commonwatt account list --home my-home`, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			f, _, err := openFolder(home)
			if err != nil {
				return err
			}
			list, err := f.Accounts()
			if err != nil {
				return accountProblem(err)
			}
			if output == "json" {
				enc := json.NewEncoder(s.out)
				enc.SetIndent("", "  ")
				return enc.Encode(list)
			}
			w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
			for _, a := range list {
				fmt.Fprintf(w, "%s\t%s\tsince %s\n", a.Name, a.Role, a.Since.Format(time.DateOnly))
			}
			return w.Flush()
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the home's folder")
	addOutput(c, &output, "table", "json")
	return c
}

func newAccountAdd(s streams) *cobra.Command {
	var home, role string
	var stdin bool
	c := &cobra.Command{
		Use:     "add NAME",
		Short:   "Make an account, and print its password",
		Example: "  commonwatt account add grid --role operator --home my-home\n  commonwatt account add ada --role homeowner --password-stdin < password.txt",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			f, by, err := openFolder(home)
			if err != nil {
				return err
			}
			password, err := givenPassword(s, stdin)
			if err != nil {
				return err
			}
			fresh, err := f.Add(by, args[0], access.Role(role), password)
			if err != nil {
				return accountProblem(err)
			}
			return printPassword(s, args[0], fresh, stdin)
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the home's folder")
	c.Flags().StringVar(&role, "role", "", "homeowner, operator, cooperative or auditor (required)")
	c.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input; else one is made up")
	return c
}

func newAccountReset(s streams) *cobra.Command {
	var home string
	var stdin bool
	c := &cobra.Command{
		Use:   "reset [NAME]",
		Short: "Give an account another password, and print it",
		Long: `For a lost password. Everybody who is logged in to the account is logged out. Without a
name it is the homeowner's.`,
		Example: `  commonwatt account reset --home my-home`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			f, by, err := openFolder(home)
			if err != nil {
				return err
			}
			password, err := givenPassword(s, stdin)
			if err != nil {
				return err
			}
			name, fresh, err := f.Reset(by, strings.Join(args, ""), password)
			if err != nil {
				return accountProblem(err)
			}
			return printPassword(s, name, fresh, stdin)
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the home's folder")
	c.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input; else one is made up")
	return c
}

func newAccountRemove(s streams) *cobra.Command {
	var home string
	c := &cobra.Command{
		Use: "remove NAME", Short: "End an account", Example: `  commonwatt account remove grid --home my-home`, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			f, by, err := openFolder(home)
			if err != nil {
				return err
			}
			if err := f.Remove(by, args[0]); err != nil {
				return accountProblem(err)
			}
			_, err = fmt.Fprintf(s.out, "%s is removed\n", args[0])
			return err
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the home's folder")
	return c
}

// maxPasswordLine bounds what is read of standard input.
const maxPasswordLine = 1 << 10

// givenPassword reads one line, if it is asked for; empty: one is to be made up.
func givenPassword(s streams, stdin bool) (string, error) {
	if !stdin {
		return "", nil
	}
	line, err := bufio.NewReader(io.LimitReader(s.in, maxPasswordLine)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("reading the password: %w", err)
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", usagef("--password-stdin: got an empty line, want a password")
	}
	return line, nil
}

// printPassword shows a password that was made up; one that was given is known.
func printPassword(s streams, name, password string, given bool) error {
	if given {
		_, err := fmt.Fprintf(s.out, "%s has the password that was given\n", name)
		return err
	}
	_, err := fmt.Fprintf(s.out, "%s has the password %s\n", name, password)
	fmt.Fprintln(s.err, "hint: it is shown this once; change it on the page's settings")
	return err
}
