package cli

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/agent/decision"
	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
)

func newProposeMembership(s streams) *cobra.Command {
	var p proposal
	var node string
	var parts []string
	var share int64
	c := p.flags(&cobra.Command{
		Use:   "membership",
		Short: "Another node, or another part of this home's meter",
		Long: `Asks that this home hangs at another node, takes part with another part of its meter, or has
another static share under the rule sharing. What no flag names stays as it is. The home itself
submits it.`,
		Example: `  commonwatt community propose membership --home my-home --node feeder-2
  commonwatt community propose membership --home my-home --part elm-street=600 --part oak-street=400`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, now, g, err := p.office(c)
			if err != nil {
				return err
			}
			id, own, err := ownMember(p.home, now)
			if err != nil {
				return err
			}
			m := &decision.Membership{Seq: own.MembershipSeq + 1, Node: own.Node, ShareKey: own.ShareKey, Participation: []decision.Participation{}}
			for _, x := range own.Participation {
				m.Participation = append(m.Participation, decision.Participation{Community: x.Community, Permille: x.Permille})
			}
			if node != "" {
				m.Node = node
			}
			if c.Flags().Changed("share-key") {
				m.ShareKey = share
			}
			if c.Flags().Changed("part") {
				if m.Participation, err = parseParts(parts); err != nil {
					return err
				}
			}
			return p.write(s, ledger.KindMembership, now.Name, g, id, m)
		},
	})
	c.Flags().StringVar(&node, "node", "", "of the network, where the home hangs")
	c.Flags().StringArrayVar(&parts, "part", nil, "COMMUNITY=PERMILLE of the meter, once for each community; an empty one: all of it here")
	c.Flags().Int64Var(&share, "share-key", 0, "its static part under the rule sharing; 0: none")
	return c
}

func parseParts(texts []string) ([]decision.Participation, error) {
	parts := []decision.Participation{}
	for _, text := range texts {
		if text == "" {
			continue
		}
		name, permille, ok := strings.Cut(text, "=")
		var n uint16
		if _, err := fmt.Sscanf(permille, "%d", &n); !ok || err != nil || fmt.Sprint(n) != permille {
			return nil, usagef("--part: got %q, want COMMUNITY=PERMILLE, such as elm-street=600", text)
		}
		parts = append(parts, decision.Participation{Community: name, Permille: n})
	}
	slices.SortFunc(parts, func(a, b decision.Participation) int { return strings.Compare(a.Community, b.Community) })
	return parts, nil
}

// ownMember finds the home of a folder among the members.
func ownMember(home string, now api.Community) (id market.HouseholdID, own api.Member, err error) {
	keys, err := household.LoadKeys(home)
	if err != nil {
		return id, own, err
	}
	id = keys.ID()
	i := slices.IndexFunc(now.Members, func(m api.Member) bool { return m.Household == id.String() })
	if i < 0 {
		return id, own, usagef("--home: the ledger knows no household %s yet", id)
	}
	return id, now.Members[i], nil
}

func newProposeValidator(s streams) *cobra.Command {
	var p proposal
	var remove string
	c := p.flags(&cobra.Command{
		Use:   "validator",
		Short: "A vote in the ledger for this home, another key for it, or one vote less",
		Long: `Asks that this home keeps the ledger as a validator, with the key that its folder has: it should
be up day and night. If it is a validator already with another key, the new one takes its place.
--remove takes a household's vote away, from wherever it is asked.`,
		Example: `  commonwatt community propose validator --home my-home
  commonwatt community propose validator --home my-home --remove 33473ce60b4106d6fe467b10447f9d3b`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, now, g, err := p.office(c)
			if err != nil {
				return err
			}
			m := &decision.Validator{Number: now.ValidatorChanges + 1}
			if remove != "" {
				i := slices.IndexFunc(now.Members, func(m api.Member) bool { return m.Household == remove })
				if i < 0 || now.Members[i].Validator == "" {
					return usagef("--remove: got %.70q, want a household with a vote; `commonwatt community members` lists them", remove)
				}
				m.Household, m.Key, m.Remove = remove, now.Members[i].Validator, true
			} else if err := p.vote(m, now); err != nil {
				return err
			}
			return p.write(s, ledger.KindValidator, now.Name, g, market.HouseholdID{}, m)
		},
	})
	c.Flags().StringVar(&remove, "remove", "", "the household whose vote is taken away")
	return c
}

