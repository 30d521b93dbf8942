package kind_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/studioml/studio-go-runner/e2e/kind"
)

// bin is what make builds, and runnerImage the name in its e2e-image.tar, which has
// a shell and socat.
const (
	bin         = "../../bin"
	runnerImage = "studio-go-runner:e2e"
)

// A real cluster: what the scenarios need of one.
func TestRealCluster(t *testing.T) {
	if os.Getenv("E2E_KIND") == "" {
		t.Skip("makes a kind cluster; run it with: make bin/airgap bin/kind bin/e2e-image.tar && bin/airgap kind -- env E2E_KIND=1 go test -v -timeout=30m ./e2e/kind")
	}
	ctx := t.Context()
	cluster, err := kind.Create(ctx, kind.Config{
		Kind: filepath.Join(bin, "kind"), Image: os.Getenv("KIND_NODE_IMAGE"),
		ConfigFile: filepath.Join(bin, "..", "kind-config.yaml"), Logs: filepath.Join(t.TempDir(), "logs"), Progress: os.Stderr,
	})
	must(t, err)
	t.Cleanup(func() { must(t, cluster.Close(context.Background())) })
	workers := cluster.Workers()
	timed(t, "load an image", func() error { return cluster.LoadArchive(ctx, filepath.Join(bin, "e2e-image.tar"), workers...) })
	timed(t, "wait until CoreDNS answers", func() error { return cluster.AwaitDNS(ctx) })
	c := client{t, clientFor(t, cluster.Kubeconfig), runnerImage}
	c.serve(workers[0])
	c.reach("first", workers[1])

	timed(t, "stop and start a node", func() error {
		if err := cluster.StopNode(ctx, workers[1]); err != nil {
			return err
		}
		return cluster.StartNode(ctx, c, workers[1])
	})
	c.reach("again", workers[1])

	timed(t, "stop and start the control plane", func() error {
		if err := cluster.StopNode(ctx, cluster.ControlPlane()); err != nil {
			return err
		}
		return cluster.StartNode(ctx, c, cluster.ControlPlane())
	})
	c.reach("once-more", workers[1])

	err = cluster.Run(ctx, workers[0], "sh", "-c", "echo the reason >&2; exit 3")
	if err == nil || !strings.Contains(err.Error(), "the reason") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error of a program is %v", err)
	}
	logs := t.TempDir()
	timed(t, "collect logs", func() error { return cluster.CollectLogs(ctx, logs) })
	if _, err := os.Stat(filepath.Join(logs, workers[0], "kubelet.log")); err != nil {
		t.Error(err)
	}
	other := &kind.Cluster{Handle: cluster.Handle}
	must(t, other.Close(ctx))
	if err := other.Run(ctx, workers[0], "true"); err != nil {
		t.Errorf("closing a connection deleted the cluster: %v", err)
	}
}

// Kind's own words are in the error, and nothing is left.
func TestRealFailure(t *testing.T) {
	if os.Getenv("E2E_KIND") == "" {
		t.Skip("needs Docker, see TestRealCluster")
	}
	docker := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "docker", args...).CombinedOutput()
		if err != nil {
			t.Errorf("docker %q: %v: %s", args, err, out)
		}
		return string(out)
	}
	create := func(ctx context.Context, image string) error {
		var progress strings.Builder
		_, err := kind.Create(ctx, kind.Config{
			Kind: filepath.Join(bin, "kind"), Image: image,
			ConfigFile: filepath.Join(bin, "..", "kind-config.yaml"), Progress: &progress,
		})
		fmt.Fprintln(os.Stderr, progress.String(), err)
		name := regexp.MustCompile(`studio-go-runner-[a-z0-9]{6}`).FindString(progress.String())
		if left := docker("ps", "--all", "--quiet", "--filter", "name="+name); left != "" || name == "" {
			t.Errorf("cluster %q: left %q", name, left)
		}
		return err
	}
	// An image without what a node needs.
	docker("load", "--input", filepath.Join(bin, "e2e-image.tar"))
	if err := create(t.Context(), runnerImage); err == nil || !strings.Contains(err.Error(), "Preparing nodes") {
		t.Errorf("error is %v", err)
	}
	// Interrupted while kind works.
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	if err := create(ctx, os.Getenv("KIND_NODE_IMAGE")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
}

