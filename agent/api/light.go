package api

// LedgerProvider is a home that a light home asks for what it verifies.
type LedgerProvider struct {
	ID        string `json:"id"`
	Name      string `json:"name,omitempty" doc:"Of its household or validator, where that is known"`
	Height    *int64 `json:"height" doc:"Of the newest header that it has shown"`
	Withholds bool   `json:"withholds" doc:"Others had a block long before this one admitted to it"`
	Accused   string `json:"accused,omitempty" doc:"What it said that is wrong beyond doubt; it is not asked any more"`
}
