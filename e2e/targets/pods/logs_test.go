package pods

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// knownPod is an env whose watch knows one pod.
func knownPod(t *testing.T, handler http.HandlerFunc) (*env, *corev1.Pod) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	w := &watch{namespace: "here", pods: cache.NewStore(cache.MetaNamespaceKeyFunc), changed: make(chan struct{})}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "here", UID: "1"}}
	return &env{cluster: cluster{config, client}, namespace: "here", watch: w}, pod
}

// state tells the watch how the runner's container is.
func (e *env) state(t *testing.T, pod *corev1.Pod, state corev1.ContainerState) {
	t.Helper()
	pod = pod.DeepCopy()
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: runnerContainer, State: state}}
	if err := e.watch.pods.Update(pod); err != nil {
		t.Error(err)
	}
	e.watch.wake()
}

var (
	nowRunning = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	nowOver    = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
)

// The connection breaks in the middle of a line, then the container ends.
func TestLogsAreCompleteAfterABrokenConnection(t *testing.T) {
	requests := 0
	var e *env
	var pod *corev1.Pod
	e, pod = knownPod(t, func(w http.ResponseWriter, _ *http.Request) {
		requests++
		switch requests {
		case 1:
			fmt.Fprint(w, "one\ntwo\nthr")
		case 2:
			http.Error(w, "the kubelet is away", http.StatusBadGateway)
		case 3:
			fmt.Fprint(w, "one\ntwo\nthree\n")
			e.state(t, pod, nowOver)
		default:
			fmt.Fprint(w, "one\ntwo\nthree\nfour\n")
		}
	})
	e.state(t, pod, nowRunning)
	var lines []string
	if err := e.logs(t.Context(), pod, runnerContainer, func(line string) { lines = append(lines, line) }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"one", "two", "three", "four"}; !slices.Equal(lines, want) {
		t.Errorf("lines are %q, want %q", lines, want)
	}
}

// A pod that was deleted by force has no logs any more, and its successor's are
// not its own.
func TestLogsOfAPodThatIsGone(t *testing.T) {
	requests := 0
	var e *env
	var pod *corev1.Pod
	e, pod = knownPod(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "one\n")
		if requests++; requests > 1 {
			fmt.Fprint(w, "its successor's\n")
		}
		successor := pod.DeepCopy()
		successor.UID = "2"
		e.state(t, successor, nowRunning)
	})
	e.state(t, pod, nowRunning)
	var lines []string
	if err := e.logs(t.Context(), pod, runnerContainer, func(line string) { lines = append(lines, line) }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"one"}; !slices.Equal(lines, want) {
		t.Errorf("lines are %q, want %q", lines, want)
	}
}

// The end of a runner's container ends also the program that has sent the signal.
func TestASignalThatEndsTheRunnerWasSent(t *testing.T) {
	for _, test := range []struct {
		name        string
		before, now corev1.ContainerState
		fails       bool
	}{
		{"it ends", nowRunning, nowOver, false},
		{"it lives", nowRunning, nowRunning, true},
		{"it had ended", nowOver, nowOver, true},
	} {
		var e *env
		var pod *corev1.Pod
		e, pod = knownPod(t, func(w http.ResponseWriter, _ *http.Request) {
			e.state(t, pod, test.now)
			http.Error(w, "the program was killed", http.StatusInternalServerError)
		})
		e.state(t, pod, test.before)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		err := (&runner{env: e, pod: pod}).Signal(ctx, syscall.SIGTERM)
		cancel()
		if (err != nil) != test.fails {
			t.Errorf("%s: error is %v", test.name, err)
		}
	}
}
