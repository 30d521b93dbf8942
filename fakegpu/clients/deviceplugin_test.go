package clients

import (
	"bytes"
	"context"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

// patience is how long the plugin may take for one thing on a busy machine.
const patience = time.Minute

// kubelet is the side of the kubelet that device plugins register with.
type kubelet struct {
	api.UnimplementedRegistrationServer
	registered chan *api.RegisterRequest
}

func (k kubelet) Register(_ context.Context, r *api.RegisterRequest) (*api.Empty, error) {
	k.registered <- r
	return &api.Empty{}, nil
}

// plugin is a running device plugin.
type plugin struct {
	client  api.DevicePluginClient
	process *exec.Cmd
	exited  chan error
	log     *buffer
}

// buffer can be read while a process writes it.
type buffer struct {
	mutex sync.Mutex
	bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.Buffer.Write(p)
}

func (b *buffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.Buffer.String()
}

// command is the plugin in a mount namespace of its own, where the directory of
// its sockets, which no flag changes, is the directory sockets.
func command(file, sockets string, m machine) (*exec.Cmd, *buffer) {
	script := `mount -t tmpfs none /var/lib && mkdir -p ` + api.DevicePluginPath + ` && mount --bind "$1" ` + api.DevicePluginPath + ` && shift && exec "$@"`
	c := exec.Command("sh", "-c", script, "sh", sockets, file,
		"--device-discovery-strategy=nvml", "--device-list-strategy=envvar", "--driver-root-ctr-path="+m.root)
	c.Env = append(os.Environ(), "FAKEGPU_STATE="+m.state)
	log := &buffer{}
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	return c, log
}

// socketDir makes a directory with a short name: a socket's path has 107 bytes.
func socketDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "kubelet-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// startPlugin runs the plugin until it has registered with the kubelet that the
// test plays.
func startPlugin(t *testing.T, file string, m machine) plugin {
	sockets := socketDir(t)
	listener, err := net.Listen("unix", filepath.Join(sockets, filepath.Base(api.KubeletSocket)))
	if err != nil {
		t.Fatal(err)
	}
	k := kubelet{registered: make(chan *api.RegisterRequest, 1)}
	server := grpc.NewServer()
	api.RegisterRegistrationServer(server, k)
	go server.Serve(listener)
	t.Cleanup(server.Stop)

	p := plugin{exited: make(chan error, 1)}
	p.process, p.log = command(file, sockets, m)
	if err := p.process.Start(); err != nil {
		t.Fatalf("start the device plugin: %v", err)
	}
	go func() { p.exited <- p.process.Wait(); close(p.exited) }()
	t.Cleanup(func() {
		p.process.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("the device plugin's log:\n%s", p.log)
		}
	})

	select {
	case r := <-k.registered:
		if r.Version != api.Version || r.ResourceName != "nvidia.com/gpu" {
			t.Errorf("the plugin registered %q with API %q, want nvidia.com/gpu with %q", r.ResourceName, r.Version, api.Version)
		}
		conn, err := grpc.NewClient("unix://"+filepath.Join(sockets, r.Endpoint), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		p.client = api.NewDevicePluginClient(conn)
	case err := <-p.exited:
		t.Fatalf("the device plugin ended before it registered: %v", err)
	case <-time.After(patience):
		t.Fatal("the device plugin did not register")
	}
	return p
}

// watch returns what the plugin says of the devices' health, by UUID, each time
// that it says something.
func (p plugin) watch(t *testing.T) <-chan map[string]string {
	stream, err := p.client.ListAndWatch(t.Context(), &api.Empty{})
	if err != nil {
		t.Fatalf("ListAndWatch: %v", err)
	}
	updates := make(chan map[string]string, 100)
	go func() {
		defer close(updates)
		for {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			health := map[string]string{}
			for _, d := range r.Devices {
				health[d.ID] = d.Health
			}
			updates <- health
		}
	}()
	return updates
}

// next returns the next update.
func next(t *testing.T, updates <-chan map[string]string) map[string]string {
	select {
	case health, more := <-updates:
		if !more {
			t.Fatal("ListAndWatch ended")
		}
		return health
	case <-time.After(patience):
		t.Fatal("ListAndWatch said nothing")
	}
	return nil
}

// health is what the plugin should say when these GPUs are unhealthy.
func (m machine) health(unhealthy ...int) map[string]string {
	health := map[string]string{}
	for i, uuid := range m.uuids {
		health[uuid] = api.Healthy
		if slices.Contains(unhealthy, i) {
			health[uuid] = api.Unhealthy
		}
	}
	return health
}

// pluginProgram builds the plugin.
func pluginProgram(t *testing.T) string {
	if os.Geteuid() != 0 {
		t.Skip("needs root: the plugin's socket is in " + api.DevicePluginPath + ", which has to be mounted over")
	}
	return program(t, ".", "github.com/NVIDIA/k8s-device-plugin/cmd/nvidia-device-plugin")
}

func TestDevicePluginHandsOutTheGPUs(t *testing.T) {
	file := pluginProgram(t)
	m := newMachine(t, "--profile", "H100-80GB", "--count", "8")
	p := startPlugin(t, file, m)

	if diff := cmp.Diff(m.health(), next(t, p.watch(t))); diff != "" {
		t.Errorf("health of the devices (-want +got):\n%s", diff)
	}

	two := m.uuids[2:4]
	allocated, err := p.client.Allocate(t.Context(), &api.AllocateRequest{
		ContainerRequests: []*api.ContainerAllocateRequest{{DevicesIDs: two}, {DevicesIDs: m.uuids[:1]}},
	})
	if err != nil {
		t.Fatalf("Allocate: %v", err)
	}
	var got [][]string
	for _, r := range allocated.ContainerResponses {
		visible := strings.Split(r.Envs["NVIDIA_VISIBLE_DEVICES"], ",")
		slices.Sort(visible)
		got = append(got, visible)
	}
	if diff := cmp.Diff([][]string{slices.Sorted(slices.Values(two)), m.uuids[:1]}, got); diff != "" {
		t.Errorf("NVIDIA_VISIBLE_DEVICES of the two containers (-want +got):\n%s", diff)
	}

	// This asks for the topology of every pair of GPUs.
	preferred, err := p.client.GetPreferredAllocation(t.Context(), &api.PreferredAllocationRequest{
		ContainerRequests: []*api.ContainerPreferredAllocationRequest{
			{AvailableDeviceIDs: m.uuids, MustIncludeDeviceIDs: m.uuids[7:], AllocationSize: 4},
		},
	})
	if err != nil {
		t.Fatalf("GetPreferredAllocation: %v", err)
	}
	ids := preferred.ContainerResponses[0].DeviceIDs
	distinct := map[string]bool{}
	for _, id := range ids {
		if !slices.Contains(m.uuids, id) {
			t.Errorf("GetPreferredAllocation chose %s, which is no GPU of this machine", id)
		}
		distinct[id] = true
	}
	if len(distinct) != 4 || len(ids) != 4 || !distinct[m.uuids[7]] {
		t.Errorf("GetPreferredAllocation chose %q, want 4 different GPUs with %s among them", slices.Sorted(maps.Keys(distinct)), m.uuids[7])
	}

	if err := p.process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-p.exited:
		if err != nil {
			t.Errorf("the device plugin ended with %v after SIGTERM", err)
		}
	case <-time.After(patience):
		t.Error("the device plugin did not end after SIGTERM")
	}
}

