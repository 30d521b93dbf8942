package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	psa "k8s.io/pod-security-admission/api"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/studioml/studio-go-runner/fakegpu"
)

// daemonSet finds the one that is there.
func daemonSet(t *testing.T, objects []runtime.Object) *appsv1.DaemonSet {
	t.Helper()
	if len(objects) == 1 {
		if d, ok := objects[0].(*appsv1.DaemonSet); ok {
			return d
		}
	}
	t.Fatalf("%d objects, want one DaemonSet", len(objects))
	return nil
}

// value finds a variable of a container.
func value(c corev1.Container, name string) string {
	for _, v := range c.Env {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// Directories of the node are all that it needs beyond what any pod may.
func TestFakeGPUsNeedNothingButTheNodesDirectories(t *testing.T) {
	pod := daemonSet(t, build(t, filesys.MakeFsOnDisk(), "fake-gpu")).Spec.Template
	for reason := range forbidden(t, psa.LevelBaseline, pod) {
		if reason != "hostPath volumes" {
			t.Errorf("the baseline forbids %s as well", reason)
		}
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		s := c.SecurityContext
		if s == nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
			t.Errorf("container %s has more rights than it needs: %+v", c.Name, s)
		}
	}
}

// The init containers are run as the kubelet would run them, but in another directory.
func TestFakeGPUsOfANode(t *testing.T) {
	command := filepath.Join(t.TempDir(), "fakegpu")
	if out, err := exec.Command("go", "build", "-ldflags", "-extldflags=-Wl,-z,lazy", "-o", command, "../../fakegpu/cmd/fakegpu").CombinedOutput(); err != nil {
		t.Fatalf("build fakegpu: %v\n%s", err, out)
	}
	library := filepath.Join(t.TempDir(), "library")
	if err := os.WriteFile(library, []byte("library"), 0o644); err != nil {
		t.Fatal(err)
	}
	pod := daemonSet(t, build(t, filesys.MakeFsOnDisk(), "fake-gpu")).Spec.Template.Spec
	start := func(host, node string) fakegpu.Machine {
		t.Helper()
		for _, c := range pod.InitContainers {
			replace := []string{"/var/lib/fakegpu", host, "$(NODE_NAME)", node}
			for _, v := range c.Env {
				replace = append(replace, "$("+v.Name+")", v.Value)
			}
			var args []string
			for _, arg := range c.Command[1:] {
				args = append(args, strings.NewReplacer(replace...).Replace(arg))
			}
			run := exec.Command(command, args...)
			run.Env = []string{"FAKEGPU_LIBRARY=" + library}
			if out, err := run.CombinedOutput(); err != nil || c.Command[0] != "fakegpu" {
				t.Fatalf("%q: %v\n%s", c.Command, err, out)
			}
		}
		m, err := fakegpu.Load(filepath.Join(host, "state"))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	one, two := t.TempDir(), t.TempDir()
	first := start(one, "node-1")
	if len(first.GPUs) != 8 || !strings.Contains(first.GPUs[0].Name, "H100") {
		t.Errorf("a node has %d GPUs, the first is %q; want 8 H100", len(first.GPUs), first.GPUs[0].Name)
	}
	if _, err := os.Stat(filepath.Join(one, "lib", "libnvidia-ml.so.1")); err != nil {
		t.Error(err)
	}
	if err := fakegpu.Set(filepath.Join(one, "state"), "0", "temperature=88"); err != nil {
		t.Fatal(err)
	}
	if again := start(one, "node-1"); again.GPUs[0].Numbers["temperature"] != 88 || again.GPUs[0].UUID != first.GPUs[0].UUID {
		t.Error("a restart replaced the GPUs")
	}
	if other := start(two, "node-2"); other.GPUs[0].UUID == first.GPUs[0].UUID {
		t.Error("two nodes have the same GPU")
	}
}

func TestDevicePluginSeesTheFakeGPUs(t *testing.T) {
	pod := daemonSet(t, build(t, filesys.MakeFsOnDisk(), "fake-gpu")).Spec.Template.Spec
	plugin := pod.Containers[0]
	mounts := map[string]string{}
	for _, m := range plugin.VolumeMounts {
		for _, v := range pod.Volumes {
			if v.Name == m.Name {
				mounts[m.MountPath] = v.HostPath.Path
			}
		}
	}
	want := map[string]string{"/var/lib/fakegpu": "/var/lib/fakegpu", "/var/lib/kubelet/device-plugins": "/var/lib/kubelet/device-plugins"}
	if diff := cmp.Diff(want, mounts); diff != "" {
		t.Errorf("mounts of the device plugin (-want +got):\n%s", diff)
	}
}

// A cluster may have other models on other nodes; the README shows how.
func TestFakeGPUsOfAnotherModel(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(readme), "nameSuffix: -t4")
	if !found {
		t.Fatal("the README has no example with nameSuffix: -t4")
	}
	example, _, _ = strings.Cut("nameSuffix: -t4"+example, "```")
	example = strings.ReplaceAll(example, "../studio-go-runner/runner/deploy", "DEPLOY")
	d := daemonSet(t, overlay(t, example))
	base := daemonSet(t, build(t, filesys.MakeFsOnDisk(), "fake-gpu"))
	if d.Name == base.Name || d.Spec.Template.Spec.NodeSelector["studioml.io/fakegpu"] != "T4" {
		t.Errorf("it is named %s, for nodes with %v", d.Name, d.Spec.Template.Spec.NodeSelector)
	}
	for _, pair := range [][2]*appsv1.DaemonSet{{d, base}, {base, d}} {
		if labels.SelectorFromSet(pair[0].Spec.Selector.MatchLabels).Matches(labels.Set(pair[1].Spec.Template.Labels)) {
			t.Errorf("%s also selects the pods of %s", pair[0].Name, pair[1].Name)
		}
	}
	gpus := d.Spec.Template.Spec.InitContainers[1]
	if value(gpus, "FAKEGPU_PROFILE") != "T4" || value(gpus, "FAKEGPU_COUNT") != "2" {
		t.Errorf("its GPUs are %+v", gpus.Env)
	}
}

func TestRunnersWithFakeGPUs(t *testing.T) {
	for _, name := range workloads {
		pod := template(t, overlay(t, "resources: [DEPLOY/"+name+"]\ncomponents: [DEPLOY/fake-gpu/workload]\n")).Spec
		runner := pod.Containers[0]
		if gpus := runner.Resources.Limits["nvidia.com/gpu"]; gpus.Value() != 1 {
			t.Errorf("%s: %s GPUs, want 1", name, gpus.String())
		}
		if len(runner.Resources.Requests) == 0 || value(runner, "STUDIOML_SPOOL") == "" {
			t.Errorf("%s: what was there is lost: %+v %+v", name, runner.Resources, runner.Env)
		}
		library, state := value(runner, "STUDIOML_NVML_LIBRARY"), value(runner, fakegpu.EnvState)
		if library != "/var/lib/fakegpu/lib/libnvidia-ml.so.1" || state != "/var/lib/fakegpu/state" {
			t.Errorf("%s: the library is %q, the state %q", name, library, state)
		}
		for _, dir := range []string{filepath.Dir(library), state} {
			i := slices.IndexFunc(runner.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == dir })
			if i < 0 || !runner.VolumeMounts[i].ReadOnly {
				t.Errorf("%s: %s is not mounted, or can be written", name, dir)
				continue
			}
			v := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == runner.VolumeMounts[i].Name })
			if v < 0 || pod.Volumes[v].HostPath == nil || pod.Volumes[v].HostPath.Path != dir {
				t.Errorf("%s: what is mounted at %s is not the node's directory of that name", name, dir)
			}
		}
	}
}
