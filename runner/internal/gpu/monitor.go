package gpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/studioml/studio-go-runner/runner/api"
)

const (
	// slice is how long the monitor waits for an event before it looks whether
	// somebody wants it: NVML's wait cannot be interrupted.
	slice = 100 * time.Millisecond
	// hangLimit is how long a look may take before NVML counts as hanging.
	hangLimit = 2 * time.Second

	none = "none" // instead of a library
)

// Monitor keeps a pool in step with the machine: which devices there are, and
// how they are. It is the only part of the runner that talks to NVML, in one
// goroutine, so that a driver that hangs holds up nothing else; until it
// answers again, the pool stays as it was.
type Monitor struct {
	// Library is the NVML library; empty means where the loader finds it, and none
	// leaves the machine alone, and the pool empty.
	Library string
	// NVIDIA and CUDA choose the devices that this runner may use; see Visible.
	NVIDIA, CUDA *string
	// HarmlessXids leave a GPU in service.
	HarmlessXids []uint64
	// Interval is how often the monitor looks at everything. Events it sees at
	// once, where the driver supports them.
	Interval time.Duration
	Pool     *Pool
	Log      *slog.Logger

	// What only the monitor's goroutine uses.
	records map[string]*record // by UUID of the GPU
	known   []Device           // all devices that were there at the last look, visible or not
	places  []Device           // all that were ever there, for Visible
	chosen  map[string]bool    // the UUIDs that Visible has left; nil before it did
	lib     nvml.Interface     // while it is open
	events  eventSet

	mu       sync.Mutex
	asked    []chan struct{} // by those who want a look that has not begun; closed when it is over
	again    bool            // another look must follow at once: NVML hung, or events came during this one
	wake     func()          // ends the rest between two looks
	readings []Reading
}

// Run watches the machine until ctx ends, and a call of NVML that hangs then: nothing
// in Go can end it, so that whoever ends the process does not wait for it. It opens
// NVML, however often that takes. It returns the error of Visible: that is one of the
// configuration.
func (m *Monitor) Run(ctx context.Context) error {
	defer m.close()
	for ctx.Err() == nil {
		over := m.begin()
		err := m.open()
		if err == nil && m.lib != nil {
			err = m.look()
		}
		wrong, configuration := errors.AsType[*visibleError](err)
		if err != nil && !configuration {
			// Those that run may well not need NVML: a driver that was updated
			// under them serves them to their end.
			m.tell(err.Error(), m.Pool.Retire(err.Error()))
			m.close()
			m.follow(false) // what takes its time to fail is not asked again at once
		}
		over()
		if configuration {
			return wrong.error
		}
		m.rest(ctx)
	}
	return nil
}

// open opens NVML, unless it is open or there is to be none.
func (m *Monitor) open() error {
	if m.lib != nil || m.Library == none {
		return nil
	}
	var options []nvml.LibraryOption
	if m.Library != "" {
		options = append(options, nvml.WithLibraryPath(m.Library))
	}
	lib := nvml.New(options...)
	if code := lib.Init(); code != nvml.SUCCESS {
		// Nothing else of the library may be called now, not even for the text of the error.
		return cmp.Or(initErrors[code], fmt.Errorf("initialize NVML: error %d", int(code)))
	}
	m.lib = lib
	return nil
}

func (m *Monitor) close() {
	m.events.free()
	if m.lib != nil {
		m.lib.Shutdown() // its answer changes nothing
	}
	m.events, m.lib = eventSet{}, nil
}

// rest waits until another look is due: after the interval, after an event, or when
// somebody asks for it.
func (m *Monitor) rest(ctx context.Context) {
	ctx, wake := context.WithCancel(ctx)
	defer wake()
	m.mu.Lock()
	m.wake = wake
	if len(m.asked) > 0 || m.again {
		wake()
	}
	m.mu.Unlock()
	for end := time.Now().Add(m.Interval); time.Now().Before(end) && ctx.Err() == nil; {
		if m.wait(ctx, time.Until(end)) {
			return
		}
	}
}

