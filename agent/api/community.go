package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Office knows what the cooperative decides on. Its errors are a *Refused where the agent
// cannot know: a light home holds no records of others.
type Office interface {
	Community() (Community, error)
	// Correctable is what the ledger settled this home on in an interval.
	Correctable(interval int64) (Correctable, error)
	// Conduct is how the validators behave.
	Conduct(ctx context.Context) (consensus.Conduct, error)
}

// Community is what the ledger knows of its members and its rules.
type Community struct {
	Name             string        `json:"name"`
	NextGate         int64         `json:"next_gate" doc:"The interval whose gate closes next"`
	Decisions        uint64        `json:"decisions" doc:"On rules and network so far: the next has the number above"`
	ValidatorChanges uint64        `json:"validator_changes" doc:"So far: the next has the number above"`
	Rules            ledger.Rules  `json:"rules" doc:"That hold for the next gate's interval"`
	Nodes            []ledger.Node `json:"nodes" nullable:"false" doc:"Of the network that holds for it"`
	Members          []Member      `json:"members" nullable:"false"`
}

// Member is a household as everybody who keeps the ledger knows it: by its pseudonym.
type Member struct {
	Household     string              `json:"household" doc:"Hex"`
	Node          string              `json:"node"`
	Meter         bool                `json:"meter" doc:"It has one that is registered"`
	Validator     string              `json:"validator,omitempty" doc:"The key of its vote, hex; none: it has no vote"`
	DoubleVote    string              `json:"double_vote,omitempty" enum:"proven,struck" doc:"Its validator is proven to have signed two blocks of one height; struck: it has lost its vote for that"`
	Revoked       bool                `json:"revoked" doc:"Its gateway is revoked, and there is no other yet"`
	Left          *int64              `json:"left" doc:"The first interval in which it takes no part; null: it stays"`
	MembershipSeq uint64              `json:"membership_seq"`
	ShareKey      int64               `json:"share_key"`
	Participation []MemberParticipate `json:"participation" nullable:"false" doc:"None: all of its meter takes part"`
}

// MemberParticipate is the part of a meter that takes part in a community.
type MemberParticipate struct {
	Community string `json:"community"`
	Permille  uint16 `json:"permille"`
}

// Correctable is a settlement that officers may correct, with what the ledger wants as proof.
type Correctable struct {
	Interval   int64    `json:"interval"`
	Version    uint32   `json:"version" doc:"Of the newest settlement"`
	ImportWh   int64    `json:"import_wh"`
	ExportWh   int64    `json:"export_wh"`
	Kept       bool     `json:"kept" doc:"The ledger still has the entry, so that no proof is needed"`
	Settlement string   `json:"settlement" doc:"Encoded, hex; empty if kept"`
	Index      int64    `json:"index"`
	Total      int64    `json:"total"`
	Aunts      []string `json:"aunts" nullable:"false" doc:"Hex"`
}

func (s *Server) registerOffice(api huma.API) {
	unknown := func(err error) error {
		if refused := (*Refused)(nil); errors.As(err, &refused) {
			return huma.NewError(http.StatusConflict, refused.Error())
		}
		return err
	}
	get(api, "community", "/api/community", "The members, the rules and the network, as the ledger has them",
		func(context.Context, *struct{}) (*output[Community], error) {
			if s.cfg.Office == nil {
				return nil, huma.Error503ServiceUnavailable("this agent has no ledger to ask")
			}
			c, err := s.cfg.Office.Community()
			if err != nil {
				return nil, unknown(err)
			}
			return &output[Community]{c}, nil
		})
	get(api, "ledger-audit", "/api/ledger/audit", "How the validators behave: blocks, orders left out, refused proposals, double votes",
		func(ctx context.Context, _ *struct{}) (*output[consensus.Conduct], error) {
			if s.cfg.Office == nil {
				return nil, huma.Error503ServiceUnavailable("this agent has no ledger to ask")
			}
			c, err := s.cfg.Office.Conduct(ctx)
			if err != nil {
				return nil, unknown(err)
			}
			return &output[consensus.Conduct]{c}, nil
		})
	type correctableInput struct {
		Interval int64 `path:"interval" minimum:"0" doc:"Its number"`
	}
	get(api, "correctable", "/api/correctable/{interval}", "What this home was settled on in an interval, and its proof for a correction",
		func(_ context.Context, in *correctableInput) (*output[Correctable], error) {
			if s.cfg.Office == nil {
				return nil, huma.Error503ServiceUnavailable("this agent has no ledger to ask")
			}
			c, err := s.cfg.Office.Correctable(in.Interval)
			if err != nil {
				return nil, unknown(err)
			}
			return &output[Correctable]{c}, nil
		})
}
