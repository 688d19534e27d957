package household

import (
	"fmt"
	"maps"
	"slices"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market"
)

// refusedReports are those that the ledger refused for good.
type refusedReports struct {
	count       int
	first, last market.Interval
	why         string // of the last
}

// refusedReports sums them up. The caller holds mu.
func (h *Home) refusedReports() (r refusedReports) {
	for _, k := range slices.Sorted(maps.Keys(h.reports)) {
		if p := h.reports[k]; p.refused != nil {
			if r.count == 0 {
				r.first = k
			}
			r.count++
			r.last, r.why = k, p.refused.Error()
		}
	}
	return r
}

// problems says what a person should know, each thing once.
func (v *view) problems(s *api.Snapshot) []api.Problem {
	list := []api.Problem{}
	add := func(code, text, hint string) {
		list = append(list, api.Problem{Code: code, Severity: api.SeverityWarning, Text: text, Hint: hint})
	}
	switch {
	case v.place != placeOurs:
	case !v.member && v.ledger.CatchingUp:
		add("catching-up", fmt.Sprintf("This home is not caught up with the ledger yet: it has block %d.", v.ledger.Height),
			"Whether it is registered there is known when it is; it goes on by itself.")
	case !v.member && v.notAdmitted != "":
		add("not-admitted", "The ledger does not admit this home: "+v.notAdmitted+".", "Show this to your cooperative; it asks again by itself.")
	case !v.member:
		add("not-a-member", "This home is not registered on the ledger yet.",
			"It asks for admission by itself; without an admission file, ask your cooperative for one.")
	}
	v.gatewayProblems(&list, s)
	lightProblems(add, v.ledger)
	validatorProblems(add, v.ledger)
	if v.unkept != "" {
		add("readings-not-kept", "The readings of the meters cannot be kept: "+v.unkept+".", "Metering goes on. If "+HistoryFile+" is damaged, move it away; if the disk is full, make room.")
	}
	if !s.Clock.Sure {
		add("clock-unsure", "The clock of this gateway is not known to be right ("+s.Clock.State+"): no interval is closed until it is.",
			"It is set from the network, as timedatectl shows. If you keep it in another way, set clock: trusted in "+ConfigFile+".")
	}
	controlProblems(add, s.Controls)
	for i, m := range s.Meters {
		v.meterProblems(add, m, v.devices[i])
	}
	if m := v.missed; m.count > 0 && m.last >= v.current {
		add("order-missed", fmt.Sprintf("Of the orders that this home had taken %d came into no block; the last was for %s: %s.",
			m.count, v.home.calendar.Start(m.last).Format("2006-01-02 15:04 MST"), m.why),
			"Orders that are submitted well before their gate have time to wait for the ledger.")
	}
	if r := v.refused; r.count == 1 {
		add("report-refused", fmt.Sprintf("The ledger refused the meter report of interval %d: %s.", r.first, r.why),
			"The readings stay in "+DiskFile+"; show them to your cooperative.")
	} else if r.count > 1 {
		add("report-refused", fmt.Sprintf("The ledger refused %d meter reports, from interval %d to %d; the last: %s.", r.count, r.first, r.last, r.why),
			"The readings stay in "+DiskFile+"; show them to your cooperative.")
	}
	return list
}

func (v *view) meterProblems(add func(code, text, hint string), m api.Meter, d deviceView) {
	if d.clockNote != "" {
		add("meter-clock", "The clock of the "+m.Role+" meter is wrong: "+d.clockNote+".", "Set the device's clock, and let it be kept.")
	}
	switch m.State {
	case api.MeterSilent:
		text := "The " + m.Role + " meter does not answer."
		if m.Role == RoleConnection {
			text = "The connection meter does not answer: its intervals are marked missing."
		}
		add("meter-silent", text, "Check its cable and its address "+m.Address+".")
	case api.MeterSuspect:
		if m.SetAside {
			add("meter-suspect", "What the "+m.Role+" meter tells is set aside: "+m.Note+".", v.approval(m.Role))
			return
		}
		add("meter-suspect", "What the "+m.Role+" meter tells is not used: "+m.Note+".",
			"If it is another meter, or was reset, show this to your cooperative.")
	case api.MeterOK, api.MeterStarting:
		if d.unproven != "" {
			add("meter-unproven", "The last interval boundary of the connection meter is not proven: "+d.unproven+".", "Until its next boundary is proven its intervals are marked missing. If this stays, let it be read, or speak, more often, or show this to your cooperative.")
		}
	}
}

// approval says who may say that another meter is the home's.
func (v *view) approval(role string) string {
	if role == RoleConnection {
		return "If it is another meter, or was reset, show this to your cooperative: two of its officers approve it. If not, it counts again as soon as the old one answers."
	}
	return "If it is another meter, or was reset, approve it with commonwatt meter replace. If not, it counts again as soon as the old one answers."
}
