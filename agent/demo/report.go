package demo

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/commonwatt/commonwatt/agent/household"
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/store"
)

// Report is what a demonstration came to. Energy is in Wh, money in micro-units.
type Report struct {
	Community        string           `json:"community"`
	Data             string           `json:"data"`
	IntervalsSettled int              `json:"intervals_settled"`
	IntervalsMetered int              `json:"intervals_metered"` // cleared by the meters after delivery: nothing could be decided before
	IntervalsSplit   int              `json:"intervals_split"`   // in which the two feeders had prices of their own
	FirstInterval    *time.Time       `json:"first_interval"`    // community time of its start; null: none settled
	LastInterval     *time.Time       `json:"last_interval"`
	Households       []HouseholdLine  `json:"households"`
	BalanceSum       market.Money     `json:"balance_sum"` // over all accounts
	Accounts         map[string]int64 `json:"accounts"`    // those that are not a household's
	Nodes            []NodeLine       `json:"nodes"`
	Rejected         map[string]int64 `json:"rejected"` // by code, over all nodes
	Events           []string         `json:"events"`   // what a person should know and is no error
	Errors           []string         `json:"errors"`

	fees, rents int64 // of all intervals, computed anew
}

// HouseholdLine is one home over the settled intervals, those with a substitute for
// its report left out.
type HouseholdLine struct {
	ID             string           `json:"id"`
	Name           string           `json:"name"`
	Node           string           `json:"node"` // of the network
	Protocol       string           `json:"protocol"`
	Definition     string           `json:"definition"`
	Intervals      int              `json:"intervals"`
	Estimated      int              `json:"estimated"`   // intervals that are their share of a gap
	Substituted    int              `json:"substituted"` // settled, and no report has come yet
	ImportWh       market.WattHours `json:"import_wh"`
	ExportWh       market.WattHours `json:"export_wh"`
	BoughtWh       market.WattHours `json:"bought_wh"`
	SoldWh         market.WattHours `json:"sold_wh"`
	Balance        market.Money     `json:"balance"`
	Recounted      market.Money     `json:"recounted"` // the balance, computed anew from what its device counted
	Battery        bool             `json:"battery"`
	OffWh          market.WattHours `json:"off_wh"`           // metered against allocated, both directions, over its intervals
	OffCost        int64            `json:"off_cost"`         // what that cost it, against having ordered rightly
	Corrections    int              `json:"corrections"`      // settlements that corrected an earlier one
	DeviceImportWh uint64           `json:"device_import_wh"` // by firmware-sim's own counter
	DeviceExportWh uint64           `json:"device_export_wh"`

	communityFees int64 // computed anew
}

// NodeLine is one agent's copy of the ledger.
type NodeLine struct {
	Home      string `json:"home"`
	Role      string `json:"role"`
	Data      string `json:"data"`
	Height    int64  `json:"height"`
	CommonAt  int64  `json:"common_height"`
	AppHash   string `json:"app_hash"` // at the highest height that all have
	Restarted int    `json:"restarted"`
}

// Write writes the report as JSON.
func (r *Report) Write(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// account reads the ledgers on disk, after the agents have ended, and asks
// firmware-sim what its meters counted.
func (s *street) account(r *Report) error {
	var stores []*store.Store
	defer func() {
		for _, st := range stores {
			_ = st.Close()
		}
	}()
	common := int64(-1)
	for i, h := range s.plan.Homes[:len(s.plan.Homes)-s.plan.light()] {
		st, err := openLedger(h.dir(s.opt.Dir))
		if err != nil {
			return fmt.Errorf("reading the ledger of %s: %w", h.Name, err)
		}
		stores = append(stores, st)
		if common < 0 || st.Height() < common {
			common = st.Height()
		}
		r.Nodes = append(r.Nodes, NodeLine{
			Home: h.Name, Role: h.role(), Data: h.dir(s.opt.Dir), Height: st.Height(), Restarted: len(s.agents[i].ended),
		})
	}
	best := 0
	for i, st := range stores {
		hash, ok := st.AppHashAt(common)
		if !ok {
			return fmt.Errorf("the ledger of %s has no hash of block %d", s.plan.Homes[i].Name, common)
		}
		r.Nodes[i].AppHash, r.Nodes[i].CommonAt = hex.EncodeToString(hash), common
		if r.Nodes[i].AppHash != r.Nodes[0].AppHash {
			r.Errors = append(r.Errors, fmt.Sprintf("the ledgers of %s and %s differ at block %d", s.plan.Homes[0].Name, s.plan.Homes[i].Name, common))
		}
		if st.Height() > stores[best].Height() {
			best = i
		}
	}
	return s.sum(r, stores[best])
}

func openLedger(dir string) (*store.Store, error) {
	raw, err := os.ReadFile(filepath.Join(dir, household.CommunityFile)) //nolint:gosec // a file of this street
	if err != nil {
		return nil, err
	}
	chain, g, err := consensus.ParseGenesis(raw)
	if err != nil {
		return nil, err
	}
	return store.Open(consensus.LedgerFile(filepath.Join(dir, household.EngineFolder)), chain, g)
}

type counters struct {
	ImportWh uint64 `json:"import_wh"`
	ExportWh uint64 `json:"export_wh"`
}

// deviceCounters is what the home's own meter counted up to an instant.
func (s *street) deviceCounters(h home, at time.Time) (c counters, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
	defer cancel()
	address := fmt.Sprintf("http://%s/homes/%s/counters?role=grid&at=%s", s.ready.Control, h.Name, url.QueryEscape(at.Format(time.RFC3339)))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return c, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, res.Body.Close()) }()
	if res.StatusCode != http.StatusOK {
		return c, fmt.Errorf("asking firmware-sim about %s at %s: %s", h.Name, at, res.Status)
	}
	return c, json.NewDecoder(io.LimitReader(res.Body, 1<<16)).Decode(&c)
}

// OneHash says whether all ledgers are the same at the highest height that all have.
func (r *Report) OneHash() bool {
	for _, n := range r.Nodes {
		if n.AppHash != r.Nodes[0].AppHash {
			return false
		}
	}
	return true
}
