package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/commonwatt/commonwatt/agent/household"
)

// nagWords reminds people who have not shown yet that they have their recovery words.
func nagWords(out io.Writer, home string) {
	if _, err := os.Lstat(household.KeyFile(home, household.UncheckedFile)); err == nil {
		fmt.Fprintf(out, "nobody has written down this household's recovery words; without them it is lost with this gateway: `commonwatt keys backup --home %s`\n", home)
	}
}
