package deploy_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	psa "k8s.io/pod-security-admission/api"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/studioml/studio-go-runner/runner/deploy"
)

// find returns the objects of one type.
func find[T runtime.Object](objects []runtime.Object) (found []T) {
	for _, object := range objects {
		if o, ok := object.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

func TestTestsRunOnceInAPodWithAGPU(t *testing.T) {
	objects := overlay(t, "namespace: lab\nresources: [DEPLOY/tests]\nimages: [{name: studio-go-runner-tests, newName: example/tests, newTag: v1}]\n")
	pod := template(t, objects)
	if details := forbidden(t, psa.LevelRestricted, pod); len(details) > 0 {
		t.Errorf("the restricted profile forbids %v", details)
	}
	tests := pod.Spec.Containers[0]
	if gpus := tests.Resources.Limits["nvidia.com/gpu"]; gpus.Value() != 1 || tests.Image != "example/tests:v1" {
		t.Errorf("%s GPUs, image %s", gpus.String(), tests.Image)
	}
	if !tolerates(pod.Spec, "nvidia.com/gpu") {
		t.Errorf("it does not tolerate the taint of nodes for GPUs: %v", pod.Spec.Tolerations)
	}
	if pod.Spec.RestartPolicy != corev1.RestartPolicyNever {
		t.Errorf("it is restarted %s, want Never", pod.Spec.RestartPolicy)
	}
	account, binding := find[*corev1.ServiceAccount](objects), find[*rbacv1.ClusterRoleBinding](objects)
	if len(account) != 1 || len(binding) != 1 || binding[0].Subjects[0].Namespace != "lab" ||
		binding[0].Subjects[0].Name != account[0].Name || pod.Spec.ServiceAccountName != account[0].Name {
		t.Errorf("the account %v, its binding %v and the pod's account %q do not belong together", account, binding, pod.Spec.ServiceAccountName)
	}
}

// allows says whether a role has a right.
func allows(role *rbacv1.ClusterRole, group, resource, verb string) bool {
	return slices.ContainsFunc(role.Rules, func(r rbacv1.PolicyRule) bool {
		return slices.Contains(r.APIGroups, group) && slices.Contains(r.Resources, resource) && slices.Contains(r.Verbs, verb)
	})
}

// The API server refuses a Role from someone who lacks what it gives.
func TestTestsMayDoWhatTheyGiveToRunners(t *testing.T) {
	role := find[*rbacv1.ClusterRole](build(t, filesys.MakeFsOnDisk(), "tests"))[0]
	given := find[*rbacv1.Role](build(t, filesys.MakeFsOnDisk(), "base"))[0]
	for _, rule := range given.Rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					if !allows(role, group, resource, verb) {
						t.Errorf("the tests may not %s %s of %q, which runners may", verb, resource, group)
					}
				}
			}
		}
	}
}

func TestTestsMayApplyTheWorkloads(t *testing.T) {
	role := find[*rbacv1.ClusterRole](build(t, filesys.MakeFsOnDisk(), "tests"))[0]
	for _, workload := range append(workloads, "postgres") {
		for _, object := range build(t, filesys.MakeFsOnDisk(), workload) {
			kinds, _, err := scheme.Scheme.ObjectKinds(object)
			if err != nil {
				t.Fatal(err)
			}
			resource, _ := meta.UnsafeGuessKindToResource(kinds[0])
			for _, verb := range []string{"get", "create", "patch"} { // which is what kubectl apply does
				if !allows(role, resource.Group, resource.Resource, verb) {
					t.Errorf("%s: the tests may not %s %s of %q", workload, verb, resource.Resource, resource.Group)
				}
			}
		}
	}
}

