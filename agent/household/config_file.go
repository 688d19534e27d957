package household

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"text/template"
)

// configTemplate is agent.yaml as a person should find it: every key is there and
// says what it is for. Texts are quoted, so that none can be taken for anything else.
var configTemplate = template.Must(template.New(ConfigFile).Funcs(template.FuncMap{
	"quote": func(s string) string { return fmt.Sprintf("%q", s) },
}).Parse(`# What is particular to this gateway. What the community decided is in community.json.
# A wrong key or value stops the start and says which line.

name: {{quote .Name}}        # shown on the page; stays on this machine
role: {{.Role}}     # validator (keeps the ledger with others) or replica (follows it)

# claimed: the page asks who you are; the first to type the code that the agent prints is the homeowner.
# open: it asks nobody. Only in communities called demo-… or sim-…, and only on this machine.
access: {{.Access}}

listen:
  api: {{quote .Listen.API}}      # the page and the JSON API
  tls: {{.Listen.TLS}}                # auto: with a certificate of its own where others than this machine can reach it; on: always
  operations: {{quote .Listen.Operations}}           # metrics and profiles, such as 127.0.0.1:8603; only on this machine; empty: off
  network:                 # libp2p: everything between homes, by TCP and by QUIC (UDP)
{{- range .Listen.Network}}
    - {{quote .}}
{{- end}}
  port_mapping: {{.Listen.PortMapping}}     # ask the router (UPnP, NAT-PMP) to let other homes in
  hosts: [{{range $i, $h := .Listen.Hosts}}{{if $i}}, {{end}}{{quote $h}}{{end}}]  # further names under which the page is reached, such as house.local

peers:                     # whom to call first
  bootstrap: {{if not .Peers.Bootstrap}}[]{{end}}
{{- range .Peers.Bootstrap}}
    - {{quote .}}
{{- end}}
  mdns: {{.Peers.MDNS}}              # find homes on the local network

# One meter has the role connection: the home's connection to the grid, on which it is
# settled. Meters of role solar and battery only complete the picture. Which are known:
# commonwatt meter list. Try yours with commonwatt meter read.
meters:
{{- range .Meters}}
  - role: {{.Role}}
    definition: {{quote .Definition}}
    address: {{quote .Address}}
    unit: {{.Unit}}              # Modbus unit id; 0 is the definition's own
{{- if .Username}}
    username: {{quote .Username}}{{end}}
{{- if .PasswordFile}}
    password_file: {{quote .PasswordFile}}{{end}}
{{- if .CAFile}}
    ca_file: {{quote .CAFile}}{{end}}
{{- if .CertFile}}
    cert_file: {{quote .CertFile}}{{end}}
{{- if .KeyFile}}
    key_file: {{quote .KeyFile}}{{end}}
{{- if .ServerName}}
    server_name: {{quote .ServerName}}{{end}}
{{- end}}
# A meter that wants to know who asks also takes username, password_file, ca_file, cert_file,
# key_file and server_name.
definitions: {{quote .Definitions}}            # a folder with device definitions of your own
{{- if .Controls}}

# What this home leads: batteries and inverters. Each set point is a lease; a device that
# is not written to any more goes on by itself.
controls:
{{- range .Controls}}
  - definition: {{quote .Definition}}
    address: {{quote .Address}}
    unit: {{.Unit}}
    mode: {{.Mode}}            # follow, self-consumption, hold, hold-charge, charge, discharge or limit-export
    power_w: {{.PowerW}}              # of charge and discharge
    max_power_w: {{.MaxPowerW}}          # never more; 0 is what the device says
    reserve_percent: {{.ReservePercent}}      # not discharged below
    capacity_wh: {{.CapacityWh}}         # where the device does not say it; 0: unknown
    lease_s: {{.LeaseS}}              # 0 is a third of an interval
{{- end}}
{{- end}}

log: {{.Log}}                  # debug, info, warn or error

# system: intervals are closed while this machine's clock is kept (timedatectl shows it).
# trusted: you vouch for the clock yourself.
clock: {{.Clock}}
readings_days: {{.ReadingsDays}}         # how long readings are kept on this machine

# How a home begins that has no ledger yet. snapshot: with the state after a newer block, which
# signed headers prove. genesis: with the first block, executing all of them again. auto: by a
# snapshot if the chain is long.
join: {{.Join}}
# How long blocks and settlements line by line are kept: all, or days such as 400d. What a
# month came to is kept for ever. commonwatt ledger export --archive writes all there is.
retention: {{.Retention}}
`))

// WriteConfig writes agent.yaml with comments. What it writes, LoadConfig reads
// back the same; a Config that LoadConfig would refuse is not written.
func WriteConfig(dir string, c Config) error {
	if c.Log == "" {
		c.Log = "info"
	}
	if c.Clock == "" {
		c.Clock = ClockSystem
	}
	if c.Access == "" {
		c.Access = AccessClaimed
	}
	if c.Listen.TLS == "" {
		c.Listen.TLS = TLSAuto
	}
	if c.ReadingsDays == 0 {
		c.ReadingsDays = defaultReadingsDays
	}
	if c.Join == "" {
		c.Join = JoinAuto
	}
	if c.Retention == "" {
		c.Retention = RetentionAll
	}
	path := filepath.Join(dir, ConfigFile)
	if err := c.validate(); err != nil {
		err.File = path
		return err
	}
	var b bytes.Buffer
	if err := configTemplate.Execute(&b, c); err != nil {
		return fmt.Errorf("writing %s: %w", ConfigFile, err)
	}
	again, err := parseConfig(path, b.Bytes())
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(plain(again), plain(c)) {
		return fmt.Errorf("writing %s: it would not be read back the same", ConfigFile)
	}
	return ReplaceFile(path, b.Bytes())
}

// plain makes an empty list and none the same.
func plain(c Config) Config {
	for _, list := range []*[]string{&c.Listen.Network, &c.Listen.Hosts, &c.Peers.Bootstrap} {
		*list = append([]string(nil), *list...)
	}
	c.Controls = append([]ControlConfig(nil), c.Controls...)
	return c
}

// ReplaceFile writes a file that only its owner can read, whole or not at all, and has it on
// disk when it returns: a power cut may come at any time.
func ReplaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(f.Name()))
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return errors.Join(d.Sync(), d.Close())
}