func TestCreateSaysWhatIsMissing(t *testing.T) {
	_, err := kind.Create(t.Context(), kind.Config{Kind: filepath.Join(t.TempDir(), "kind"), Progress: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "make bin/kind") {
		t.Errorf("error is %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func timed(t *testing.T, what string, do func() error) {
	t.Helper()
	began := time.Now()
	if err := do(); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	fmt.Fprintf(os.Stderr, "%s: %s\n", what, time.Since(began).Round(100*time.Millisecond))
}

func clientFor(t *testing.T, kubeconfig string) kubernetes.Interface {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	must(t, err)
	set, err := kubernetes.NewForConfig(config)
	must(t, err)
	return set
}

// client runs pods of one image.
type client struct {
	t *testing.T
	kubernetes.Interface
	image string
}

// pod starts a shell script on a node.
func (c client) pod(name, node, script string) {
	c.t.Helper()
	_, err := c.CoreV1().Pods("default").Create(c.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			NodeName: node, RestartPolicy: corev1.RestartPolicyNever, TerminationGracePeriodSeconds: new(int64(0)),
			Containers: []corev1.Container{{
				Name: "main", Image: c.image, Command: []string{"sh", "-euc", script},
			}},
		},
	}, metav1.CreateOptions{})
	must(c.t, err)
}

// run runs a shell script to its end and returns its output.
func (c client) run(name, node, script string) string {
	c.t.Helper()
	c.pod(name, node, script)
	phase := c.wait(name, func(p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	}).Status.Phase
	log, err := c.CoreV1().Pods("default").GetLogs(name, &corev1.PodLogOptions{}).DoRaw(c.t.Context())
	must(c.t, err)
	if phase != corev1.PodSucceeded {
		c.t.Fatalf("pod %s: %s\n%s", name, phase, log)
	}
	return string(log)
}

// wait waits for a pod.
func (c client) wait(name string, until func(*corev1.Pod) bool) *corev1.Pod {
	c.t.Helper()
	var pod *corev1.Pod
	err := wait.PollUntilContextTimeout(c.t.Context(), 200*time.Millisecond, 2*time.Minute, true, func(ctx context.Context) (bool, error) {
		var err error
		pod, err = c.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
		return err == nil && until(pod), nil
	})
	if err != nil {
		c.t.Fatalf("pod %s: %v: %+v", name, err, pod.Status)
	}
	return pod
}

// serve starts a server on a node, and a service in front of it.
func (c client) serve(node string) {
	c.t.Helper()
	c.pod("server", node, `exec socat TCP-LISTEN:8080,fork,reuseaddr SYSTEM:"echo hello"`)
	_, err := c.CoreV1().Services("default").Create(c.t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "server"},
		Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "server"}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}},
	}, metav1.CreateOptions{})
	must(c.t, err)
	c.wait("server", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning })
}

// reach reaches the server from a node: the pod, the service, the service's
// name. Rules for a new service take a moment.
func (c client) reach(name, node string) {
	c.t.Helper()
	ctx := c.t.Context()
	pod, err := c.CoreV1().Pods("default").Get(ctx, "server", metav1.GetOptions{})
	must(c.t, err)
	service, err := c.CoreV1().Services("default").Get(ctx, "server", metav1.GetOptions{})
	must(c.t, err)
	script := fmt.Sprintf(`ask() { for try in 1 2 3 4 5 6 7 8 9 10; do socat -T5 - TCP:$1,connect-timeout=2 </dev/null && return; sleep 0.5; done; exit 1; }
ask %s:8080
ask %s:80
for try in 1 2 3; do getent hosts server.default.svc.cluster.local && break; done
ask server.default.svc.cluster.local:80`, pod.Status.PodIP, service.Spec.ClusterIP)
	began := time.Now()
	got := strings.Fields(c.run(name, node, script))
	fmt.Fprintf(os.Stderr, "%s: %q in %s\n", name, got, time.Since(began).Round(100*time.Millisecond))
	want := []string{"hello", "hello", service.Spec.ClusterIP, "server.default.svc.cluster.local", "hello"}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		c.t.Errorf("%s: got %q, want %q", name, got, want)
	}
}
