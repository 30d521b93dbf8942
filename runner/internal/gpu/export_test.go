package gpu

import "github.com/NVIDIA/go-nvml/pkg/nvml"

// For the tests of this package.
var Place = place

// InventoryOf lists the devices for the first time, and says by index what
// cannot be read.
func InventoryOf(lib nvml.Interface) ([]Device, map[int]string, error) {
	devices, failures, err := inventory(lib, nil)
	texts := make(map[int]string)
	for i, f := range failures {
		texts[i] = f.text
	}
	return devices, texts, err
}
