package household

import (
	"fmt"

	"github.com/commonwatt/commonwatt/agent/api"
	"github.com/commonwatt/commonwatt/market/consensus"
)

// showProviders says whom a light home asks, and what it found them out in.
func showProviders(s consensus.Status) []api.LedgerProvider {
	var list []api.LedgerProvider
	for _, p := range s.Providers {
		out := api.LedgerProvider{ID: p.ID, Name: p.Name, Withholds: p.Withholds}
		if p.Height > 0 {
			out.Height = number(p.Height)
		}
		if p.Accused != nil {
			out.Accused = p.Accused.Why
		}
		list = append(list, out)
	}
	return list
}

// lightProblems says what a light home found out about those whom it asks.
func lightProblems(add func(code, text, hint string), s consensus.Status) {
	if f := s.Fork; f != nil {
		add("fork", fmt.Sprintf("Validators signed two different blocks %d: %v signed both. Provider %s gave %.16s, provider %s gave %.16s. This home does not follow the ledger any more.",
			f.Height, f.Validators, f.Providers[0], f.Hashes[0], f.Providers[1], f.Hashes[1]),
			"Show this to your cooperative. When you know which of the two is right, take the other provider out of peers.bootstrap in "+ConfigFile+" and start again.")
	}
	for _, a := range s.Accused {
		name := a.Provider
		if a.Name != "" {
			name = a.Name + " (" + a.Provider + ")"
		}
		add("provider-lied", fmt.Sprintf("The provider %s lied: %s. It is not asked any more.", name, a.Why),
			fmt.Sprintf("Its network key is %x. Show this to your cooperative; after the next start it is asked again.", []byte(a.Key)))
	}
	for _, p := range s.Providers {
		if p.Withholds {
			add("provider-withholds", fmt.Sprintf("The provider %s does not give blocks that others have had for a while: its newest is %d.", p.ID, p.Height),
				"It may be cut off, or keep them back. The others are asked.")
		}
	}
	if s.Alone && s.Fork == nil {
		add("provider-alone", "Only one provider answers: what it says is verified, but nobody confirms that there is nothing else.",
			"Name two or more validators or replicas in peers.bootstrap in "+ConfigFile+".")
	}
}
