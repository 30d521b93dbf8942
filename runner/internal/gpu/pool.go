package gpu

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Pool hands out whole GPUs, each to one task at a time.
type Pool struct {
	devices []Device

	mu      sync.Mutex
	holders map[string]string // UUID of a held device -> task
	freed   chan struct{}     // closed and replaced whenever a device comes back
}

// NewPool returns a pool of free devices.
func NewPool(devices []Device) *Pool {
	return &Pool{
		devices: slices.Clone(devices),
		holders: make(map[string]string),
		freed:   make(chan struct{}),
	}
}

// Size is the number of devices, free or not.
func (p *Pool) Size() int { return len(p.devices) }

// Fits reports whether the pool could ever satisfy the request.
func (p *Pool) Fits(r api.Resources) bool {
	return len(p.suitable(r)) >= r.GPUs
}

// suitable returns the devices that are large enough, smallest first, so that
// the large ones stay free for tasks that need them.
func (p *Pool) suitable(r api.Resources) []Device {
	var suitable []Device
	for _, d := range p.devices {
		if d.MemoryBytes >= uint64(r.GPUMemory) {
			suitable = append(suitable, d)
		}
	}
	slices.SortStableFunc(suitable, func(a, b Device) int {
		switch {
		case a.MemoryBytes < b.MemoryBytes:
			return -1
		case a.MemoryBytes > b.MemoryBytes:
			return 1
		}
		return 0
	})
	return suitable
}

// Reserve waits until the requested devices are free and gives them to the
// task. It returns their UUIDs, or the error of ctx with nothing held.
func (p *Pool) Reserve(ctx context.Context, task string, r api.Resources) ([]string, error) {
	if !p.Fits(r) {
		return nil, fmt.Errorf("task %s asks for %d GPUs, which this runner never has", task, r.GPUs)
	}
	for {
		// Nobody gets a device after ctx has ended, free or not.
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		uuids, freed := p.tryReserve(task, r)
		if len(uuids) == r.GPUs {
			return uuids, nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (p *Pool) tryReserve(task string, r api.Resources) (uuids []string, freed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.suitable(r) {
		if len(uuids) == r.GPUs {
			break
		}
		if _, held := p.holders[d.UUID]; !held {
			uuids = append(uuids, d.UUID)
		}
	}
	if len(uuids) < r.GPUs {
		return nil, p.freed
	}
	for _, uuid := range uuids {
		p.holders[uuid] = task
	}
	return uuids, nil
}

// Free gives devices back.
func (p *Pool) Free(uuids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, uuid := range uuids {
		if _, held := p.holders[uuid]; !held {
			panic("gpu: device freed twice: " + uuid) // two tasks could have shared it
		}
		delete(p.holders, uuid)
	}
	close(p.freed)
	p.freed = make(chan struct{})
}

// List says who holds what.
func (p *Pool) List() []api.GPU {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]api.GPU, len(p.devices))
	for i, d := range p.devices {
		list[i] = api.GPU{UUID: d.UUID, Index: d.Index, Model: d.Model, MemoryBytes: d.MemoryBytes, Task: p.holders[d.UUID]}
	}
	return list
}
