package e2e_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/targets/pods"
)

// janitorVariable makes this program a janitor. It holds the target's
// configuration.
const janitorVariable = "E2E_JANITOR"

// janitorProcess removes what the run has made when the suite ends without a
// word, as after a SIGKILL.
type janitorProcess struct {
	cmd   *exec.Cmd
	words io.WriteCloser
}

func startJanitor(c pods.Config) (*janitorProcess, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), janitorVariable+"="+string(data))
	cmd.Stdout, cmd.Stderr = nil, nil                     // those of the suite would be kept open
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the suite
	words, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start janitor: %w", err)
	}
	return &janitorProcess{cmd, words}, nil
}

// dismiss says that nothing is left to be done.
func (j *janitorProcess) dismiss() error {
	if _, err := io.WriteString(j.words, dismissed); err != nil {
		return fmt.Errorf("dismiss janitor: %w", err)
	}
	if err := cmp.Or(j.words.Close(), j.cmd.Wait()); err != nil {
		return fmt.Errorf("dismiss janitor: %w", err)
	}
	return nil
}

const dismissed = "done"

// janitor is the program of startJanitor; it returns only in other processes.
func janitor() {
	text := os.Getenv(janitorVariable)
	if text == "" {
		return
	}
	if words, _ := io.ReadAll(os.Stdin); string(words) == dismissed {
		os.Exit(0)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var c pods.Config
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		var t *pods.Target
		if t, err = pods.Connect(c); err == nil {
			_, err = c.Run.Sweep(ctx, t.Admin)
		}
	}
	if err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// A suite that is killed leaves nothing in somebody's cluster; one that has
// cleaned up is not cleaned up after.
func TestJanitor(t *testing.T) {
	var mu sync.Mutex
	var deleted []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.Method == http.MethodDelete:
			mu.Lock()
			deleted = append(deleted, r.URL.Path)
			mu.Unlock()
			fmt.Fprint(w, `{"kind": "Status", "apiVersion": "v1", "status": "Success"}`)
		case r.URL.Path == "/api/v1/namespaces":
			labels := fmt.Sprintf(`{"studioml.io/e2e-run": "this-run", "studioml.io/e2e-expires": "%d"}`, time.Now().Add(time.Hour).Unix())
			fmt.Fprintf(w, `{"kind": "NamespaceList", "apiVersion": "v1", "items": [{"metadata": {"name": "left", "labels": %s}}]}`, labels)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a}}], clusters: [{name: a, cluster: {server: %q}}]}`, server.URL)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	gone := func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(deleted)
	}
	start := func() *janitorProcess {
		t.Helper()
		j, err := startJanitor(pods.Config{Name: "existing", Kubeconfig: kubeconfig, Run: kube.Run{Name: "this-run"}})
		if err != nil {
			t.Fatal(err)
		}
		return j
	}

	if err := start().dismiss(); err != nil {
		t.Error(err)
	}
	if all := gone(); len(all) > 0 {
		t.Errorf("a janitor that was dismissed has deleted %v", all)
	}
	j := start()
	if err := j.words.Close(); err != nil { // as the kernel does when the suite is killed
		t.Fatal(err)
	}
	if err := j.cmd.Wait(); err != nil {
		t.Errorf("the janitor: %v", err)
	}
	if all := gone(); !slices.Contains(all, "/api/v1/namespaces/left") {
		t.Errorf("it has deleted %v", all)
	}
}