// The script is run with programs that stand in for kubectl, and for ginkgo,
// which shows how it is called.
func TestRunTests(t *testing.T) {
	script, err := os.ReadFile("tests/run-tests")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "run-tests")
	for name, text := range map[string]string{
		"run-tests": strings.ReplaceAll(string(script), "/studio-go-runner/e2e", dir),
		"kubectl":   `#!/bin/sh` + "\n" + `test "$1 $2 $3" = "get pod tests-pod" && echo example/tests:v1` + "\n",
		"ginkgo":    `#!/bin/sh` + "\n" + `echo "$E2E_IMAGE in $(pwd):"; for arg; do echo "$arg"; done` + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	command := func(env ...string) *exec.Cmd {
		c := exec.Command(file, "--focus=two flips")
		c.Env = append([]string{"PATH=" + dir + ":/usr/bin:/bin", "E2E_ARTIFACTS=" + filepath.Join(dir, "artifacts")}, env...)
		return c
	}
	run := func(env ...string) ([]string, error) {
		out, err := command(env...).CombinedOutput()
		return strings.Split(strings.TrimSpace(string(out)), "\n"), err
	}
	for _, test := range []struct{ name, variable, image string }{
		{"in a pod", "HOSTNAME=tests-pod", "example/tests:v1"},
		{"with an image of its own", "E2E_IMAGE=mine:v2", "mine:v2"},
	} {
		lines, err := run(test.variable)
		if err != nil {
			t.Fatalf("%s: %v: %q", test.name, err, lines)
		}
		if want := test.image + " in " + dir + ":"; lines[0] != want {
			t.Errorf("%s: %q, want %q", test.name, lines[0], want)
		}
		if diff := cmp.Diff([]string{"--focus=two flips", "./e2e.test"}, lines[len(lines)-2:]); diff != "" {
			t.Errorf("%s: the last arguments (-want +got):\n%s", test.name, diff)
		}
		for _, arg := range []string{"--json-report=report.json", "--output-dir=" + filepath.Join(dir, "artifacts"), "--procs=4"} {
			if !slices.Contains(lines, arg) {
				t.Errorf("%s: %q lacks %s", test.name, lines, arg)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "artifacts")); err != nil {
		t.Error(err)
	}
	if lines, err := run("HOSTNAME=other"); err == nil || !strings.Contains(strings.Join(lines, "\n"), "E2E_IMAGE") {
		t.Errorf("without a known image: %v: %q, want advice", err, lines)
	}

	// The kubelet tells only the first process that the pod is deleted.
	waiting := "#!/bin/sh\ntrap 'echo cleaned up; exit 3' TERM\necho begun\nwhile :; do sleep 1; done\n"
	if err := os.WriteFile(filepath.Join(dir, "ginkgo"), []byte(waiting), 0o755); err != nil {
		t.Fatal(err)
	}
	c := command("E2E_IMAGE=mine:v2")
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }()
	said := bufio.NewReader(out)
	if line, err := said.ReadString('\n'); line != "begun\n" {
		t.Fatalf("it says %q, %v", line, err)
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(said)
	if err != nil || string(rest) != "cleaned up\n" {
		t.Errorf("after TERM it says %q, %v", rest, err)
	}
	if _ = c.Wait(); c.ProcessState.ExitCode() != 3 {
		t.Errorf("after TERM: %s, want ginkgo's exit code", c.ProcessState)
	}
}

// This is the file that the reference document prints, byte by byte.
func TestGlobalConfigIsTheDocuments(t *testing.T) {
	const want = `---
apiVersion: v1
kind: ConfigMap
metadata:
  name: studioml-go-runner
data:
  STATE: Running
`
	got, err := deploy.Files.ReadFile("example/global_config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("example/global_config.yaml (-want +got):\n%s", diff)
	}
}

// kubectl create clusterrolebinding default-cluster-admin --clusterrole=cluster-admin
// --serviceaccount=default:default makes this.
func TestClusterAdminIsTheDocuments(t *testing.T) {
	text, err := deploy.Files.ReadFile("example/cluster_admin.yaml")
	if err != nil {
		t.Fatal(err)
	}
	object, _, err := scheme.Codecs.UniversalDeserializer().Decode(text, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, ok := object.(*rbacv1.ClusterRoleBinding)
	if !ok {
		t.Fatalf("it is a %T", object)
	}
	subjects := []rbacv1.Subject{{Kind: "ServiceAccount", Name: "default", Namespace: "default"}}
	role := rbacv1.RoleRef{APIGroup: "rbac.authorization.k8s.io", Kind: "ClusterRole", Name: "cluster-admin"}
	if got.Name != "default-cluster-admin" || got.RoleRef != role || !slices.Equal(got.Subjects, subjects) {
		t.Errorf("it is %+v", got)
	}
}