func TestDevicePluginTakesOutTheGPUOfAFatalXid(t *testing.T) {
	file := pluginProgram(t)
	m := newMachine(t, "--profile", "T4", "--count", "4")
	p := startPlugin(t, file, m)
	updates := p.watch(t)
	if diff := cmp.Diff(m.health(), next(t, updates)); diff != "" {
		t.Fatalf("health of the devices at first (-want +got):\n%s", diff)
	}

	// The plugin does not say when it starts to listen for events, and earlier
	// ones are not for it: the first is repeated until it is seen.
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	give := time.After(patience)
	var health map[string]string
	for health == nil {
		select {
		case <-tick.C:
			m.xid(t, 1, 79) // GPU has fallen off the bus
		case health = <-updates:
			if health == nil {
				t.Fatal("ListAndWatch ended")
			}
		case <-give:
			t.Fatal("no GPU became unhealthy after Xid 79")
		}
	}
	if diff := cmp.Diff(m.health(1), health); diff != "" {
		t.Fatalf("health of the devices after Xid 79 of the second (-want +got):\n%s", diff)
	}

	// Events come in order: with the last of these, the others were judged.
	m.xid(t, 0, 31) // the application's own page fault
	m.xid(t, 3, 43) // the application was stopped
	m.xid(t, 2, 79)
	for {
		health = next(t, updates)
		if health[m.uuids[2]] == api.Unhealthy {
			break
		}
		if diff := cmp.Diff(m.health(1), health); diff != "" {
			t.Fatalf("health of the devices between the events (-want +got):\n%s", diff)
		}
	}
	if diff := cmp.Diff(m.health(1, 2), health); diff != "" {
		t.Errorf("health of the devices after Xid 31, 43 and 79 (-want +got):\n%s", diff)
	}
}

func TestDevicePluginSaysThatThereIsNoDriver(t *testing.T) {
	file := pluginProgram(t)
	m := newMachine(t, "--profile", "T4", "--init-error", "9")
	c, log := command(file, socketDir(t), m)
	err := c.Run()
	if _, exited := err.(*exec.ExitError); !exited || !strings.Contains(log.String(), "Failed to initialize NVML") {
		t.Errorf("the device plugin ended with %v, want its message about the driver:\n%s", err, log)
	}
}
