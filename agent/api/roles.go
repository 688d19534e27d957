package api

import (
	"fmt"
	"net/http"

	"github.com/commonwatt/commonwatt/agent/access"
)

// rights is a set of roles.
type rights uint8

const (
	homeowner rights = 1 << iota
	operator
	cooperative
	auditor
	local  // the machine's own commands
	nobody // not logged in

	accounts = homeowner | operator | cooperative | auditor
	everyone = accounts | local | nobody
)

var rightOf = map[access.Role]rights{
	access.Homeowner: homeowner, access.Operator: operator, access.Cooperative: cooperative, access.Auditor: auditor,
	access.Local: local, access.Nobody: nobody,
}

// rule says who may use a route.
type rule struct {
	who       rights
	unclaimed bool // also while the gateway is not claimed
	page      bool // a person looks at the answer: it is a page, or leads to one
}

// rules is the whole table of routes and roles. What is not in it is refused, and a server with a
// route that is not in it does not start.
//
// A homeowner sees everything of the own home. An operator sees limits and aggregates, and hands
// envelopes to the ledger; a cooperative sees the network and the bills of members by their
// household; an auditor sees proofs and the audit log.
var rules = map[string]rule{
	"GET /assets/{name}": {who: everyone, unclaimed: true},
	"GET /livez":         {who: everyone, unclaimed: true},
	"GET /claim":         {who: everyone, unclaimed: true, page: true},
	"POST /claim":        {who: everyone, unclaimed: true, page: true},
	"GET /api/claim":     {who: local, unclaimed: true},
	"GET /login":         {who: everyone, page: true},
	"POST /login":        {who: everyone, page: true},
	"POST /logout":       {who: accounts, page: true},

	"GET /settings":                  {who: accounts, page: true},
	"POST /settings/password":        {who: accounts, page: true},
	"POST /settings/sessions":        {who: accounts, page: true},
	"POST /settings/accounts":        {who: homeowner, page: true},
	"POST /settings/accounts/remove": {who: homeowner, page: true},

	"GET /{$}":                         {who: homeowner | local, page: true},
	"GET /events":                      {who: homeowner | local},
	"GET /readyz":                      {who: homeowner | local},
	"GET /api/status":                  {who: homeowner | local},
	"GET /api/now":                     {who: homeowner | local},
	"GET /api/intervals":               {who: homeowner | local},
	"GET /api/account":                 {who: homeowner | local},
	"GET /api/readings":                {who: homeowner | local},
	"GET /api/meters/connection":       {who: homeowner | local},
	"GET /api/bill":                    {who: homeowner | local},
	"GET /api/bill/proof":              {who: homeowner | local},
	"POST /api/controls/{index}":       {who: homeowner | local},
	"POST /api/meters/{role}/approval": {who: homeowner | local},

	// Of a household that is named, whichever it is.
	"GET /api/bill" + ofHousehold:       {who: cooperative | auditor | local},
	"GET /api/bill/proof" + ofHousehold: {who: cooperative | auditor | local},

	"GET /api/community":              {who: homeowner | cooperative | auditor | local},
	"GET /api/correctable/{interval}": {who: homeowner | local},

	"GET /community":                {who: homeowner | operator | cooperative | local, page: true},
	"GET /api/grid":                 {who: homeowner | operator | cooperative | local},
	"POST /api/transactions":        {who: homeowner | operator | cooperative | local},
	"GET /api/ledger/hash/{height}": {who: accounts | local},
	"GET /api/ledger/audit":         {who: homeowner | cooperative | auditor | local},
	"GET /audit":                    {who: homeowner | auditor | local, page: true},
	"GET /api/audit":                {who: homeowner | auditor | local},

	"GET /openapi.yaml": {who: accounts | local},
	"/":                 {who: accounts | local}, // nothing is there
}

// ofHousehold marks the rule of a route for requests that name a household.
const ofHousehold = "?household="

// startPages are where people find themselves after they logged in.
var startPages = map[access.Role]string{
	access.Homeowner: "/", access.Operator: "/community", access.Cooperative: "/community", access.Auditor: "/audit",
}

// ruleFor finds the rule of a request by the pattern that it matched.
func ruleFor(pattern string, r *http.Request) (rule, bool) {
	if r.URL.Query().Has("household") {
		if named, ok := rules[pattern+ofHousehold]; ok {
			return named, true
		}
	}
	found, ok := rules[pattern]
	return found, ok
}

// routeMux is a mux that remembers its patterns.
type routeMux struct {
	*http.ServeMux

	patterns []string
}

// Handle registers a route.
func (m *routeMux) Handle(pattern string, h http.Handler) {
	m.patterns = append(m.patterns, pattern)
	m.ServeMux.Handle(pattern, h)
}

// HandleFunc registers a route.
func (m *routeMux) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	m.Handle(pattern, http.HandlerFunc(h))
}

// ruled fails if a route has no rule.
func (m *routeMux) ruled() error {
	for _, pattern := range m.patterns {
		if _, ok := rules[pattern]; !ok {
			return fmt.Errorf("route %q has no rule that says who may use it", pattern)
		}
	}
	return nil
}
