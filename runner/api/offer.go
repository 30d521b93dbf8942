package api

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Offer is what a runner says that it can do, for those who wonder why a task waits.
type Offer struct {
	Runner  string  `json:"runner"`
	Phase   Phase   `json:"phase"`
	Slots   int     `json:"slots"`          // how many tasks it runs at a time
	Running int     `json:"running"`        // how many it runs or has fetched
	GPUs    []Bytes `json:"gpus,omitempty"` // the memory of each that tasks can have
}

// Fits says whether the runner could ever run a task of a class.
func (o *Offer) Fits(class Resources) bool {
	for _, memory := range o.GPUs {
		if memory >= class.GPUMemory {
			class.GPUs--
		}
	}
	return class.GPUs <= 0
}

// String names a class for people.
func (r Resources) String() string {
	text := fmt.Sprintf("%d GPUs", r.GPUs)
	if r.GPUs == 1 {
		text = "a GPU"
	}
	if r.GPUMemory > 0 {
		text += " of " + resource.NewQuantity(int64(r.GPUMemory), resource.BinarySI).String()
	}
	return text
}
