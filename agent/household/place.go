package household

import (
	"fmt"
	"slices"
	"time"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market/consensus"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// place is what the ledger says of this gateway.
type place int

const (
	placeOurs     place = iota // it is the household's, or the household is not known
	placeReplaced              // another one has the household's keys
	placeRevoked               // none has
	placeLeft                  // the household has left, and its last month is closed
)

// placeOf compares the keys of this gateway with those of the household's record.
func placeOf(s *ledger.State, k *Keys) place {
	h, known := s.Household(k.ID())
	switch {
	case !known || h.Device == Public(k.Device) && h.Network == Public(k.Network):
		return placeOurs
	case h.Device != (ledger.Key{}) || h.Network != (ledger.Key{}):
		return placeReplaced
	case h.Left != 0:
		return placeLeft
	default:
		return placeRevoked
	}
}

// readPlace finds it. A gateway that is catching up may only not have got as far as the
// transaction that brought it; that a household has left for good, nothing takes back.
func (v *view) readPlace(s *ledger.State) {
	v.place = placeOf(s, v.home.opt.Keys)
	if v.ledger.CatchingUp && v.place != placeLeft {
		v.foreign, v.place = v.place != placeOurs, placeOurs
	}
}

// aloneAfter is how long nobody may be connected before that is told. A start takes less.
const aloneAfter = 30 * time.Second

// lonely says whether nobody has been connected for long, while the ledger waits and others
// commit. Only picture calls it.
func (h *Home) lonely(status *consensus.Status, l *api.Ledger) bool {
	others := slices.ContainsFunc(status.Validators, func(v consensus.ValidatorStatus) bool { return !v.Self })
	if h.opt.Peers == nil || len(l.Peers) > 0 || l.WaitingFor == "" || !others {
		h.aloneSince = time.Time{}
		return false
	}
	now := h.opt.Now()
	if h.aloneSince.IsZero() || now.Before(h.aloneSince) {
		h.aloneSince = now
	}
	return now.Sub(h.aloneSince) >= aloneAfter
}

// gatewayProblems says whether this gateway is the household's still, and what a ledger that
// waits means for it. A gateway that was put out while it was off is let in nowhere, and so
// cannot read that it was: then both reasons are named.
func (v *view) gatewayProblems(list *[]api.Problem, s *api.Snapshot) {
	settled := "Metering goes on; what is metered meanwhile is settled afterwards."
	if v.lonely {
		settled = "Metering goes on; what is metered meanwhile is settled afterwards, if this gateway is still the household's."
	}
	add := func(severity api.Severity, code, text, hint string) {
		*list = append(*list, api.Problem{Code: code, Severity: severity, Text: text, Hint: hint})
	}
	id := v.home.id
	switch v.place {
	case placeOurs:
	case placeReplaced:
		settled = ""
		add(api.SeverityError, "gateway-replaced", fmt.Sprintf("This gateway was replaced: another one holds the keys of household %s. Nothing that this one meters or sends counts any more.", id),
			"Switch it off. If that was not you, somebody else has the household's recovery words or shares: tell your cooperative at once.")
	case placeRevoked:
		settled = ""
		add(api.SeverityError, "gateway-revoked", fmt.Sprintf("This gateway was revoked: household %s has none now. Nothing that this one meters or sends counts any more.", id),
			"`commonwatt recover` brings another one into its place. If it was not you who revoked it, somebody else has the household's recovery words or shares: tell your cooperative at once.")
	case placeLeft:
		settled = ""
		add(api.SeverityError, "left", fmt.Sprintf("Household %s has left this community, and its last month is closed. Nothing that this gateway meters or sends counts any more.", id),
			"Its bills stay readable here. Switch the gateway off when nobody needs it.")
	}
	if s.Ledger.WaitingFor != "" {
		add(api.SeverityWarning, "ledger-waiting", "The ledger is "+s.Ledger.WaitingFor+".", settled)
	}
	if !v.lonely || v.place != placeOurs {
		return
	}
	text := "No home is connected to this gateway. Either the network is down, here or at theirs, or another gateway has taken this one's place: then they let it in nowhere."
	if v.foreign {
		text += " As far as this one has read the ledger, its keys are not the household's."
	}
	add(api.SeverityWarning, "nobody-connected", text,
		fmt.Sprintf("Ask a neighbour whether the ledger goes on at theirs; if it does, ask your cooperative whether the gateway of household %s was replaced or revoked.", id))
}
