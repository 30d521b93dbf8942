package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/studioml/studio-go-runner/e2e/controlplane"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/embedded"
	"github.com/studioml/studio-go-runner/fakegpu"
	"github.com/studioml/studio-go-runner/runner/api"
)

const (
	gpuCount = 8
	// diskSize and diskNodes are for 10,000 tasks with their results, and leave a
	// fault that fills the disk quickly done.
	diskSize, diskNodes = 512 << 20, 300_000
)

// Arena is where the runners are: a control plane, and below dir
//
//	notes/      journal and locks of the tasks, and nothing of the runners
//	disk/       the queue, on a file system of its own; spool is a link to one in a directory
//	tmp/<name>  TMPDIR of a runner;  home, gpus, gpu-locks, logs
type Arena struct {
	Programs
	dir    string
	uid    int // of the runners and tasks; 0 is our own
	plane  *controlplane.ControlPlane
	env    targets.Env
	maps   corev1client.ConfigMapInterface
	gpus   []fakegpu.GPU
	notes  *journal
	began  Instant
	server sync.RWMutex // written while the API server is away for those with all rights, too
	queue  queue

	mu     sync.Mutex
	record Record
}

// Programs are what is tested and what it is tested with.
type Programs struct {
	Runner, Task, NVML string
}

// newArena makes all of it. Close removes what there is, after an error as well.
func newArena(ctx context.Context, programs Programs, queue string) (a *Arena, err error) {
	a = &Arena{Programs: programs, began: now()}
	if a.dir, err = os.MkdirTemp("", "studio-go-runner-chaos-*"); err != nil {
		return a, err
	}
	if os.Getuid() == 0 {
		a.uid = 61000 + os.Getpid()%1000 // nobody else's, so that limits of processes, and what is left, are ours
	}
	if err := a.layout(); err != nil {
		return a, err
	}
	if queue == inServer {
		a.queue, err = openDatabase(ctx, a)
	} else {
		a.queue, err = openDirectory(a)
	}
	if err != nil {
		return a, err
	}
	if a.plane, err = controlplane.Start(ctx, a.dir, nil); err != nil {
		return a, err
	}
	target, err := embedded.New(embedded.Config{Handle: a.plane.Handle, RunnerBinary: a.Runner, TempDir: a.dir})
	if err != nil {
		return a, err
	}
	a.env, err = target.Isolate(ctx, targets.Isolation{Name: "chaos", Needs: []scenario.Need{scenario.NeedNetwork, scenario.NeedToken}})
	if err != nil {
		return a, err
	}
	client, err := kubernetes.NewForConfig(a.env.Client().Config)
	if err != nil {
		return a, err
	}
	a.maps = client.CoreV1().ConfigMaps(a.env.Namespace())
	return a, a.copyCredentials()
}

// layout makes everything that is on the disk.
func (a *Arena) layout() (err error) {
	err = errors.Join(os.Chmod(a.dir, 0o755), a.mkdir("notes/locks"), a.mkdir("tmp"), a.mkdir("home"), a.mkdir("gpu-locks"))
	for _, name := range []string{"disk", "logs", "bin"} {
		err = errors.Join(err, os.Mkdir(a.path(name), 0o755))
	}
	if err != nil {
		return err
	}
	if a.uid != 0 {
		options := fmt.Sprintf("size=%d,nr_inodes=%d,mode=755", diskSize, diskNodes)
		if err := unix.Mount("chaos", a.path("disk"), "tmpfs", 0, options); err != nil {
			return fmt.Errorf("mount a file system for the queue: %w", err)
		}
	}
	// A copy: the checkout may be in a directory that others cannot enter.
	for name, program := range map[string]*string{"task": &a.Task, "runner": &a.Runner, "libnvidia-ml.so.1": &a.NVML} {
		data, err := os.ReadFile(*program)
		if err != nil {
			return fmt.Errorf("%w; make it with make", err)
		}
		*program = a.path("bin", name)
		if err := os.WriteFile(*program, data, 0o755); err != nil {
			return err
		}
	}
	if a.gpus, err = fakegpu.Create(a.path("gpus"), fakegpu.Spec{Profile: "L4", Count: gpuCount, Seed: "chaos"}); err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile(a.path("notes/journal"), nil, 0o666), os.Chmod(a.path("notes/journal"), 0o666))
	if err == nil {
		a.notes, err = openJournal(a.path("notes/journal"))
	}
	return err
}

// mkdir makes a directory of the runners' user.
func (a *Arena) mkdir(name string) error {
	err := os.MkdirAll(a.path(name), 0o755)
	if err == nil && a.uid != 0 {
		err = os.Chown(a.path(name), a.uid, a.uid)
	}
	return err
}

func (a *Arena) path(elements ...string) string {
	return filepath.Join(append([]string{a.dir}, elements...)...)
}

