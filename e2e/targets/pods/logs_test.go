package pods

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	authzv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
	clienttesting "k8s.io/client-go/testing"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/runner/api"
)

// knownPod is a pod that is known to its env.
func knownPod(t *testing.T, handler http.HandlerFunc) *runner {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	admin := fake.NewClientset()
	admin.PrependReactor("create", "subjectaccessreviews", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, &authzv1.SubjectAccessReview{Status: authzv1.SubjectAccessReviewStatus{Allowed: true}}, nil
	})
	e := newEnv(&Target{Access: kube.Access{Admin: admin}}, targets.Isolation{Permissions: scenario.PermissionsNone})
	if err := e.Make(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	e.Access = kube.Access{Config: config, Admin: client}
	return &runner{e, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: e.Namespace(), UID: "1"}}}
}

// now tells the env how both containers of the pod are.
func (r *runner) now(t *testing.T, state corev1.ContainerState) {
	t.Helper()
	pod := r.pod.DeepCopy()
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: runnerContainer, State: state}, {Name: beside, State: state}}
	if err := r.env.pods.Update(pod); err != nil {
		t.Error(err)
	}
}

// replaced tells the env that there is another pod of its name.
func (r *runner) replaced(t *testing.T) {
	t.Helper()
	successor := runner{r.env, r.pod.DeepCopy()}
	successor.pod.UID = "2"
	successor.now(t, nowRunning)
}

var (
	nowRunning = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	nowOver    = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
)

// The connection breaks in the middle of a line, then the container ends.
func TestLogsAreCompleteAfterABrokenConnection(t *testing.T) {
	requests := 0
	var r *runner
	r = knownPod(t, func(w http.ResponseWriter, _ *http.Request) {
		requests++
		switch requests {
		case 1:
			fmt.Fprint(w, "one\ntwo\nthr")
		case 2:
			http.Error(w, "the kubelet is away", http.StatusBadGateway)
		case 3: // a kubelet that was started again, with its node
			http.NotFound(w, nil)
		case 4:
			fmt.Fprint(w, "one\ntwo\nthree\n")
			r.now(t, nowOver)
		default:
			fmt.Fprint(w, "one\ntwo\nthree\nfour\n")
		}
	})
	r.now(t, nowRunning)
	var lines []string
	if err := r.logs(t.Context(), runnerContainer, func(line string) { lines = append(lines, line) }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"one", "two", "three", "four"}; !slices.Equal(lines, want) {
		t.Errorf("lines are %q, want %q", lines, want)
	}
}

// A container that was started again has a log of its own, of which nothing is left
// out, even if it is read before anybody says so.
func TestLogsOfAContainerThatWasStartedAgain(t *testing.T) {
	requests := 0
	var r *runner
	r = knownPod(t, func(w http.ResponseWriter, _ *http.Request) {
		if requests++; requests == 1 {
			fmt.Fprint(w, "beside 1\none\n")
			return
		}
		fmt.Fprint(w, "beside 2\ntwo\n")
		r.now(t, nowOver)
	})
	r.now(t, nowRunning)
	var lines []string
	if err := r.logs(t.Context(), runnerContainer, func(line string) { lines = append(lines, line) }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"beside 1", "one", "beside 2", "two"}; !slices.Equal(lines, want) {
		t.Errorf("lines are %q, want %q", lines, want)
	}
}

// A pod that was deleted by force has no logs any more, and its successor's are
// not its own.
func TestLogsOfAPodThatIsGone(t *testing.T) {
	requests := 0
	var r *runner
	r = knownPod(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "one\n")
		if requests++; requests > 1 {
			fmt.Fprint(w, "its successor's\n")
		}
		r.replaced(t)
	})
	r.now(t, nowRunning)
	var lines []string
	if err := r.logs(t.Context(), runnerContainer, func(line string) { lines = append(lines, line) }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"one"}; !slices.Equal(lines, want) {
		t.Errorf("lines are %q, want %q", lines, want)
	}
}

