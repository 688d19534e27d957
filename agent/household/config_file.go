package household

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
)

// configTemplate is agent.yaml as a person should find it: every key is there and
// says what it is for. Values are quoted as JSON strings, which YAML reads too.
var configTemplate = template.Must(template.New(ConfigFile).Funcs(template.FuncMap{
	"quote": func(s string) string { return fmt.Sprintf("%q", s) },
}).Parse(`# What is particular to this gateway. What the community decided is in community.json.
# A wrong key or value stops the start and says which line.

name: {{quote .Name}}        # shown on the page; stays on this machine
role: {{.Role}}     # validator (keeps the ledger with others) or replica (follows it)

listen:
  api: {{.Listen.API}}      # the page and the JSON API
  engine: {{.Listen.Engine}}  # the ledger's engine, for other homes
  gossip:                  # libp2p: orders and meter reports
{{- range .Listen.Gossip}}
    - {{.}}
{{- end}}
  hosts: [{{range $i, $h := .Listen.Hosts}}{{if $i}}, {{end}}{{quote $h}}{{end}}]  # further names under which the page is reached, such as house.local

peers:                     # whom to call first
  engine: {{if not .Peers.Engine}}[]{{end}}
{{- range .Peers.Engine}}
    - {{quote .}}
{{- end}}
  gossip: {{if not .Peers.Gossip}}[]{{end}}
{{- range .Peers.Gossip}}
    - {{quote .}}
{{- end}}
  mdns: {{.Peers.MDNS}}              # find homes on the local network

# One meter has the role connection: the home's connection to the grid, on which it is
# settled. Meters of role solar and battery only complete the picture. Try yours with
# commonwatt meter read.
meters:
{{- range .Meters}}
  - role: {{.Role}}
    definition: {{.Definition}}
    address: {{quote .Address}}
    unit: {{.Unit}}              # Modbus unit id; 0 is the definition's own
{{- end}}

log: {{.Log}}                  # debug, info, warn or error
`))

// WriteConfig writes agent.yaml with comments. What it writes, LoadConfig reads
// back the same.
func WriteConfig(dir string, c Config) error {
	if c.Log == "" {
		c.Log = "info"
	}
	var b bytes.Buffer
	if err := configTemplate.Execute(&b, c); err != nil {
		return fmt.Errorf("writing %s: %w", ConfigFile, err)
	}
	path := filepath.Join(dir, ConfigFile)
	if _, err := parseConfig(path, b.Bytes()); err != nil {
		return err
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", ConfigFile, err)
	}
	return nil
}
