package pods

import (
	"slices"
	"testing"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/place"
)

func runnerPod(t *testing.T, e *env, spec targets.RunnerSpec) *corev1.Pod {
	t.Helper()
	p, err := e.runnerParts(spec)
	if err != nil {
		t.Fatal(err)
	}
	pod, err := e.pod(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// A runner without tasks has a queue of its own, as it is shipped, and nothing beside it,
// but where a server is asked for.
func TestAPodWithoutTasks(t *testing.T) {
	for _, test := range []struct {
		isolation targets.Isolation
		adapter   place.Adapter
		alone     bool
	}{
		{targets.Isolation{Idle: true}, nil, true},
		{targets.Isolation{Idle: true, Server: true}, nil, false},
		{targets.Isolation{Idle: true}, theirs{}, false}, // which is told of its queue in another way
		{targets.Isolation{}, nil, false},
	} {
		pod := runnerPod(t, newEnv(&Target{Config: Config{Adapter: test.adapter}}, test.isolation), targets.RunnerSpec{Name: "a"})
		runner := pod.Spec.Containers[len(pod.Spec.Containers)-1]
		named := func(name string) bool {
			return slices.ContainsFunc(runner.Env, func(v corev1.EnvVar) bool { return v.Name == name })
		}
		if got := len(pod.Spec.Containers)+len(pod.Spec.InitContainers) == 1; got != test.alone {
			t.Errorf("%+v: nothing is beside the runner: %t", test.isolation, got)
		}
		if got := named("STUDIOML_SPOOL"); got != test.alone || test.adapter == nil && named("STUDIOML_QUEUE") == got {
			t.Errorf("%+v: the variables are %v", test.isolation, runner.Env)
		}
		mounted := slices.ContainsFunc(runner.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "spool" })
		made := slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool {
			return v.Name == "spool" && v.EmptyDir != nil && v.PersistentVolumeClaim == nil
		})
		if mounted != test.alone || made != test.alone {
			t.Errorf("%+v: a queue is mounted: %t, made: %t", test.isolation, mounted, made)
		}
	}
}

// Nodes with GPUs are often tainted, so that other pods stay away.
func TestPodsForNodesWithGPUs(t *testing.T) {
	for _, gpus := range []int{0, 2} {
		has := gpus > 0
		e := newEnv(&Target{Config: Config{RuntimeClass: "nvidia"}}, targets.Isolation{GPUs: 2, Needs: []scenario.Need{scenario.NeedGPUs}})
		pod := runnerPod(t, e, targets.RunnerSpec{Name: "a", Runner: scenario.Runner{GPUs: gpus}})
		tolerates := slices.ContainsFunc(pod.Spec.Tolerations, func(x corev1.Toleration) bool {
			return x.ToleratesTaint(logr.Discard(), &corev1.Taint{Key: "nvidia.com/gpu", Value: "present", Effect: corev1.TaintEffectNoSchedule}, false)
		})
		if tolerates != has {
			t.Errorf("with %d GPUs: it tolerates their taint: %t", gpus, tolerates)
		}
		if class := pod.Spec.RuntimeClassName; (class != nil && *class == "nvidia") != has {
			t.Errorf("with %d GPUs: its RuntimeClass is %v", gpus, class)
		}
		// NVIDIA's runtime gives all GPUs of a node to a container whose image says
		// so; the device plugin sets the variable where it gives some.
		for _, c := range pod.Spec.Containers {
			void := slices.Contains(c.Env, corev1.EnvVar{Name: "NVIDIA_VISIBLE_DEVICES", Value: "void"})
			if want := c.Name != runnerContainer || !has; void != want {
				t.Errorf("with %d GPUs: the variables of %s are %v", gpus, c.Name, c.Env)
			}
		}
	}
}

// A pod is the machine of its fake GPUs: what was done to them before is done to those
// of the next pod as well.
func TestFakeGPUsStayAsTheyAre(t *testing.T) {
	e := newEnv(&Target{Config: Config{Library: "/lib/libnvidia-ml.so.1"}}, targets.Isolation{GPUs: 2, Needs: []scenario.Need{scenario.NeedFakeGPUs}})
	spec := targets.RunnerSpec{Name: "a", Runner: scenario.Runner{GPUs: 2, Profile: "T4"}}
	if err := e.ChangeGPUs(t.Context(), spec, []string{"inject", "xid", "DIR", "0", "79"}); err != nil {
		t.Fatal(err)
	}
	pod := runnerPod(t, e, spec)
	const want = "mkdir -p /e2e/gpus\n" +
		"'/lib/fakegpu' 'create' '/e2e/gpus/a' '--profile=T4' '--count=2' '--seed=a' || exit\n" +
		"'/lib/fakegpu' 'inject' 'xid' '/e2e/gpus/a' '0' '79' || exit\n" + `exec "$@"`
	if c := pod.Spec.Containers[1]; c.Command[2] != want {
		t.Errorf("it begins with\n%s\nwant\n%s", c.Command[2], want)
	}
	spec.Machine = "shared"
	if _, err := e.runnerParts(spec); err == nil {
		t.Error("no error for two pods that are to be one machine")
	}
}

