package cli

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/commonwatt/commonwatt/meter"
)

// definitionRow is a definition as `meter list` shows it.
type definitionRow struct {
	ID        string   `json:"id"`
	Version   int      `json:"version"`
	Name      string   `json:"name"`
	Protocols []string `json:"protocols"`
	Measures  []string `json:"measures"`
	// Modes are those in which the device can be led; empty if it cannot.
	Modes     []string `json:"modes"`
	SignedBy  string   `json:"signed_by"`
	Addresses []string `json:"addresses"`
	Facts     []string `json:"facts"`
	Notes     string   `json:"notes"`
}

func newMeterList(s streams) *cobra.Command {
	var dir, output string
	c := &cobra.Command{
		Use:   "list",
		Short: "List the kinds of devices that can be read",
		Long: `Lists the device definitions: those that are built in, and those of a folder of your own,
which override them by id. MEASURES says which counters and values a device tells; a
device that can be led (a battery, an inverter) has its modes after a +. SIGNED BY says
whose key signs the readings: the device's own, or the agent's on its behalf.

JSON also has the forms of address, the documents that the facts are from, and notes for
whoever installs the device.`,
		Example: `  commonwatt meter list
  commonwatt meter list --definitions ./my-devices --output csv`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			all, err := meter.Definitions(dir)
			if err != nil {
				return badDefinition(err)
			}
			rows := make([]definitionRow, len(all))
			for i, d := range all {
				rows[i] = definitionRow{
					ID: d.ID, Version: d.Version, Name: d.Name, Protocols: d.Protocols(), Measures: d.Measures(), Modes: d.ModeNames(),
					SignedBy: d.SignedBy, Addresses: meter.AddressForms(d), Facts: d.Facts, Notes: d.Notes,
				}
			}
			return printDefinitions(s.out, output, rows)
		},
	}
	c.Flags().StringVar(&dir, "definitions", "", "folder with device definitions of your own")
	addOutput(c, &output, "table", "json", "csv")
	return c
}

func printDefinitions(out io.Writer, output string, rows []definitionRow) error {
	switch output {
	case "json":
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(rows)
	case "csv":
		w := csv.NewWriter(out)
		_ = w.Write([]string{"id", "version", "name", "protocols", "measures", "modes", "signed_by"}) // Error has it
		for _, r := range rows {
			_ = w.Write([]string{
				r.ID, strconv.Itoa(r.Version), r.Name, strings.Join(r.Protocols, " "), strings.Join(r.Measures, " "), strings.Join(r.Modes, " "), r.SignedBy,
			})
		}
		w.Flush()
		return w.Error()
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tVERSION\tPROTOCOLS\tMEASURES\tSIGNED BY\tNAME")
	for _, r := range rows {
		measures := strings.Join(r.Measures, ", ")
		if len(r.Modes) > 0 {
			measures += " + " + strings.Join(r.Modes, ", ")
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", r.ID, r.Version, strings.Join(r.Protocols, ", "), measures, r.SignedBy, r.Name)
	}
	return w.Flush()
}
