// Command nemesis does to a street what life does to one, on purpose and quickly, and then
// holds what the street remembers against what it had promised.
//
//	go run ./agent/nemesis -duration 10m -seed 7
//
// Four validators, a replica and a light home, each a commonwatt process in a network
// namespace of its own, trade on meters of firmware-sim. A client hands them orders,
// replacements of orders and preferences at a steady rate, and writes down what each home
// acknowledged, and what it metered. Meanwhile one fault after the other strikes, in an order that the seed
// decides. At the end all is mended, and the checker reads every home's books.
//
// # What is acknowledged
//
// A home that answers POST /api/transactions with 202 has the transaction on its own disk.
// It hands it to the ledger until the ledger has it, also after a power cut, or until the
// ledger will never take it: an order whose gate has closed, say. A home that shows what it
// metered in an interval has the readings on its disk, and reports them until they are
// settled. The client believes no more than that, and no less.
//
// # The checker
//
// It knows nothing of the ledger's code: it decodes the homes' JSON with types of its own,
// and looks for a transaction's bytes in the archive that a stopped home writes. These make
// a run fail, exit code 1:
//
//	N1  An acknowledged transaction is in no block of a home that keeps all blocks: lost.
//	    Excused is an order that a later one replaced, and one whose home or whose
//	    quorum was never away from harm for two whole intervals between the answer and the gate.
//	N2  An acknowledged transaction is in two blocks: doubled.
//	N3  A settled interval has an order with a lower number than one that is in a block for
//	    it: lost.
//	N4  Of a household's intervals one is missing, has a substitute in place of its report,
//	    or has other energy than its home had shown: lost. One is settled twice: doubled.
//	N5  Two homes' books differ, or their AppHashes at one height.
//	N6  The balances do not add up to zero, or are not what can be computed anew from what
//	    the meters counted.
//	N7  `ledger check` finds something in a stopped home's folder.
//	N8  A fault saw what must not be, a block in a half of the street for example.
//
// # Faults
//
// The table is in faults.go, each fault in a file of its own. A fault does its harm and
// undoes it. What it did is counted by kind; afterwards the street has to come to two new
// blocks on all homes, and how long that took is the recovery of its kind.
//
// # Goroutines
//
// run owns one goroutine for each process (it waits for its end), one for the client and
// one that reads meters from the pages; all end before the checker begins. Strikes come one
// at a time, in run's own goroutine.
//
// # Where it happens
//
// The command starts itself again in network, mount and process namespaces of its own:
// they vanish with it and with all that it started, however it ends. Each home is on a memory
// card of its own, whose power can be cut (see package card). It takes Linux, root,
// mkfs.ext4, unshare and nsenter (util-linux), ip (iproute2), tc and iptables. Nothing
// reaches the network outside.
package main