func TestFreeGPUs(t *testing.T) {
	node := func(name, gpus string) corev1.Node {
		n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
		if gpus != "" {
			n.Status.Allocatable = corev1.ResourceList{gpuResource: resource.MustParse(gpus)}
		}
		return n
	}
	pod := func(node, gpus string, phase corev1.PodPhase) corev1.Pod {
		limits := corev1.ResourceList{gpuResource: resource.MustParse(gpus)}
		return corev1.Pod{
			Spec:   corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Limits: limits, Requests: limits}}}},
			Status: corev1.PodStatus{Phase: phase},
		}
	}
	tainted := func(name, taint string) corev1.Node {
		n := node(name, "8")
		n.Spec.Taints = []corev1.Taint{{Key: taint, Effect: corev1.TaintEffectNoSchedule}}
		return n
	}
	one := node("one", "1")
	one.Spec.Taints = []corev1.Taint{{Key: gpuResource, Effect: corev1.TaintEffectNoSchedule}, {Key: "old", Effect: corev1.TaintEffectPreferNoSchedule}}
	nodes := []corev1.Node{node("cpu", ""), tainted("closed", corev1.TaintNodeUnschedulable), tainted("not-ready", corev1.TaintNodeNotReady), one, node("eight", "8")}
	pods := []corev1.Pod{
		pod("one", "1", corev1.PodSucceeded), pod("one", "1", corev1.PodFailed), // these hold nothing any more
		pod("eight", "4", corev1.PodRunning), pod("eight", "1", corev1.PodPending), // these do
		pod("", "4", corev1.PodPending), // not on a node yet
	}
	const have = "; one has 1, of which 0 are in use; eight has 8, of which 5 are in use"
	for gpus, want := range map[int64]string{1: "one", 2: "eight", 3: "eight", 4: ""} {
		free, said := freeGPUs(gpus, nodes, pods)
		got := ""
		if free != nil {
			got = free.Name
		}
		if got != want || said != have {
			t.Errorf("%d GPUs: %q, %q", gpus, got, said)
		}
	}
}

// A pod may be replaced, be gone, or never start; who waits must not wait for ever.
func TestEndsOfPods(t *testing.T) {
	lives := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
	pod := func(phase corev1.PodPhase, state *corev1.ContainerState) *corev1.Pod {
		p := &corev1.Pod{Status: corev1.PodStatus{Phase: phase}}
		if state != nil {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: runnerContainer, State: *state}}
		}
		return p
	}
	for _, test := range []struct {
		name string
		pod  *corev1.Pod
		want stage
	}{
		{"not scheduled", pod(corev1.PodPending, nil), waiting},
		{"pulling", pod(corev1.PodPending, &corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}), waiting},
		{"running", pod(corev1.PodRunning, &lives), running},
		{"ended, its neighbour not", pod(corev1.PodRunning, &ended), over},
		{"ended", pod(corev1.PodSucceeded, &ended), over},
		{"evicted before its start", pod(corev1.PodFailed, nil), over},
		{"gone", nil, over},
		{"replaced", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "2"}}, over},
	} {
		if got := (&runner{pod: &corev1.Pod{}}).stage(test.pod, runnerContainer); got != test.want {
			t.Errorf("%s: it is %d, want %d", test.name, got, test.want)
		}
	}
	// A sidecar is started again, but not in a pod that has ended; its runner is not.
	for phase, want := range map[corev1.PodPhase]stage{corev1.PodRunning: running, corev1.PodSucceeded: over} {
		p := pod(phase, &ended)
		p.Spec.InitContainers = []corev1.Container{{Name: beside}}
		p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: beside, State: ended}}
		if got := (&runner{pod: p}).stage(p, beside); got != want {
			t.Errorf("in a pod that is %s the sidecar is %d, want %d", phase, got, want)
		}
	}
}

// theirs starts runners of another make.
type theirs struct{}

func (theirs) Run(spec targets.RunnerSpec, added map[string]string) ([]string, map[string]string) {
	return []string{"their", "runner"}, map[string]string{"NAME": spec.Name, "QUEUE": added["spool"], "LAST_WORDS": added["termination-log"]}
}

func (theirs) Submit(queue, _ string) []string { return []string{"their", "submit", queue} }

// A runner of another make is started by its adapter, and asked for nothing that only
// ours has.
func TestAPodOfAnotherMake(t *testing.T) {
	e := newEnv(&Target{Config: Config{Image: "theirs", Adapter: theirs{}}}, targets.Isolation{})
	e.Layout.Spool = "postgres://there"
	pod := runnerPod(t, e, targets.RunnerSpec{Name: "a"})
	if len(pod.Spec.Containers) != 1 {
		t.Fatalf("it has %d containers, want the runner's", len(pod.Spec.Containers))
	}
	c := pod.Spec.Containers[0]
	if want := []string{"/bin/sh", "-c", `exec "$@"`, "sh", "their", "runner"}; !slices.Equal(c.Command, want) || c.Args != nil || c.Image != "theirs" {
		t.Errorf("it is %s %q %q, want %q", c.Image, c.Command, c.Args, want)
	}
	if c.LivenessProbe != nil || c.ReadinessProbe != nil || c.StartupProbe != nil || c.Ports != nil {
		t.Error("it has probes or ports")
	}
	for name, want := range map[string]string{"NAME": "a", "QUEUE": "postgres://there", "LAST_WORDS": "/dev/termination-log"} {
		if !slices.Contains(c.Env, corev1.EnvVar{Name: name, Value: want}) {
			t.Errorf("%s is not %q: %v", name, want, c.Env)
		}
	}
}
