package demo

import (
	"github.com/commonwatt/commonwatt/market"
	"github.com/commonwatt/commonwatt/market/ledger"
)

// Nodes of the street: the roofs are on one feeder, everybody else is on the other.
const (
	nodeStreet = "street"
	feederSun  = "feeder-1"
	feederTown = "feeder-2"
)

// Fees and limits. What neighbours trade with each other pays none of the fees.
const (
	streetImportFee market.Price = 10_000 // a cent per kWh from the outside grid
	streetExportFee market.Price = 1_000

	// sunExportW is how much the roofs' feeder may give, for each home of the street: at
	// noon less than its sun, and less than the other feeder wants. So its price is then
	// its own, and in the morning and the evening the street's.
	sunExportW   = 160
	townImportW  = 3_000 // for each home: enough at any time
	sunImportW   = 3_000
	streetLimitW = 5_000
)

// network is the street's.
func network(homes int) []ledger.Node {
	watts := func(each int64) *int64 {
		w := each * int64(homes)
		return &w
	}
	return []ledger.Node{
		{ID: ledger.RootNode},
		{ID: nodeStreet, Parent: ledger.RootNode, ImportLimitW: watts(streetLimitW), ImportFee: streetImportFee, ExportFee: streetExportFee},
		{ID: feederSun, Parent: nodeStreet, ImportLimitW: watts(sunImportW), ExportLimitW: watts(sunExportW)},
		{ID: feederTown, Parent: nodeStreet, ImportLimitW: watts(townImportW)},
	}
}
