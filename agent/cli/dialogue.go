package cli

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"slices"
	"strings"

	"github.com/commonwatt/commonwatt/agent/paper"
)

// dialogue asks a person, on a terminal or through a pipe; answers are bounded lines.
type dialogue struct {
	in   *bufio.Reader
	out  io.Writer // questions
	data io.Writer // words
}

const maxAnswer = 4 << 10

func newDialogue(s streams) *dialogue {
	return &dialogue{in: bufio.NewReaderSize(s.in, maxAnswer), out: s.err, data: s.out}
}

// errNoAnswer: there is nobody, or nobody any more, who answers.
var errNoAnswer = errors.New("nobody answers")

// ask puts a question and waits for a line; ctx ends the wait.
func (d *dialogue) ask(ctx context.Context, question string) (string, error) {
	if _, err := fmt.Fprint(d.out, question); err != nil {
		return "", err
	}
	type answer struct {
		line string
		err  error
	}
	// Nobody can interrupt a read from a terminal, so on Ctrl-C it is left behind: the program ends.
	got := make(chan answer, 1)
	go func() {
		line, err := d.in.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) > 0 {
			err = nil
		}
		got <- answer{strings.TrimSpace(string(line)), err}
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case a := <-got:
		switch {
		case errors.Is(a.err, io.EOF):
			return "", errNoAnswer
		case errors.Is(a.err, bufio.ErrBufferFull):
			return "", usagef("the answer: got more than %d bytes", maxAnswer)
		}
		return a.line, a.err
	}
}

// askOr is ask with an answer that stands if the person says nothing.
func (d *dialogue) askOr(ctx context.Context, question, otherwise string) (string, error) {
	if otherwise != "" {
		question += " [" + otherwise + "]"
	}
	answer, err := d.ask(ctx, question+": ")
	if answer == "" {
		answer = otherwise
	}
	return answer, err
}

// askedBack is how many of the words a person has to give back.
const askedBack = 3

// rehearse shows that a person has the words: some of them are asked for.
func (d *dialogue) rehearse(ctx context.Context, words []string) error {
	var places []int
	for len(places) < askedBack {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(words))))
		if err != nil {
			return err
		}
		if at := int(n.Int64()); !slices.Contains(places, at) {
			places = append(places, at)
		}
	}
	slices.Sort(places)
	for _, at := range places {
		for {
			answer, err := d.ask(ctx, fmt.Sprintf("word %d: ", at+1))
			if err != nil {
				return err
			}
			if strings.EqualFold(answer, words[at]) {
				break
			}
			if _, err := fmt.Fprintf(d.out, "that is not word %d: look at what you wrote down\n", at+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// showWords shows the recovery words of a household once, and has some of them given back.
func (d *dialogue) showWords(ctx context.Context, seed [32]byte) error {
	words := paper.RecoveryWords(seed)
	fmt.Fprint(d.data, `
These 24 words are your household. Whoever has them can take its place; without them, and
without the shares that can be made of them, nobody can give it back to you when this
gateway is lost. Write them on paper. Do not photograph them, do not store them on a computer.

`)
	printWords(d.data, words)
	fmt.Fprintln(d.data, "\nNow give three of them back, so that it is certain that they are on the paper.")
	return d.rehearse(ctx, words)
}

// atTerminal: what is printed is seen by a person, and not kept in a log.
func atTerminal(s streams) bool {
	f, ok := s.out.(*os.File)
	return ok && isTerminal(f)
}
