package gpu

import "github.com/NVIDIA/go-nvml/pkg/nvml"

// Place is place for the tests of this package.
func Place(free []Device, n int) (chosen []Device) {
	var devices []*pooled
	for _, d := range free {
		devices = append(devices, &pooled{Device: d})
	}
	for _, d := range place(devices, n) {
		chosen = append(chosen, d.Device)
	}
	return chosen
}

// InventoryOf lists the devices for the first time, and says by index what
// cannot be read.
func InventoryOf(lib nvml.Interface) ([]Device, map[int]string, error) {
	found, err := takeInventory(lib, nil)
	texts := make(map[int]string)
	for i, failure := range found.failures {
		texts[i] = failure.Error()
	}
	return found.devices, texts, err
}