// The kubelet may know a pod's successor, which waits to start, before the watch does.
func TestLogsOfAPodWhoseSuccessorWaits(t *testing.T) {
	requests := 0
	var r *runner
	r = knownPod(t, func(w http.ResponseWriter, _ *http.Request) {
		if requests++; requests == 1 {
			fmt.Fprint(w, "one\n")
			return
		}
		r.replaced(t)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"kind": "Status", "status": "Failure", "reason": "BadRequest", "message": "is waiting to start: PodInitializing", "code": 400}`)
	})
	r.now(t, nowRunning)
	var lines []string
	if err := r.logs(t.Context(), beside, func(line string) { lines = append(lines, line) }); err != nil {
		t.Error(err)
	}
	if want := []string{"one"}; !slices.Equal(lines, want) {
		t.Errorf("lines are %q, want %q", lines, want)
	}
}

// A pod that was evicted before its container started has no log, of which the kubelet
// says that it waits for it, for as long as there is the pod.
func TestLogsOfAPodThatEndedEarly(t *testing.T) {
	var r *runner
	r = knownPod(t, func(w http.ResponseWriter, _ *http.Request) {
		r.replaced(t)
		http.Error(w, "is waiting to start: PodInitializing", http.StatusBadRequest)
	})
	r.pod.Status.Phase = corev1.PodFailed
	r.now(t, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "PodInitializing"}})
	if err := r.logs(t.Context(), beside, func(line string) { t.Errorf("it has the line %q", line) }); err != nil {
		t.Error(err)
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
		var r *runner
		r = knownPod(t, func(w http.ResponseWriter, _ *http.Request) {
			r.now(t, test.now)
			http.Error(w, "the program was killed", http.StatusInternalServerError)
		})
		r.now(t, test.before)
		ctx, cancel := context.WithCancel(t.Context())
		if test.fails { // only that it waited no longer can be told
			ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
		}
		err := r.Signal(ctx, syscall.SIGTERM)
		cancel()
		if (err != nil) != test.fails {
			t.Errorf("%s: error is %v", test.name, err)
		}
	}
}

// heard is what a runner told, in one order.
type heard struct {
	mu    sync.Mutex
	words []string
}

func (h *heard) add(word string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.words = append(h.words, word)
}
func (h *heard) Status(s api.Status) { h.add(fmt.Sprint("status ", s.Sequence)) }
func (h *heard) Log(line string)     { h.add("log " + line) }
func (h *heard) Trouble(err error)   { h.add("trouble " + err.Error()) }
func (h *heard) Exit(e targets.Exit) { h.add(fmt.Sprint("exit ", e.Code)) }

// The exit is the last word, once, also of a runner that was killed; what cannot
// be read is said.
func TestARunnerTellsItsExitLast(t *testing.T) {
	r := knownPod(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Query().Get("container") == beside {
			fmt.Fprint(w, "{\"runner\":{\"sequence\":1}}\n{nonsense\n{\"runner\":{\"sequence\":2}}\n")
			return
		}
		fmt.Fprint(w, "one\ntwo\n")
	})
	over := nowOver
	over.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137}
	r.now(t, over)
	told := &heard{}
	r.follow(t.Context(), parts{Port: "8080"}, told)
	if n := len(told.words); n != 6 || told.words[n-1] != "exit -1" {
		t.Errorf("it told %q", told.words)
	}
	slices.Sort(told.words)
	if !strings.HasPrefix(told.words[5], `trouble status of runner a is "{nonsense"`) {
		t.Errorf("it told %q", told.words)
	}

	// Of an Env that is closed nothing comes any more, least of all an exit.
	r.now(t, nowRunning)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	told = &heard{}
	r.follow(ctx, parts{Port: "8080"}, told)
	if slices.ContainsFunc(told.words, func(word string) bool { return strings.HasPrefix(word, "exit") }) {
		t.Errorf("it told %q", told.words)
	}
}

// Where nothing is beside a runner its statuses come through the API server: each once, and
// the rest of a stream that broke. One that is none is said.
func TestStatusesThroughTheAPIServer(t *testing.T) {
	for _, test := range []struct {
		last string // of the second stream
		want []string
	}{
		{"{\"sequence\":1}\n{\"sequence\":2}\n{\"sequence\":3}\n", []string{"status 1", "status 2", "status 3"}},
		{"{nonsense\n", []string{"status 1", `trouble runner a: its status is "{nonsense`}},
	} {
		asked := 0
		var r *runner
		r = knownPod(t, func(w http.ResponseWriter, q *http.Request) {
			switch {
			case !strings.HasSuffix(q.URL.Path, "/pods/a:8080/proxy/statusz"):
				return // its log
			case q.URL.Query().Get("watch") != "true":
				t.Errorf("it asks for %s", q.URL)
			}
			switch asked++; asked {
			case 1:
				http.Error(w, "it does not listen yet", http.StatusServiceUnavailable)
			case 2:
				fmt.Fprint(w, "{\"sequence\":1}\n{\"sequence\":2}") // not the whole line
			case 3:
				fmt.Fprint(w, test.last)
				r.now(t, nowOver)
			}
		})
		r.now(t, nowRunning)
		told := &heard{}
		r.follow(t.Context(), parts{Port: "8080", Idle: true}, told)
		words := strings.Join(told.words, "\n")
		if !strings.HasPrefix(words, strings.Join(test.want, "\n")) || told.words[len(told.words)-1] != "exit 0" {
			t.Errorf("it told\n%s\nwant %q, and its exit", words, test.want)
		}
	}
}

// 503 may be the runner's answer, or that of an API server which cannot reach it.
func TestGet(t *testing.T) {
	r := knownPod(t, func(w http.ResponseWriter, q *http.Request) {
		switch path.Base(q.URL.Path) {
		case "livez":
			fmt.Fprint(w, "ok")
		case "readyz":
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		case "statusz":
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","message":"error trying to reach service","reason":"ServiceUnavailable","code":503}`)
		}
	})
	if _, _, err := r.Get(t.Context(), "/livez"); err == nil {
		t.Error("a pod that is not there has answered")
	}
	r.now(t, nowRunning)
	for _, test := range []struct {
		path string
		code int
		body string
		err  string
	}{
		{"/livez", 200, "ok", ""},
		{"/readyz", 503, "not ready", ""},
		{"/statusz", 0, "", "error trying to reach service"},
	} {
		code, body, err := r.Get(t.Context(), test.path)
		if code != test.code || string(body) != test.body || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("get %s: %d, %q, %v", test.path, code, body, err)
		}
	}
}