// copyCredentials gives the runners, another user, what they reach the API server
// with: those of the target are only for its own.
func (a *Arena) copyCredentials() error {
	from := a.env.(interface{ Kubeconfig() string }).Kubeconfig()
	config, err := clientcmd.LoadFromFile(from)
	if err != nil {
		return err
	}
	for _, user := range config.AuthInfos {
		token, err := os.ReadFile(user.TokenFile)
		if err != nil {
			return err
		}
		user.TokenFile = a.path("token")
		if err := replace(user.TokenFile, token); err != nil {
			return err
		}
	}
	text, err := clientcmd.Write(*config)
	if err != nil {
		return err
	}
	return replace(a.path("kubeconfig"), text)
}

// replace writes a file that a runner may read meanwhile: the old one, or the new.
func replace(path string, text []byte) error {
	return errors.Join(os.WriteFile(path+".new", text, 0o644), os.Rename(path+".new", path))
}

// asRunner gives a command the runners' user. It dies with the suite.
func (a *Arena) asRunner(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if a.uid != 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.uid)}
	}
	return cmd
}

// submitTime is several times what one try may take of a server that does not answer.
const submitTime = 3 * time.Minute

// submit puts tasks into the queue. What fails by a fault is done again.
func (a *Arena) submit(ctx context.Context, tasks []Task) error {
	var documents bytes.Buffer
	for _, t := range tasks {
		documents.WriteString("---\n")
		task := api.Task{
			ID: t.ID, Command: a.Task, MaxAttempts: t.Attempts, Resources: api.Resources{GPUs: t.GPUs},
			Args: []string{a.path("notes"), t.Kind, strconv.FormatInt(t.Lasts.Milliseconds(), 10), strconv.Itoa(t.Fails)},
		}
		if err := json.NewEncoder(&documents).Encode(task); err != nil {
			return err
		}
	}
	patient, enough := context.WithTimeout(ctx, submitTime)
	defer enough()
	for ; ; wait(patient, restartWait) {
		cmd := a.asRunner(exec.CommandContext(ctx, a.Runner, "submit", "-"))
		cmd.Stdin = bytes.NewReader(documents.Bytes())
		cmd.Env = []string{"HOME=" + a.path("home"), a.queue.variable()}
		output, err := cmd.CombinedOutput()
		if err == nil {
			break
		} else if patient.Err() != nil {
			return fmt.Errorf("submit: %w: %s", err, output)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.record.Tasks = append(a.record.Tasks, tasks...)
	return nil
}

// set writes a map, or deletes it if the value is empty.
func (a *Arena) set(ctx context.Context, name, value string) error {
	a.server.RLock()
	defer a.server.RUnlock()
	w := Write{Map: name, Value: value, Begin: now()}
	a.mu.Lock()
	at := len(a.record.Writes)
	a.record.Writes = append(a.record.Writes, w) // from here on it may be so
	a.mu.Unlock()
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{api.StateKey: value}}
	var err error
	if value == "" {
		if err = a.maps.Delete(ctx, name, metav1.DeleteOptions{}); apierrors.IsNotFound(err) {
			err = nil
		}
	} else {
		made, failed := a.maps.Update(ctx, m, metav1.UpdateOptions{})
		if apierrors.IsNotFound(failed) {
			made, failed = a.maps.Create(ctx, m, metav1.CreateOptions{})
		}
		if err = failed; err == nil {
			w.Version, err = strconv.ParseInt(made.ResourceVersion, 10, 64)
		}
	}
	if err != nil {
		return fmt.Errorf("set %s to %q: %w", name, value, err)
	}
	w.End = now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.record.Writes[at] = w
	return nil
}

// effective is what the maps ask of a runner now.
func (a *Arena) effective(runner string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return effective(a.record.Writes, runner, now())
}

// left notes something that should not be there.
func (a *Arena) left(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.record.Left = append(a.record.Left, fmt.Sprintf(format, args...))
}

// Close removes everything.
func (a *Arena) Close(ctx context.Context) error {
	var problems []error
	for _, pid := range a.processes() {
		problems = append(problems, syscall.Kill(pid, syscall.SIGKILL))
	}
	if a.notes != nil {
		problems = append(problems, a.notes.close())
	}
	if a.env != nil {
		problems = append(problems, a.env.Close(ctx))
	}
	if a.plane != nil {
		problems = append(problems, a.plane.Close())
	}
	if d, ok := a.queue.(*database); ok && d.pair != nil {
		problems = append(problems, d.pair.Close())
	}
	if a.uid != 0 {
		problems = append(problems, unix.Unmount(a.path("disk"), unix.MNT_DETACH))
	}
	return errors.Join(append(problems, os.RemoveAll(a.dir))...)
}

// wait waits for a time or the end of ctx.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
