package gpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	// Visible chooses the devices that this runner may use, among those that
	// have been there since the start, each with its index as of then. One that
	// has never answered has no UUID.
	Visible func([]Device) ([]Device, error)
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
	hang    *time.Timer        // runs while NVML owes an answer

	mu       sync.Mutex
	begun    uint64    // how many looks have begun
	over     uint64    // the last one that is over
	wanted   uint64    // the last one that somebody waits for
	end      sync.Cond // of a look
	readings []Reading
}

// Run watches the machine until ctx ends, and a call of NVML that hangs then: nothing
// in Go can end it, so that whoever ends the process does not wait for it. It opens
// NVML, however often that takes, and looks until that is of no use any more. It
// returns the error of Visible: that is one of the configuration.
func (m *Monitor) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		m.lookBegins()
		err := m.open(ctx)
		wrong, configuration := errors.AsType[*visibleError](err)
		if err != nil && !configuration {
			// Those that run may well not need NVML: a driver that was updated
			// under them serves them to their end.
			m.trouble(err.Error())
			m.Pool.Retire(err.Error())
		}
		m.lookIsOver()
		switch {
		case configuration:
			return wrong.error
		case m.Library == none, errors.Is(err, errNoNVML):
			<-ctx.Done() // a library does not come by itself
			return nil
		}
		pause(ctx, m.Interval)
	}
	return nil
}

// open opens NVML, and watches until it fails or ctx ends.
func (m *Monitor) open(ctx context.Context) error {
	if m.Library == none {
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
	defer lib.Shutdown() // its answer changes nothing
	return m.watch(ctx, lib)
}

// watch looks at the machine at every interval, at every event, and when
// Check asks for it.
func (m *Monitor) watch(ctx context.Context, lib nvml.Interface) error {
	var events eventSet
	defer func() { events.free() }()
	for ctx.Err() == nil {
		m.lookBegins()
		gpus, problem, err := m.look(lib)
		if err != nil {
			return err
		}
		events = m.subscribe(lib, events, gpus)
		m.trouble(problem)
		m.lookIsOver()
		for end := time.Now().Add(m.Interval); time.Now().Before(end) && ctx.Err() == nil && !m.isWanted(); {
			if m.wait(ctx, events, max(0, min(slice, time.Until(end)))) {
				break
			}
		}
	}
	return nil
}

// look reads what there is now and tells the pool. It returns the GPUs that
// answer, with their UUIDs, and what is wrong with one that the pool does not have.
func (m *Monitor) look(lib nvml.Interface) (answering map[nvml.Device]string, problem string, err error) {
	found, err := takeInventory(lib, m.known)
	if err != nil {
		return nil, "", err
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
		return nil, "", err
	}
	answering = make(map[nvml.Device]string)
	var readings []Reading
	for i, d := range visible {
		if i > 0 && visible[i-1].gpu() == d.gpu() {
			continue // read by another of its MIG devices
		}
		uuid, r, gpu := d.gpu(), m.record(d.gpu()), found.gpus[d.gpu()]
		if r.failure = found.failures[d.Index]; gpu != nil {
			r.read(gpu)
		}
		is, reason := r.diagnose()
		if is != cmp.Or(r.told, api.Healthy) {
			level := slog.LevelWarn
			if is == api.Healthy {
				level = slog.LevelInfo
			}
			m.Log.Log(context.Background(), level, "GPU health", "gpu", uuid, "health", is, "reason", reason)
		}
		r.told = is
		m.Pool.SetHealth(uuid, is, reason)
		if r.failure == nil {
			answering[gpu] = uuid
		}
		readings = append(readings, measureLoad(lib, gpu, d, r))
	}
	// Only now, for a task would get a device that nobody knows to be well.
	m.Pool.SetDevices(visible)
	m.mu.Lock()
	m.readings = readings
	m.mu.Unlock()
	return answering, problem, nil
}

func (m *Monitor) record(uuid string) *record {
	if m.records == nil {
		m.records = make(map[string]*record)
	}
	if m.records[uuid] == nil {
		m.records[uuid] = new(record)
	}
	return m.records[uuid]
}

// Check returns why one of the devices is sick, as of a look that began after
// the call, or the empty text. It waits for that look until ctx ends.
func (m *Monitor) Check(ctx context.Context, uuids []string) string {
	m.await(ctx, m.want())
	return m.Pool.Sick(uuids)
}

// First waits until the machine was looked at once, or ctx ends.
func (m *Monitor) First(ctx context.Context) { m.await(ctx, 1) }

// want asks for another look than the one in progress, which may have passed
// anything already, and returns its number.
func (m *Monitor) want() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wanted = m.begun + 1
	return m.wanted
}

// await waits until that many looks are over, or ctx ends.
func (m *Monitor) await(ctx context.Context, looks uint64) {
	defer context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.end.Broadcast()
	})()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.end.L = &m.mu
	for m.over < looks && ctx.Err() == nil {
		m.end.Wait()
	}
}

// Readings returns the load of the GPUs, as of the last look.
func (m *Monitor) Readings() []Reading {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.readings
}

func (m *Monitor) lookBegins() {
	m.ask()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begun++
}

func (m *Monitor) lookIsOver() {
	m.hang.Stop()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.over = m.begun
	m.end.Broadcast()
}

// isWanted reports whether somebody waits for another look.
func (m *Monitor) isWanted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wanted > m.begun
}

// ask must be called before NVML is asked, and hang be stopped when it has answered.
func (m *Monitor) ask() {
	if m.hang == nil {
		m.hang = time.AfterFunc(hangLimit, m.hangs)
	}
	m.hang.Reset(hangLimit)
}

// hangs keeps new tasks away from GPUs of which NVML does not tell how they are.
// The look that comes to an end after all is followed by another, which finds how
// things are.
func (m *Monitor) hangs() {
	problem := "NVML has not answered since " + time.Now().Add(-hangLimit).Format(time.TimeOnly)
	m.want()
	m.trouble(problem)
	m.Pool.Retire(problem)
}

// trouble tells and, when it is news, logs what is wrong with NVML itself.
func (m *Monitor) trouble(problem string) {
	news := m.Pool.SetProblem(problem)
	switch {
	case news && problem == errNoNVML.Error():
		m.Log.Info(problem)
	case news && problem != "":
		m.Log.Warn("GPUs are not available", "problem", problem)
	case news:
		m.Log.Info("NVML answers")
	}
}

// pause waits, or returns early when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
