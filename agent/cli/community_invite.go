package cli

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/agent/joining"
	"github.com/commonwatt/commonwatt/agent/paper"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
)

type inviteOptions struct {
	home, expires, node, png string
	uses                     int
	addresses                []string
	textOnly                 bool
}

func newCommunityInvite(s streams) *cobra.Command {
	var o inviteOptions
	c := &cobra.Command{
		Use:   "invite",
		Short: "Invite a household: as text, as words, and as a picture to scan",
		Long: `Makes an invitation, which is good once, ends by itself and can be revoked. Whoever has it
can ask this home's running agent for admission; officers of the cooperative decide.

The text holds all that is needed. The words are for reading out, and need beside them the
address of this home, or its local network. Give it only to the person who is meant.`,
		Example: `  commonwatt community invite --home my-home
  commonwatt community invite --home my-home --expires 2d --node feeder-2 --png invitation.png`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return o.run(s) },
	}
	f := c.Flags()
	f.StringVar(&o.home, "home", ".", "the folder of the home that invites")
	f.StringVar(&o.expires, "expires", "7d", "when it ends, in days or hours: 7d, 12h")
	f.IntVar(&o.uses, "uses", 1, "how many households may come with it")
	f.StringVar(&o.node, "node", "", "node of the network where they hang (default: its root, or its only leaf)")
	f.StringVar(&o.png, "png", "", "write the picture to this file too")
	f.StringArrayVar(&o.addresses, "address", nil, "where this home is reached from outside, HOST[:PORT], if its agent cannot know; may be repeated")
	f.BoolVar(&o.textOnly, "text", false, "print the text alone")
	return c
}

// maxExpiry is how long an invitation may be good: longer is no longer one person's.
const maxExpiry = 90 * 24 * time.Hour

// parseExpiry reads 7d and 12h.
func parseExpiry(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		n, err = strconv.Atoi(days)
		d = time.Duration(min(max(n, -1), 1000)) * 24 * time.Hour
	}
	if err != nil || d < time.Second || d > maxExpiry {
		return 0, usagef("--expires: got %.40q, want 1s to %dd, such as 7d or 12h", text, int(maxExpiry.Hours()/24))
	}
	return d, nil
}

func (o *inviteOptions) run(s streams) error {
	lasts, err := parseExpiry(o.expires)
	if err != nil {
		return err
	}
	cfg, err := household.LoadConfig(filepath.Join(o.home, household.ConfigFile))
	if err != nil {
		return err
	}
	if cfg.Role == household.RoleLight {
		return &problem{exitUsage, fmt.Errorf("%s is a light home: it keeps no ledger from which somebody could be let in", cfg.Name), "invite on a replica or a validator"}
	}
	raw, err := readGenesis(o.home)
	if err != nil {
		return err
	}
	hash, err := consensus.GenesisHash(raw)
	if err != nil {
		return &problem{code: exitUsage, err: err}
	}
	_, g, err := community(o.home)
	if err != nil {
		return err
	}
	if o.node, err = nodeFor(g, o.node); err != nil {
		return err
	}
	self, err := o.self()
	if err != nil {
		return err
	}
	now := time.Now()
	issued, err := joining.OpenFolder(o.home).Issue(o.node, o.uses, now, now.Add(lasts))
	if err != nil {
		return &problem{code: exitUsage, err: err}
	}
	i := &joining.Invitation{Secret: issued.SecretOf(), Expires: issued.Expires, Nodes: []joining.Node{self}}
	copy(i.Genesis[:], hash[:])
	return o.print(s, g.Name, issued, i)
}

// nodeFor is where an invited home hangs: the node that is named, or the only place there is.
func nodeFor(g ledger.Genesis, node string) (string, error) {
	if len(g.Network) == 0 {
		if node != "" && node != ledger.RootNode {
			return "", usagef("--node: got %q, want %s: the network is one node", node, ledger.RootNode)
		}
		return ledger.RootNode, nil
	}
	var names, leaves []string
	for _, n := range g.Network {
		names = append(names, n.ID)
		if !slices.ContainsFunc(g.Network, func(x ledger.Node) bool { return x.Parent == n.ID }) {
			leaves = append(leaves, n.ID)
		}
	}
	switch {
	case node == "" && len(leaves) == 1:
		return leaves[0], nil
	case node == "":
		return "", usagef("--node is missing: at which node does the home hang? one of %s", strings.Join(names, ", "))
	case !slices.Contains(names, node):
		return "", usagef("--node: got %q, want one of %s", node, strings.Join(names, ", "))
	}
	return node, nil
}

// self is this home, as others find it.
func (o *inviteOptions) self() (joining.Node, error) {
	keys, err := household.LoadKeys(o.home)
	if err != nil {
		return joining.Node{}, &problem{exitUsage, err, "--home is the folder of a home of the community"}
	}
	n := joining.Node{Network: keys.Network.Public().(ed25519.PublicKey)} //nolint:forcetypeassert // that of crypto/ed25519
	for _, a := range o.addresses {
		found, err := multiaddrs(a)
		if err != nil {
			return n, err
		}
		n.Addresses = append(n.Addresses, found...)
	}
	known, err := ownAddresses(o.home)
	if err != nil {
		return n, err
	}
	for _, a := range bestFirst(known) {
		if !slices.Contains(n.Addresses, a) {
			n.Addresses = append(n.Addresses, a)
		}
	}
	n.Addresses = n.Addresses[:min(len(n.Addresses), maxInvited)]
	if len(n.Addresses) == 0 {
		return n, &problem{
			exitUsage, errors.New("it is not known where this home can be reached: its agent has not run yet"),
			fmt.Sprintf("start it with `commonwatt run --home %s`, or name the address with --address HOST[:PORT]", o.home),
		}
	}
	return n, nil
}