// vote fills in this home's key, which signs that it is there.
func (p *proposal) vote(m *decision.Validator, now api.Community) error {
	id, own, err := ownMember(p.home, now)
	if err != nil {
		return err
	}
	keyFile, _ := household.ValidatorKeyFiles(p.home)
	key, err := consensus.LoadValidatorKey(keyFile)
	if err != nil {
		return &problem{exitUsage, err, "a home of role light has none: say `role: replica` in its " + household.ConfigFile + " first, and start it"}
	}
	public := ledger.KeyOf(key)
	if own.Validator == public.String() {
		return usagef("--home: this home is a validator with this key already")
	}
	m.Household, m.Key = id.String(), public.String()
	possession, err := consensus.ProveValidatorKey(keyFile, now.Name, ledger.SetValidator{Number: m.Number, Household: id, Key: public})
	if err != nil {
		return err
	}
	m.Possession = hex.EncodeToString(possession)
	return nil
}

func newProposeCorrection(s streams) *cobra.Command {
	var p proposal
	var interval string
	var imports, exports int64
	c := p.flags(&cobra.Command{
		Use:   "correction",
		Short: "Other energies for a settled interval of this home",
		Long: `Asks that an interval that is settled is settled again, on what the meter should have counted:
after a fault that no reading proves. Officers look at why; new transfers make the difference.`,
		Example: `  commonwatt community propose correction --home my-home --interval 2026-06-21T12:00:00Z --import 120 --export 0 --reason "the meter was off"`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case p.reason == "":
				return usagef("--reason is missing, see `commonwatt community propose correction --help`")
			case interval == "" || !c.Flags().Changed("import") || !c.Flags().Changed("export"):
				return usagef("--interval, --import and --export are needed, see `commonwatt community propose correction --help`")
			}
			cfg, now, g, err := p.office(c)
			if err != nil {
				return err
			}
			t, err := time.Parse(time.RFC3339, interval)
			if err != nil {
				return usagef("--interval: got %q, want its start, such as 2026-06-21T12:00:00Z", interval)
			}
			id, _, err := ownMember(p.home, now)
			if err != nil {
				return err
			}
			m, err := correction(c, cfg, p.home, g.Calendar().At(t))
			if err != nil {
				return err
			}
			m.Import, m.Export, m.Reason = market.WattHours(imports), market.WattHours(exports), p.reason
			return p.write(s, ledger.KindCorrection, now.Name, g, id, m)
		},
	}, "reason")
	c.Flags().StringVar(&interval, "interval", "", "its start (required)")
	c.Flags().Int64Var(&imports, "import", 0, "Wh that the meter should have counted as drawn, the part that takes part here (required)")
	c.Flags().Int64Var(&exports, "export", 0, "Wh fed in (required)")
	return c
}

// correction is what the ledger settled the home on, with the proof that it wants.
func correction(c *cobra.Command, cfg household.Config, home string, k market.Interval) (*decision.Correction, error) {
	var old api.Correctable
	raw, err := ask(c.Context(), http.MethodGet, cfg, home, fmt.Sprintf("/api/correctable/%d", k), nil)
	if err == nil {
		err = json.Unmarshal(raw, &old)
	}
	if refused := (*refusal)(nil); errors.As(err, &refused) {
		return nil, &problem{code: exitUsage, err: err}
	}
	if err != nil {
		return nil, unanswered(cfg, home, err)
	}
	m := &decision.Correction{Interval: k, Version: old.Version}
	if !old.Kept {
		m.Proof = &decision.Proof{Settlement: old.Settlement, Index: old.Index, Total: old.Total, Aunts: old.Aunts}
	}
	return m, nil
}

func newProposeExclusion(s streams) *cobra.Command {
	var p proposal
	var id string
	c := p.flags(&cobra.Command{
		Use:   "exclusion",
		Short: "End a household's membership",
		Long: `Asks that a household takes part no more from an interval on. What it did until then is settled
to the end, and its statements stay. A household that wants to leave does so itself: ` + "`commonwatt leave`" + `.`,
		Example: `  commonwatt community propose exclusion --home my-home --household 33473ce60b4106d6fe467b10447f9d3b --reason "moved away"`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if p.reason == "" || id == "" {
				return usagef("--household and --reason are needed, see `commonwatt community propose exclusion --help`")
			}
			h, err := market.ParseHouseholdID(id)
			if err != nil {
				return usagef("--household: %v", err)
			}
			_, now, g, err := p.office(c)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(now.Members, func(m api.Member) bool { return m.Household == id && m.Left == nil }) {
				return usagef("--household: got %s, want a member; `commonwatt community members` lists them", id)
			}
			k, err := p.interval(now, g)
			if err != nil {
				return err
			}
			return p.write(s, ledger.KindDeparture, now.Name, g, h, &decision.Exclusion{From: k, Reason: p.reason})
		},
	}, "from", "reason")
	c.Flags().StringVar(&id, "household", "", "whose membership ends (required)")
	return c
}
