package access

import "slices"

// Role says what somebody may do. The zero value is nobody.
type Role string

// The roles. The first four are those of accounts.
const (
	Homeowner   Role = "homeowner"   // everything about the own home
	Operator    Role = "operator"    // of the grid: limits and aggregates, no household's data
	Cooperative Role = "cooperative" // members' bills, the network
	Auditor     Role = "auditor"     // proofs of bills, and the audit log

	// Local is whoever may read the home's folder on this machine: its commands.
	Local Role = "local"
	// Anybody is everyone, where a demonstration's page asks nobody who they are.
	Anybody Role = "anybody"
	Nobody  Role = ""
)

// Roles are those that an account can have.
var Roles = []Role{Homeowner, Operator, Cooperative, Auditor}

// ParseRole reads the role of an account.
func ParseRole(text string) (Role, error) {
	if r := Role(text); slices.Contains(Roles, r) {
		return r, nil
	}
	return "", &InputError{"role", "got " + quote(text) + ", want homeowner, operator, cooperative or auditor"}
}

// Principal is who asks.
type Principal struct {
	Account string // empty where there is none
	Role    Role
	Session string // its public name; empty where there is none

	done <-chan struct{}
}

// Done is closed when the session ends; nil if there is none.
func (p Principal) Done() <-chan struct{} { return p.done }

// Name is what the audit log calls them.
func (p Principal) Name() string {
	switch {
	case p.Account != "":
		return p.Account
	case p.Role == Nobody:
		return "-"
	default:
		return string(p.Role)
	}
}