// look reads what there is now and tells the pool.
func (m *Monitor) look() error {
	found, err := takeInventory(m.lib, m.known)
	if err != nil {
		return err
	}
	if len(m.known) == 0 && len(found.devices) > 0 {
		m.Log.Info("GPUs found", "count", len(found.devices))
	}
	// A GPU that does not answer any more is still the one of its index.
	devices := found.devices
	for _, d := range m.known {
		moved := slices.ContainsFunc(found.devices, func(other Device) bool { return other.UUID == d.UUID })
		if found.failures[d.Index] != nil && !moved {
			devices = append(devices, d)
		}
	}
	m.known = devices
	visible, problem, err := m.visible(devices, found.failures)
	if err != nil {
		return err
	}
	answering := make(map[nvml.Device]string)
	var readings []Reading
	for i, d := range visible {
		r, gpu := m.record(d.gpu()), found.gpus[d.gpu()]
		if i == 0 || visible[i-1].gpu() != d.gpu() { // else read with another of its MIG devices
			if r.failure = found.failures[d.Index]; r.failure == nil {
				r.read(gpu)
			}
			readings = append(readings, measureLoad(m.lib, gpu, d, r))
		}
		if r.failure == nil {
			answering[gpu] = d.gpu()
		}
	}
	m.hear() // a look that has hung may have lasted: no task gets a GPU that has raised an Xid meanwhile
	for i, d := range visible {
		visible[i].Health, visible[i].HealthReason = m.judge(d.gpu())
	}
	m.tell(problem, m.Pool.SetDevices(visible, problem))
	m.subscribe(answering)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.readings = readings
	return nil
}

// judge says how a GPU is, by all that is known of it.
func (m *Monitor) judge(uuid string) (health api.Health, reason string) {
	r := m.record(uuid)
	before := r.health
	r.health, reason = r.diagnose()
	if r.health != before {
		level := slog.LevelWarn
		if r.health == api.Healthy {
			level = slog.LevelInfo
		}
		m.Log.Log(context.Background(), level, "GPU health", "gpu", uuid, "health", r.health, "reason", reason)
	}
	return r.health, reason
}

// record is what is remembered of a GPU.
func (m *Monitor) record(uuid string) *record {
	if m.records == nil {
		m.records = make(map[string]*record)
	}
	if m.records[uuid] == nil {
		m.records[uuid] = &record{baseline: math.MaxUint64, health: api.Healthy}
	}
	return m.records[uuid]
}

// Look waits for a look at the machine that begins after the call, or until ctx ends:
// the one in progress may have passed anything already.
func (m *Monitor) Look(ctx context.Context) {
	over := make(chan struct{})
	m.mu.Lock()
	m.asked = append(m.asked, over)
	if m.wake != nil {
		m.wake()
	}
	m.mu.Unlock()
	select {
	case <-over:
	case <-ctx.Done():
	}
}

// Readings returns the load of the GPUs, as of the last look.
func (m *Monitor) Readings() []Reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.readings
}

// begin notes that a look begins, and that NVML owes an answer until it is over.
func (m *Monitor) begin() (over func()) {
	hang := time.AfterFunc(hangLimit, m.hangs)
	m.mu.Lock()
	defer m.mu.Unlock()
	asked := m.asked
	m.asked, m.again = nil, false
	return func() {
		hang.Stop()
		for _, a := range asked {
			close(a)
		}
	}
}

// follow says whether another look must follow this one at once.
func (m *Monitor) follow(must bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.again = must
	if must && m.wake != nil {
		m.wake()
	}
}

// hangs keeps new tasks away from GPUs of which NVML does not tell how they are,
// until a look is over that begins once it has answered, which follows at once.
func (m *Monitor) hangs() {
	problem := "NVML has not answered since " + time.Now().Add(-hangLimit).Format(time.TimeOnly)
	m.tell(problem, m.Pool.Retire(problem))
	m.follow(true)
}

// tell logs what is wrong with NVML itself, if it is news.
func (m *Monitor) tell(problem string, news bool) {
	switch {
	case !news:
	case problem == "":
		m.Log.Info("NVML answers")
	case problem == errNoNVML.Error():
		m.Log.Info(problem)
	default:
		m.Log.Warn("GPUs are not available", "problem", problem)
	}
}
