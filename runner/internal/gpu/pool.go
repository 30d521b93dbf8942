// Package gpu knows the GPUs of the machine: which there are, which of them
// this runner may use, and which task holds which.
package gpu

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Device is what a task can be given: a whole GPU, or a MIG device.
type Device struct {
	api.GPU // an empty Health is Healthy
	// Near says how close other devices are, by UUID. Who is missing is Far.
	Near map[string]Closeness
}

// gpu is the UUID of the GPU that the device is or is part of.
func (d Device) gpu() string { return cmp.Or(d.Parent, d.UUID) }

// Pool hands out devices, each to one task at a time. It never waits: who
// needs devices that are not free asks again when the present state ends.
type Pool struct {
	mu      sync.Mutex
	devices []*pooled       // all that were ever there, in the order in which they came
	size    int             // how many are there now
	state   context.Context // ends at the next change that could make a request fit, or no longer fit
	changed context.CancelFunc
	problem string // what is wrong with NVML itself

	lockDir  string // where the locks are; empty for none
	log      *slog.Logger
	unlocked sync.Once // there are no locks, and that was said
	notNow   sync.Once // one could not be had for a moment, and that was said
}

// pooled is a device and who has it.
type pooled struct {
	Device
	lock      *os.File // what keeps other processes away from it while a task has it
	elsewhere bool     // another process has it
}

// NewPool returns a pool of free devices.
func NewPool(devices []Device) *Pool {
	p := new(Pool)
	p.state, p.changed = context.WithCancel(context.Background())
	p.SetDevices(devices, "")
	return p
}

// State returns a context that ends when a device comes back or is added, or
// its health changes. Who takes it before looking at the pool misses nothing.
func (p *Pool) State() context.Context {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// change must be called with the lock held, as all that is not exported.
func (p *Pool) change() {
	p.changed()
	p.state, p.changed = context.WithCancel(context.Background())
}

// find returns the device with a UUID, or nil.
func (p *Pool) find(uuid string) *pooled {
	for _, d := range p.devices {
		if d.UUID == uuid {
			return d
		}
	}
	return nil
}

// SetDevices says which devices there are now, and in a sentence why these may not be
// all that the machine has, or nothing. Those that are missing are Sick until they are
// back. It reports whether the problem is news.
func (p *Pool) SetDevices(devices []Device, problem string) (news bool) {
	return p.learn(problem, func() {
		for _, d := range p.devices {
			d.Health, d.HealthReason = api.Sick, "removed"
		}
		p.size = len(devices)
		for _, d := range devices {
			d.Health = cmp.Or(d.Health, api.Healthy)
			if known := p.find(d.UUID); known != nil {
				d.Task = known.Task
				known.Device = d
			} else {
				p.devices = append(p.devices, &pooled{Device: d})
			}
		}
	})
}

// Retire makes every healthy device Retiring, because nobody can tell how it is.
// What was Sick before stays so: that it is not known to be well is no news.
func (p *Pool) Retire(problem string) (news bool) {
	return p.learn(problem, func() {
		for _, d := range p.devices {
			if d.Health == api.Healthy {
				d.Health, d.HealthReason = api.Retiring, problem
			}
		}
	})
}

func (p *Pool) learn(problem string, change func()) (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.list()
	change()
	news, p.problem = problem != p.problem, problem
	if news || !slices.Equal(before, p.list()) {
		p.change()
	}
	return news
}

// Problem is what is wrong with NVML itself; empty for nothing.
func (p *Pool) Problem() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problem
}

// Sick returns the first of the devices that is sick, and why, in one sentence
// without its end; or the empty text.
func (p *Pool) Sick(uuids []string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.devices {
		if d.Health == api.Sick && slices.Contains(uuids, d.UUID) {
			return "GPU " + d.UUID + " is sick: " + d.HealthReason
		}
	}
	return ""
}

// Size is the number of devices that are there, free or not, sick or not.
func (p *Pool) Size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.size
}

// suits reports whether a task with this request can use the device. A process
// can use one MIG device and no other device with it, says the CUDA guide.
func (d Device) suits(r api.Resources) bool {
	return d.MemoryBytes >= uint64(r.GPUMemory) && (d.Parent == "" || r.GPUs <= 1)
}

// Fits reports whether the pool could satisfy the request if all its healthy
// devices were free.
func (p *Pool) Fits(r api.Resources) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, d := range p.devices {
		if d.Health == api.Healthy && d.suits(r) {
			n++
		}
	}
	return n >= r.GPUs
}

// Available reports whether Reserve would succeed.
func (p *Pool) Available(r api.Resources, spare *api.Resources) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.free(r, spare)) >= r.GPUs
}

// Reserve gives the requested devices to the task, the ones closest to each
// other, if enough of them are free. Devices that suit the request spare, where
// it is not nil, are left alone.
func (p *Pool) Reserve(task string, r api.Resources, spare *api.Resources) (uuids []string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		free := p.free(r, spare)
		if len(free) < r.GPUs {
			return nil, false
		}
		chosen := place(free, r.GPUs)
		if !p.lock(chosen) {
			continue // with those that are left
		}
		for _, d := range chosen {
			d.Task = task
			uuids = append(uuids, d.UUID)
		}
		return uuids, true
	}
}

// free returns the healthy devices that suit the request and nobody holds. Who
// had a GPU before it was divided, or a part of it before it was whole again,
// still uses it, whatever the device is called now.
func (p *Pool) free(r api.Resources, spare *api.Resources) (free []*pooled) {
	for _, d := range p.devices {
		used := slices.ContainsFunc(p.devices, func(by *pooled) bool {
			return by.Task != "" && (by == d || by.UUID == d.Parent || by.Parent == d.UUID)
		})
		if d.Health == api.Healthy && !used && !d.elsewhere && d.suits(r) && (spare == nil || !d.suits(*spare)) {
			free = append(free, d)
		}
	}
	return free
}

// Free gives devices back.
func (p *Pool) Free(uuids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, uuid := range uuids {
		d := p.find(uuid)
		if d == nil || d.Task == "" {
			panic("gpu: device freed twice: " + uuid) // two tasks could have shared it
		}
		d.Task = ""
		d.unlock()
	}
	if len(uuids) > 0 {
		p.change()
	}
}

// List says who holds what, and how it is.
func (p *Pool) List() []api.GPU {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.list()
}

func (p *Pool) list() []api.GPU {
	list := make([]api.GPU, len(p.devices))
	for i, d := range p.devices {
		list[i] = d.GPU
	}
	return list
}
