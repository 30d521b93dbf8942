// Package gpu knows the GPUs of the machine: which there are, which of them
// this runner may use, and which task holds which.
package gpu

import (
	"cmp"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Device is what a task can be given: a whole GPU, or a MIG device.
type Device struct {
	UUID        string
	Parent      string // UUID of the GPU that a MIG device is part of
	Index       int    // NVML's index of the GPU, which is not CUDA's
	Model       string
	MemoryBytes uint64

	Health       api.Health // empty means Healthy
	HealthReason string     // why it is not, in a sentence

	// Near says how close other devices are, by UUID. Who is missing is Far.
	Near map[string]Closeness
}

// gpu is the UUID of the GPU that the device is or is part of.
func (d Device) gpu() string { return cmp.Or(d.Parent, d.UUID) }

// silent reports whether the device stands for a GPU that has never answered,
// so that only its index is known.
func (d Device) silent() bool { return d.UUID == "" }

// same reports whether both are the same device, be it a silent one.
func (d Device) same(other Device) bool { return d.UUID == other.UUID && d.Index == other.Index }
