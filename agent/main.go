// Commonwatt is the agent of one home: it reads the meter, trades with the
// neighbours, and keeps with them the ledger on which all of it is settled.
package main

import (
	"os"

	"github.com/commonwatt/commonwatt/agent/cli"
)

// version is set by the build.
var version = "dev"

func main() {
	os.Exit(cli.Main(version, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
