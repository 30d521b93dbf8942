package gpu

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"sync"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Pool hands out devices, each to one task at a time. It never waits: who
// needs devices that are not free asks again when the present state ends.
type Pool struct {
	mu      sync.Mutex
	devices []*pooled         // all that were ever there, in the order in which they came
	present map[string]bool   // UUIDs of those that are there now
	health  map[string]health // by UUID of the GPU; missing is healthy
	state   context.Context   // ends at the next change that could make a request fit, or no longer fit
	changed context.CancelFunc
	problem string // what is wrong with NVML itself

	lockDir  string // where the locks are; empty for none
	log      *slog.Logger
	unlocked bool // there are no locks, and that was said
}

// pooled is a device and who has it.
type pooled struct {
	Device
	task      string   // that holds it; empty for none
	lock      *os.File // what keeps other processes away from it meanwhile
	elsewhere bool     // another process has it
}

type health struct {
	is     api.Health
	reason string
}

// NewPool returns a pool of free and healthy devices.
func NewPool(devices []Device) *Pool {
	p := &Pool{health: make(map[string]health)}
	p.state, p.changed = context.WithCancel(context.Background())
	p.SetDevices(devices)
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

// SetDevices says which devices there are now. New ones are added; those that
// are missing are Sick until they are back. Their health is SetHealth's.
func (p *Pool) SetDevices(devices []Device) {
	p.mu.Lock()
	defer p.mu.Unlock()
	present := make(map[string]bool)
	same := len(devices) == len(p.present)
	for _, d := range devices {
		same = same && p.present[d.UUID]
		present[d.UUID] = true
		if known := p.find(d.UUID); known != nil {
			known.Device = d
		} else {
			p.devices = append(p.devices, &pooled{Device: d})
		}
	}
	p.present = present
	if !same {
		p.change()
	}
}

// SetHealth says how a GPU is, with its MIG devices, and why it is so unless it is
// Healthy. One that nothing was said of is Healthy; saying the same again changes
// nothing.
func (p *Pool) SetHealth(uuid string, is api.Health, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := health{is, reason}
	if is == api.Healthy {
		now = health{}
	}
	if p.health[uuid] == now {
		return
	}
	p.health[uuid] = now
	p.change()
}

// Retire makes every healthy device Retiring, because nobody can tell how it is.
// What was Sick before stays so: that it is not known to be well is no news.
func (p *Pool) Retire(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	news := false
	for _, d := range p.devices {
		if p.healthOf(d).is == api.Healthy {
			p.health[d.gpu()], news = health{api.Retiring, reason}, true
		}
	}
	if news {
		p.change()
	}
}

// SetProblem says in a sentence why the pool may not be what the machine is, or
// is empty; the empty text ends it. It reports whether that is news.
func (p *Pool) SetProblem(problem string) (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if news = problem != p.problem; news {
		p.problem = problem
		p.change()
	}
	return news
}

// Problem returns what SetProblem said last.
func (p *Pool) Problem() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problem
}

// healthOf returns what is known of a device.
func (p *Pool) healthOf(d *pooled) health {
	if !p.present[d.UUID] {
		return health{api.Sick, "removed"}
	}
	if h := p.health[d.gpu()]; h != (health{}) {
		return h
	}
	return health{is: api.Healthy}
}

// Sick returns the first of the devices that is sick, and why, in one sentence
// without its end; or the empty text.
func (p *Pool) Sick(uuids []string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.devices {
		if h := p.healthOf(d); h.is == api.Sick && slices.Contains(uuids, d.UUID) {
			return "GPU " + d.UUID + " is sick: " + h.reason
		}
	}
	return ""
}

// Size is the number of devices that are there, free or not, sick or not.
func (p *Pool) Size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.present)
}

// suits reports whether a task with this request can use the device. A process
// can use one MIG device and no other device with it, says the CUDA guide.
func suits(d Device, r api.Resources) bool {
	return d.MemoryBytes >= uint64(r.GPUMemory) && (d.Parent == "" || r.GPUs <= 1)
}

// Fits reports whether the pool could satisfy the request if all its healthy
// devices were free.
func (p *Pool) Fits(r api.Resources) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, d := range p.devices {
		if suits(d.Device, r) && p.healthOf(d).is == api.Healthy {
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
			d.task = task
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
			return by.task != "" && (by == d || by.UUID == d.Parent || by.Parent == d.UUID)
		})
		if !used && !d.elsewhere && suits(d.Device, r) && (spare == nil || !suits(d.Device, *spare)) && p.healthOf(d).is == api.Healthy {
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
		if d == nil || d.task == "" {
			panic("gpu: device freed twice: " + uuid) // two tasks could have shared it
		}
		d.task = ""
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
	list := make([]api.GPU, len(p.devices))
	for i, d := range p.devices {
		h := p.healthOf(d)
		list[i] = api.GPU{
			UUID: d.UUID, Parent: d.Parent, Index: d.Index, Model: d.Model, MemoryBytes: d.MemoryBytes,
			Task: d.task, Health: h.is, HealthReason: h.reason,
		}
	}
	return list
}
