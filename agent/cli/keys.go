package cli

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/agent/joining"
	"github.com/commonwatt/commonwatt/agent/paper"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
)

// nagWords reminds people who have not shown yet that they have their recovery words.
func nagWords(out io.Writer, home string) {
	if _, err := os.Lstat(household.KeyFile(home, household.UncheckedFile)); err == nil {
		fmt.Fprintf(out, "nobody has written down this household's recovery words; without them it is lost with this gateway: `commonwatt keys backup --home %s`\n", home)
	}
}

func newKeys(s streams) *cobra.Command {
	c := &cobra.Command{
		Use:   "keys",
		Short: "Look after the household's key: words, shares, and what to do about a theft",
		Long: `A gateway trades with its device key. The household's own key says who the household is; it
is needed to be admitted and to put another gateway in the place of one that is gone, and
else never. So it is written down as words, and may leave the gateway.`,
	}
	c.AddCommand(newKeysBackup(s), newKeysCheck(s), newKeysForget(s), newKeysRestore(s), newKeysShare(s), newKeysRevoke(s))
	return c
}

func newKeysBackup(s streams) *cobra.Command {
	var home string
	var show bool
	c := &cobra.Command{
		Use: "backup", Short: "Show the recovery words, and have some given back", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			keys, err := coldKeys(home)
			if err != nil {
				return err
			}
			if !atTerminal(s) && !show {
				return &problem{exitUsage, errors.New("the output is no terminal, and the recovery words must not get into a log"), "--show-words prints them all the same"}
			}
			if err := newDialogue(s).showWords(c.Context(), [32]byte(keys.Household.Seed())); errors.Is(err, errNoAnswer) {
				return &problem{exitUsage, errors.New("the words were not given back"), "run it again, and have paper ready"}
			} else if err != nil {
				return err
			}
			return wordsAreWritten(home, s.out)
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the home's folder")
	c.Flags().BoolVar(&show, "show-words", false, "show them although the output is no terminal")
	return c
}

func wordsAreWritten(home string, out io.Writer) error {
	if err := os.Remove(household.KeyFile(home, household.UncheckedFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_, err := fmt.Fprintln(out, "the words are right")
	return err
}

// coldKeys loads a home's keys with that of the household among them.
func coldKeys(home string) (*household.Keys, error) {
	keys, err := household.LoadKeys(home)
	if err != nil {
		return nil, &problem{exitUsage, err, "--home is the home's folder"}
	}
	if keys.Household == nil {
		return nil, &problem{exitUsage, errors.New("the household's key is not on this gateway"), "`commonwatt keys restore --home " + home + "` brings it back, with the words"}
	}
	return keys, nil
}

func newKeysCheck(s streams) *cobra.Command {
	var home string
	c := &cobra.Command{
		Use: "check", Short: "Rehearse: are the words on the paper those of this household?", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			keys, err := household.LoadKeys(home)
			if err != nil {
				return &problem{exitUsage, err, "--home is the home's folder"}
			}
			if _, err := askKey(c.Context(), newDialogue(s), keys); err != nil {
				return err
			}
			return wordsAreWritten(home, s.out)
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the home's folder")
	return c
}

// askKey asks for the 24 words. If it is known whose they have to be, others are refused,
// and where the key is at hand the wrong word is named.
func askKey(ctx context.Context, d *dialogue, known *household.Keys) (ed25519.PrivateKey, error) {
	var words []string
	fmt.Fprintf(d.out, "Give the %d recovery words, on one line or several.\n", paper.RecoveryCount)
	for len(words) < paper.RecoveryCount {
		line, err := d.ask(ctx, fmt.Sprintf("from word %d: ", len(words)+1))
		if errors.Is(err, errNoAnswer) {
			return nil, usagef("the words: got %d, want %d", len(words), paper.RecoveryCount)
		}
		if err != nil {
			return nil, err
		}
		words = append(words, paper.SplitWords(line)...)
	}
	if known != nil && known.Household != nil {
		if err := paper.Differ(words, paper.RecoveryWords([32]byte(known.Household.Seed()))); err != nil {
			return nil, &problem{exitUsage, err, "correct it on the paper; `commonwatt keys backup` shows all of them"}
		}
	}
	seed, err := paper.SeedOf(words)
	if err != nil {
		return nil, &problem{exitUsage, err, "the words are in the order of their numbers"}
	}
	key := ed25519.NewKeyFromSeed(seed[:])
	if known != nil && householdOf(key) != known.ID() {
		return nil, usagef("these are the words of household %s, this home is household %s", householdOf(key), known.ID())
	}
	return key, nil
}

func householdOf(key ed25519.PrivateKey) market.HouseholdID {
	return market.HouseholdIDOf(key.Public().(ed25519.PublicKey)) //nolint:forcetypeassert // that of crypto/ed25519
}

func newKeysForget(s streams) *cobra.Command {
	var home string
	c := &cobra.Command{
		Use: "forget", Short: "Take the household's key off this gateway; the words stay", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			keys, err := coldKeys(home)
			if err != nil {
				return err
			}
			if _, err := os.Lstat(household.KeyFile(home, household.UncheckedFile)); err == nil {
				return &problem{exitUsage, errors.New("nobody has shown yet that they have the recovery words: with the key they would be gone"), "`commonwatt keys backup --home " + home + "`"}
			}
			if _, err := os.Lstat(filepath.Join(home, joiningFile)); err == nil {
				return &problem{exitUsage, errors.New("this home is not admitted yet, and signs its admission with it"), "`commonwatt join --home " + home + "` first"}
			}
			if err := household.ForgetHousehold(home); err != nil {
				return err
			}
			_, err = fmt.Fprintf(s.out, "the key of household %s is no longer on this gateway\n", keys.ID())
			return err
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the home's folder")
	return c
}

func newKeysRestore(s streams) *cobra.Command {
	var home string
	c := &cobra.Command{
		Use: "restore", Short: "Bring the household's key back onto this gateway, from the words", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			keys, err := household.LoadKeys(home)
			if err != nil {
				return &problem{exitUsage, err, "--home is the home's folder"}
			}
			key, err := askKey(c.Context(), newDialogue(s), keys)
			if err != nil {
				return err
			}
			if err := household.WriteKey(household.KeyFile(home, household.HouseholdKeyFile), key); err != nil {
				return err
			}
			return wordsAreWritten(home, s.out)
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the home's folder")
	return c
}

func newKeysShare(s streams) *cobra.Command {
	var home, png string
	var to, need int
	var show bool
	c := &cobra.Command{
		Use:   "share",
		Short: "Split the household's key among neighbours, of whom some are enough",
		Long: `Prints shares of the household's key, one for each neighbour. With as many of them as --need
says the household can be recovered; fewer say nothing about the key. New shares do not work
together with older ones.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			keys, err := coldKeys(home)
			if err != nil {
				return err
			}
			if !atTerminal(s) && !show {
				return &problem{exitUsage, errors.New("the output is no terminal, and shares must not get into a log"), "--show prints them all the same"}
			}
			raw, err := readGenesis(home)
			if err != nil {
				return err
			}
			hash, err := consensus.GenesisHash(raw)
			if err != nil {
				return &problem{code: exitUsage, err: err}
			}
			shares, err := paper.Split([32]byte(keys.Household.Seed()), to, need, rand.Reader)
			if err != nil {
				return &problem{code: exitUsage, err: err}
			}
			id := keys.ID()
			for _, p := range shares {
				share := &joining.Share{Share: p, Label: id[:], Genesis: [16]byte(hash[:16])}
				if err := printShare(s, id, len(shares), share, png); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&home, "home", ".", "the home's folder")
	f.IntVar(&to, "to", 3, "how many shares to make")
	f.IntVar(&need, "need", 2, "how many of them are enough")
	f.StringVar(&png, "png", "", "write the pictures too, to PNG-1.png, PNG-2.png and so on")
	f.BoolVar(&show, "show", false, "show them although the output is no terminal")
	return c
}

func printShare(s streams, id market.HouseholdID, of int, share *joining.Share, png string) error {
	text := share.Text()
	fmt.Fprintf(s.out, "share %d of %d of household %s; any %d are enough. For one neighbour; keep no copy.\n\n%s\n\n", share.Number, of, id, share.Need, text)
	printWords(s.out, share.Words())
	fmt.Fprintln(s.out)
	if png != "" {
		name := fmt.Sprintf("%s-%d.png", strings.TrimSuffix(png, ".png"), share.Number)
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the person named it
		if err != nil {
			return &problem{code: exitUsage, err: fmt.Errorf("--png: %w", err)}
		}
		if err := errors.Join(paper.PNG(f, text), f.Close()); err != nil {
			return &problem{code: exitFailed, err: fmt.Errorf("--png: %w", err)}
		}
	}
	if !atTerminal(s) {
		return nil
	}
	return paper.Terminal(s.out, text, false)
}
