package kube_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/studioml/studio-go-runner/runner/internal/kube"
)

// The service account's files have fixed paths, so they are made in a mount
// namespace of a child process. Where the kernel allows none, as in most
// containers, the test is skipped.
func TestNamespaceInAPod(t *testing.T) {
	const inside = "KUBE_TEST_IN_A_POD"
	if os.Getenv(inside) == "" {
		command := exec.Command(os.Args[0], "-test.run=^TestNamespaceInAPod$", "-test.v")
		command.Env = append(os.Environ(), inside+"=1")
		command.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
		output, err := command.CombinedOutput()
		switch {
		case len(output) == 0 && err != nil:
			t.Skipf("no mount namespace here: %v", err)
		case strings.Contains(string(output), "--- SKIP"):
			t.Skipf("%s", output)
		case err != nil || !strings.Contains(string(output), "--- PASS: TestNamespaceInAPod"):
			t.Errorf("%v\n%s", err, output)
		}
		return
	}

	const account = "/var/run/secrets/kubernetes.io/serviceaccount"
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Skipf("no mounts here: %v", err)
	}
	if err := syscall.Mount("none", "/var/run", "tmpfs", 0, ""); err != nil {
		t.Skipf("no mounts here: %v", err)
	}
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(account+"/token", "t")
	config := filepath.Join(t.TempDir(), "config")
	write(config, `{apiVersion: v1, kind: Config, current-context: here,
		contexts: [{name: here, context: {cluster: c, user: u, namespace: from-file}}],
		clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}], users: [{name: u, user: {token: t}}]}`)

	for _, test := range []struct {
		name, flag, namespace string
		pod                   string // the service account's namespace
		want, host            string
	}{
		{"the service account", "", "", "from-pod\n", "from-pod", "https://10.0.0.1:443"},
		{"the namespace given", "", "mine", "from-pod", "mine", "https://10.0.0.1:443"},
		{"before the kubeconfig", config, "", "from-pod", "from-pod", "https://127.0.0.1:1"},
		{"the namespace given, before all", config, "mine", "from-pod", "mine", "https://127.0.0.1:1"},
		{"an empty file", config, "", " \n", "from-file", "https://127.0.0.1:1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range map[string]string{"KUBECONFIG": "", "POD_NAMESPACE": "",
				"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"} {
				t.Setenv(name, value)
			}
			write(account+"/namespace", test.pod)
			client, namespace, _, err := kube.FindCluster(test.flag, "", test.namespace)
			if err != nil || client == nil {
				t.Fatalf("client %v, error %v", client, err)
			}
			if namespace != test.want || client.Address() != test.host {
				t.Errorf("namespace %q at %s, want %q at %s", namespace, client.Address(), test.want, test.host)
			}
		})
	}

	// A home that the pod's user cannot read does not matter, and is told.
	clientcmd.RecommendedHomeFile = t.TempDir()
	t.Setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	client, _, doubt, err := kube.FindCluster("", "", "")
	if err != nil || client == nil || client.Address() != "https://10.0.0.1:443" || !strings.Contains(doubt, "is a directory") {
		t.Errorf("client %v, doubt %q, error %v", client, doubt, err)
	}
}
