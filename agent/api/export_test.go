package api

// Patterns are the routes that the server registered.
func (s *Server) Patterns() []string { return s.patterns }

// CookieName is that of its sessions.
func (s *Server) CookieName() string { return s.cookie }

// RulePatterns are the rows of the table of rules.
func RulePatterns() (patterns []string) {
	for p := range rules {
		patterns = append(patterns, p)
	}
	return patterns
}
