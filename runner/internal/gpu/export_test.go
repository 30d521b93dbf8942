package gpu

// For the tests of this package.
var (
	InventoryOf = inventory
	Place       = place
)
