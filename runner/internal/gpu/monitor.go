package gpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
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
	// endLimit is how long the end of the monitor waits for a call of NVML.
	endLimit = time.Second
)

// Monitor keeps a pool in step with the machine: which devices there are, and
// how they are. It is the only part of the runner that talks to NVML, in one
// goroutine, so that a driver that hangs holds up nothing else; until it
// answers again, the pool stays as it was.
type Monitor struct {
	// Off leaves the machine alone, and the pool empty.
	Off bool
	// Library is the NVML library; empty means where the loader finds it.
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

	mu       sync.Mutex
	busy     time.Time // since when NVML has been asked without an answer; zero while it is not
	looking  bool
	looks    uint64 // how many are over
	over     chan struct{}
	wanted   bool
	readings []Reading
}

// Run watches the machine until ctx ends. It returns the error of Visible: that
// is one of the configuration.
func (m *Monitor) Run(ctx context.Context) error {
	if m.Off {
		m.lookIsOver()
		<-ctx.Done()
		return nil
	}
	m.records = make(map[string]*record)
	ended := make(chan error, 1)
	go func() { ended <- m.run(ctx) }()
	look := time.NewTicker(hangLimit / 2)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-look.C:
			m.noticeHang()
			continue
		case <-ctx.Done():
		}
		break
	}
	// A call that hangs is left behind: nothing in Go can end it, and the
	// process is about to.
	select {
	case err := <-ended:
		return err
	case <-time.After(endLimit):
		m.Log.Warn("NVML does not answer; ending without it")
		return nil
	}
}

// noticeHang keeps new tasks away from GPUs of which NVML does not tell how they
// are. The look that comes to an end after all is followed by another, which
// finds how things are.
func (m *Monitor) noticeHang() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.busy.IsZero() || time.Since(m.busy) < hangLimit {
		return
	}
	problem := "NVML has not answered since " + m.busy.Format(time.TimeOnly)
	m.wanted = true
	m.trouble(problem)
	m.Pool.Retire(problem)
}

// run opens NVML, however often that takes, and looks until it is of no use
// any more.
func (m *Monitor) run(ctx context.Context) error {
	for ctx.Err() == nil {
		lib, err := m.open()
		if err == nil {
			err = m.watch(ctx, lib)
			lib.Shutdown() // its answer changes nothing
		}
		var wrong *visibleError
		if errors.As(err, &wrong) {
			return wrong.error
		}
		if err != nil {
			// Those that run may well not need NVML: a driver that was updated
			// under them serves them to their end.
			m.trouble(err.Error())
			m.Pool.Retire(err.Error())
			m.lookIsOver()
		}
		if errors.Is(err, errNoNVML) {
			<-ctx.Done() // a library does not come by itself
			return nil
		}
		pause(ctx, m.Interval)
	}
	return nil
}

func (m *Monitor) open() (nvml.Interface, error) {
	var options []nvml.LibraryOption
	if m.Library != "" {
		options = append(options, nvml.WithLibraryPath(m.Library))
	}
	lib := nvml.New(options...)
	m.lookBegins()
	if code := lib.Init(); code != nvml.SUCCESS {
		return nil, initError(code)
	}
	return lib, nil
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
// answer, and what is wrong with one that the pool does not have.
func (m *Monitor) look(lib nvml.Interface) (answering map[string]nvml.Device, problem string, err error) {
	devices, failures, err := inventory(lib, m.known)
	if err != nil {
		return nil, "", err
	}
	// A GPU that does not answer any more is still the one of its index.
	for _, d := range m.known {
		_, silent := failures[d.Index]
		moved := slices.ContainsFunc(devices, func(other Device) bool { return other.UUID == d.UUID })
		if silent && !moved {
			devices = append(devices, d)
		}
	}
	if len(m.known) == 0 && len(devices) > 0 {
		m.Log.Info("GPUs found", "count", len(devices))
	}
	m.known = devices
	visible, silent, err := m.visible(devices, failures)
	if err != nil {
		return nil, "", err
	}
	var problems []string
	for _, i := range silent {
		problems = append(problems, fmt.Sprintf("GPU %d has not answered yet: %s", i, cmp.Or(failures[i].text, "removed")))
	}

	answering = make(map[string]nvml.Device)
	var readings []Reading
	read := make(map[string]bool)
	for _, d := range visible {
		uuid := d.gpu()
		if read[uuid] {
			continue // by another of its MIG devices
		}
		read[uuid] = true
		s, handle, r := signs{failure: failures[d.Index].text}, nvml.Device(nil), m.record(uuid)
		if s.failure == "" {
			var code nvml.Return
			if handle, code = lib.DeviceGetHandleByUUID(uuid); code == nvml.SUCCESS {
				s = readSigns(handle, r.signs)
				r.signs = s
			} else {
				s.failure = lib.ErrorString(code)
			}
		}
		is, reason := r.diagnose(s)
		if is != r.told {
			m.Log.Log(context.Background(), level(is), "GPU health", "gpu", uuid, "health", is, "reason", reason)
			r.told = is
		}
		m.Pool.SetHealth(uuid, is, reason)
		if s.failure == "" {
			answering[uuid] = handle
		}
		readings = append(readings, measureLoad(lib, handle, d, r, s.failure != ""))
	}
	// Only now, for a task would get a device that nobody knows to be well.
	m.Pool.SetDevices(visible)
	m.mu.Lock()
	m.readings = readings
	m.mu.Unlock()
	return answering, strings.Join(problems, "; "), nil
}

func level(h api.Health) slog.Level {
	if h == api.Healthy {
		return slog.LevelInfo
	}
	return slog.LevelWarn
}

func (m *Monitor) record(uuid string) *record {
	if m.records[uuid] == nil {
		m.records[uuid] = &record{told: api.Healthy, signs: signs{uncounted: true}}
	}
	return m.records[uuid]
}

// Check returns why one of the devices is sick, as of a look that began after
// the call, or the empty text. It waits for that look until ctx ends.
func (m *Monitor) Check(ctx context.Context, uuids []string) string {
	m.mu.Lock()
	m.wanted = true
	target := m.looks + 1
	if m.looking {
		target++ // the one in progress may have passed the device already
	}
	m.mu.Unlock()
	for {
		m.mu.Lock()
		looks, over := m.looks, m.overChannel()
		m.mu.Unlock()
		if looks >= target {
			break
		}
		select {
		case <-over:
			continue
		case <-ctx.Done():
		}
		break
	}
	return m.Pool.Sick(uuids)
}

// First waits until the machine was looked at once, or ctx ends.
func (m *Monitor) First(ctx context.Context) {
	m.mu.Lock()
	looks, over := m.looks, m.overChannel()
	m.mu.Unlock()
	if looks > 0 {
		return
	}
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

// overChannel is closed when the next look is over. The lock must be held.
func (m *Monitor) overChannel() <-chan struct{} {
	if m.over == nil {
		m.over = make(chan struct{})
	}
	return m.over
}

func (m *Monitor) lookBegins() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy, m.looking, m.wanted = time.Now(), true, false
}

func (m *Monitor) lookIsOver() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy, m.looking = time.Time{}, false
	m.looks++
	if m.over != nil {
		close(m.over)
		m.over = nil
	}
}

// isWanted reports whether somebody waits for another look.
func (m *Monitor) isWanted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wanted
}

// setBusy notes that NVML is asked to wait for an event, or has answered.
func (m *Monitor) setBusy(busy bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.busy = time.Time{}
	if busy {
		m.busy = time.Now()
	}
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
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