// maxInvited is how many addresses an invitation names, so that its text stays short.
const maxInvited = 6

// bestFirst takes the identity off addresses, and puts public ones before those of the house.
func bestFirst(addrs []string) []string {
	var out []string
	for _, s := range addrs {
		if at, _, ok := strings.Cut(s, "/p2p/"); ok {
			out = append(out, at)
		}
	}
	rank := func(s string) int {
		a, err := ma.NewMultiaddr(s)
		switch {
		case err != nil:
			return 3
		case manet.IsPublicAddr(a):
			return 0
		case manet.IsIPLoopback(a):
			return 2
		}
		return 1
	}
	slices.SortStableFunc(out, func(a, b string) int { return rank(a) - rank(b) })
	return out
}

// multiaddrs are the addresses of HOST[:PORT]; a multiaddr is taken as it is.
func multiaddrs(text string) ([]string, error) {
	if strings.HasPrefix(text, "/") {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			return nil, usagef("--address: got %q: %v", text, err)
		}
		return []string{a.String()}, nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = strings.Trim(text, "[]"), joining.DefaultPort
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return nil, usagef("--address: got %q, want HOST[:PORT]", text)
	}
	kind := "dns"
	if ip := net.ParseIP(host); ip != nil && ip.To4() != nil {
		kind = "ip4"
	} else if ip != nil {
		kind = "ip6"
	}
	base := "/" + kind + "/" + host
	if _, err := ma.NewMultiaddr(base); err != nil {
		return nil, usagef("--address: got %q, want HOST[:PORT]", text)
	}
	return []string{base + "/udp/" + port + "/quic-v1", base + "/tcp/" + port}, nil
}

func (o *inviteOptions) print(s streams, name string, issued *joining.Issued, i *joining.Invitation) error {
	text, err := i.Text()
	if err != nil {
		return &problem{code: exitUsage, err: err}
	}
	if o.png != "" {
		f, err := os.OpenFile(o.png, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return &problem{code: exitUsage, err: fmt.Errorf("--png: %w", err)}
		}
		if err := errors.Join(paper.PNG(f, text), f.Close()); err != nil {
			return &problem{code: exitFailed, err: fmt.Errorf("--png: %w", err)}
		}
	}
	if o.textOnly {
		_, err := fmt.Fprintln(s.out, text)
		return err
	}
	good := "one household"
	if issued.Uses > 1 {
		good = fmt.Sprintf("%d households", issued.Uses)
	}
	fmt.Fprintf(s.out, "invitation %s to %s, for %s at %s, until %s\n\n%s\n\n", issued.ID, name, good, issued.Node, issued.Expires.Local().Format(time.RFC1123), text)
	printWords(s.out, i.Words())
	fmt.Fprintln(s.out)
	if f, ok := s.out.(*os.File); ok && isTerminal(f) {
		if err := paper.Terminal(s.out, text, false); err != nil {
			return err
		}
	}
	fmt.Fprintf(s.err, "hint: on the new gateway: `commonwatt join` with the text; or with the words and --at HOST, or the words alone in this house\n")
	fmt.Fprintf(s.err, "hint: this home's agent must be running; who asks is shown by `commonwatt community requests --home %s`\n", o.home)
	return nil
}

// printWords writes words with their numbers, four in a line.
func printWords(out io.Writer, words []string) {
	for i, w := range words {
		end := " "
		if i%4 == 3 || i == len(words)-1 {
			end = "\n"
		}
		if end == "\n" {
			fmt.Fprintf(out, "%2d. %s\n", i+1, w)
		} else {
			fmt.Fprintf(out, "%2d. %-10s", i+1, w)
		}
	}
}

func newCommunityInvitations(s streams) *cobra.Command {
	var home, output string
	c := &cobra.Command{
		Use: "invitations", Short: "List this home's invitations", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			all, err := joining.OpenFolder(home).List(time.Now())
			if err != nil {
				return err
			}
			return printInvitations(s.out, all, output)
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the home's folder")
	addOutput(c, &output, "table", "json")
	return c
}

func printInvitations(out io.Writer, all []*joining.Issued, output string) error {
	now := time.Now()
	if output == "json" {
		type row struct {
			ID      string    `json:"id"`
			State   string    `json:"state"`
			Expires time.Time `json:"expires"`
			Uses    int       `json:"uses"`
			Used    []string  `json:"used"`
			Node    string    `json:"node"`
		}
		rows := []row{}
		for _, i := range all {
			r := row{ID: i.ID, State: string(i.State(now)), Expires: i.Expires, Uses: i.Uses, Used: []string{}, Node: i.Node}
			for _, h := range i.Used {
				r.Used = append(r.Used, h.String())
			}
			rows = append(rows, r)
		}
		return printJSON(out, rows)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "id\tstate\tused\tnode\tuntil")
	for _, i := range all {
		fmt.Fprintf(w, "%s\t%s\t%d of %d\t%s\t%s\n", i.ID, i.State(now), len(i.Used), i.Uses, i.Node, i.Expires.Local().Format(time.DateTime))
	}
	return w.Flush()
}

func newCommunityRevoke(s streams) *cobra.Command {
	var home string
	c := &cobra.Command{
		Use: "revoke ID", Short: "End an invitation before its time", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := joining.OpenFolder(home).Revoke(args[0]); errors.Is(err, joining.ErrUnknown) {
				return &problem{exitUsage, err, "`commonwatt community invitations --home " + home + "` lists them"}
			} else if err != nil {
				return err
			}
			_, err := fmt.Fprintf(s.out, "invitation %s is revoked; who has asked with it already goes on waiting for officers\n", args[0])
			return err
		},
	}
	c.Flags().StringVar(&home, "home", ".", "the home's folder")
	return c
}
