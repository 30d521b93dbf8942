package deploy_test

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/studioml/studio-go-runner/runner/internal/lifecycle"
)

// kustomize does what kubectl kustomize does.
func kustomize(t *testing.T, fs filesys.FileSystem, dir string) resmap.ResMap {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(fs, dir)
	if err != nil {
		t.Fatalf("kustomize %s: %v", dir, err)
	}
	return resources
}

// build does so, and reads the result strictly.
func build(t *testing.T, fs filesys.FileSystem, dir string) []runtime.Object {
	t.Helper()
	text, err := kustomize(t, fs, dir).AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	decoder := serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	var objects []runtime.Object
	for {
		document, err := reader.Read()
		if err == io.EOF {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v\n%s", dir, err, document)
		}
		objects = append(objects, object)
	}
}

// overlay builds the kustomization of a user, in which DEPLOY is this directory.
func overlay(t *testing.T, kustomization string) []runtime.Object {
	t.Helper()
	return build(t, filesys.MakeFsOnDisk(), overlaid(t, kustomization))
}

// overlaid is the directory of such a kustomization.
func overlaid(t *testing.T, kustomization string) string {
	t.Helper()
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	relative, err := filepath.Rel(dir, here)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(strings.ReplaceAll(kustomization, "DEPLOY", relative)), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// template finds the pods that a workload makes.
func template(t *testing.T, objects []runtime.Object) corev1.PodTemplateSpec {
	t.Helper()
	for _, object := range objects {
		switch o := object.(type) {
		case *batchv1.Job:
			return o.Spec.Template
		case *appsv1.Deployment:
			return o.Spec.Template
		case *appsv1.StatefulSet:
			return o.Spec.Template
		case *appsv1.DaemonSet:
			return o.Spec.Template
		}
	}
	t.Fatal("there is no workload")
	return corev1.PodTemplateSpec{}
}

// selects returns the labels of the pods that an object is about.
func selects(object runtime.Object) map[string]string {
	switch o := object.(type) {
	case *networkingv1.NetworkPolicy:
		return o.Spec.PodSelector.MatchLabels
	case *policyv1.PodDisruptionBudget:
		return o.Spec.Selector.MatchLabels
	case *corev1.Service:
		return o.Spec.Selector
	}
	return nil
}

var workloads = []string{"job", "deployment", "statefulset"}

// forbidden says what a profile of Pod Security forbids about pods.
func forbidden(t *testing.T, level psa.Level, pod corev1.PodTemplateSpec) map[string]string {
	t.Helper()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	details := map[string]string{}
	for _, result := range evaluator.EvaluatePod(psa.LevelVersion{Level: level, Version: psa.LatestVersion()}, &pod.ObjectMeta, &pod.Spec) {
		if !result.Allowed {
			details[result.ForbiddenReason] = result.ForbiddenDetail
		}
	}
	return details
}

// The restricted profile of Pod Security is what a careful cluster enforces.
func TestWorkloadsAreRestricted(t *testing.T) {
	for _, name := range workloads {
		if details := forbidden(t, psa.LevelRestricted, template(t, build(t, filesys.MakeFsOnDisk(), name))); len(details) > 0 {
			t.Errorf("%s: %v", name, details)
		}
	}
}

func TestWorkloads(t *testing.T) {
	for _, name := range workloads {
		t.Run(name, func(t *testing.T) {
			objects := build(t, filesys.MakeFsOnDisk(), name)
			pod := template(t, objects)
			runner := pod.Spec.Containers[0]
			if parks := slices.Contains(runner.Args, "--on-terminate=park"); parks != (name != "job") {
				t.Errorf("arguments are %q: only what is always started again must park", runner.Args)
			}
			// What restarts a runner depends on nothing but itself (R8), and a start is no Warning.
			if p := runner.StartupProbe; p == nil || p.HTTPGet.Path != "/livez" || p.InitialDelaySeconds < 1 {
				t.Errorf("the startup probe is %v", p)
			}
			// Whoever selects the runners must find them.
			selected := 0
			for _, object := range objects {
				labels := selects(object)
				if labels == nil {
					continue
				}
				selected++
				for key, value := range labels {
					if key != "studioml.io/busy" && pod.Labels[key] != value { // that one a runner gives itself
						t.Errorf("%T selects %s=%s, which the pods do not have", object, key, value)
					}
				}
			}
			if selected < 2 {
				t.Errorf("%d objects select the runners, want a network policy and a disruption budget", selected)
			}
			// All times of an exit together fit what the kubelet grants.
			granted := time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second
			if budget := exitBudget(t, runner); budget > granted {
				t.Errorf("an exit takes up to %s, the kubelet grants %s", budget, granted)
			}
			// Every object is in the namespace that a user's kustomization names,
			// also the account that the binding is for.
			objects = overlay(t, "namespace: lab\nresources: [DEPLOY/"+name+"]\ncomponents: [DEPLOY/gpu, DEPLOY/gpu/runtime-class]\n"+
				"images: [{name: studio-go-runner, newName: example/runner, newTag: v1}]\n")
			for _, object := range objects {
				if m := object.(metav1.Object); m.GetNamespace() != "lab" {
					t.Errorf("%T %s is in namespace %q", object, m.GetName(), m.GetNamespace())
				}
				if b, ok := object.(*rbacv1.RoleBinding); ok && b.Subjects[0].Namespace != "lab" {
					t.Errorf("the binding is for an account in namespace %q", b.Subjects[0].Namespace)
				}
			}
			pod = template(t, objects)
			if !tolerates(pod.Spec, "nvidia.com/gpu") {
				t.Errorf("with the component gpu %s does not tolerate the taint of nodes for GPUs: %v", name, pod.Spec.Tolerations)
			}
			if class := pod.Spec.RuntimeClassName; class == nil || *class != "nvidia" {
				t.Errorf("with the component gpu/runtime-class the runtime class is %v", class)
			}
			runner = pod.Spec.Containers[0]
			if gpus := runner.Resources.Limits["nvidia.com/gpu"]; gpus.Value() != 1 || runner.Image != "example/runner:v1" {
				t.Errorf("with the component gpu: %s GPUs, image %s", gpus.String(), runner.Image)
			}
		})
	}
}

// Those exit codes are started again in place by which a runner ends with work left, or
// by a signal, which the Job would have to ignore otherwise.
//
// catalogue: row 85
func TestRestartInPlace(t *testing.T) {
	objects := overlay(t, "resources: [DEPLOY/job]\ncomponents: [DEPLOY/job/restart]\n")
	runner := template(t, objects).Spec.Containers[0]
	if len(runner.RestartPolicyRules) != 1 || runner.RestartPolicy == nil || *runner.RestartPolicy != corev1.ContainerRestartPolicyNever {
		t.Fatalf("the runner's restart policy is %v, with %v", runner.RestartPolicy, runner.RestartPolicyRules)
	}
	if codes := runner.RestartPolicyRules[0].ExitCodes.Values; !slices.Equal(codes, []int32{10, 11, 143}) {
		t.Errorf("%v start it again", codes)
	}
}

// exitBudget is the longest time that an exit of the runner takes.
func exitBudget(t *testing.T, runner corev1.Container) time.Duration {
	t.Helper()
	value := func(name string, unset time.Duration) time.Duration {
		for _, e := range runner.Env {
			if e.Name == name {
				d, err := time.ParseDuration(e.Value)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				return d
			}
		}
		return unset
	}
	return lifecycle.ExitBudget(value("STUDIOML_GRACE_PERIOD", lifecycle.DefaultGrace), value("STUDIOML_KILL_DELAY", lifecycle.DefaultKillDelay))
}

// A pod that says nothing has 30 s.
//
// catalogue: row 74
func TestTheDefaultExitFitsThePodsDefault(t *testing.T) {
	if budget := exitBudget(t, corev1.Container{}); budget > corev1.DefaultTerminationGracePeriodSeconds*time.Second {
		t.Errorf("an exit takes up to %s", budget)
	}
}

// tolerates says whether a pod may be on nodes with a taint that keeps others away.
func tolerates(pod corev1.PodSpec, key string) bool {
	taint := &corev1.Taint{Key: key, Value: "present", Effect: corev1.TaintEffectNoSchedule}
	return slices.ContainsFunc(pod.Tolerations, func(t corev1.Toleration) bool { return t.ToleratesTaint(logr.Discard(), taint, false) })
}
