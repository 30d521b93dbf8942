package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Without a target that can be read make must not go on.
func TestTargetUnread(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	tree(t, map[string]string{"scenarios/start/one.yaml": file("one")})
	t.Setenv("KUBEBUILDER_ASSETS", "")
	var problems strings.Builder
	if code := run([]string{"target", "embedded"}, full, &problems); code != 1 || !strings.Contains(problems.String(), "no space left") {
		t.Errorf("exit code %d, stderr %q", code, &problems)
	}
}

// What a target lacks is said at once, with what to do about it.
func TestTarget(t *testing.T) {
	tree(t, map[string]string{"scenarios/start/one.yaml": file("one")})
	assets := t.TempDir()
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if err := os.WriteFile(filepath.Join(assets, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const answers, refuses = "exit 0", "echo Cannot connect to the Docker daemon >&2; exit 1"
	for _, test := range []struct {
		name, docker string
		airgap       string // what its check prints
		env          map[string]string
		args         string
		target, says string
		code         int
	}{
		{name: "Docker answers", docker: answers, target: "kind", says: "Docker can be used"},
		{name: "Docker can be started", docker: refuses, target: "kind", says: "Docker can be used"},
		{name: "no Docker", docker: refuses, airgap: "Docker is not usable: this user is not root", target: "embedded", says: "this user is not root"},
		{name: "no Docker for kind", docker: refuses, airgap: "Docker is not usable: install it: apt-get install docker.io", args: "kind",
			says: "TARGET=kind cannot run here: Docker is not usable: install it: apt-get install docker.io\n", code: 1},
		{name: "no Docker for a node image", docker: refuses, env: map[string]string{"KIND_NODE_IMAGE": "mine"}, args: "kind",
			says: "Cannot connect to the Docker daemon; start it (apt-get install docker.io), or unset KIND_NODE_IMAGE", code: 1},
		{name: "embedded", docker: refuses, args: "embedded", target: "embedded"},
		{name: "embedded with programs", env: map[string]string{"KUBEBUILDER_ASSETS": assets}, args: "embedded", target: "embedded"},
		{name: "embedded without programs", env: map[string]string{"KUBEBUILDER_ASSETS": t.TempDir()}, args: "embedded", says: "it has no etcd; unset it", code: 1},
		{name: "no cluster", args: "existing", says: "set KUBECONFIG to the file", code: 1},
		{name: "no such cluster", env: map[string]string{"KUBECONFIG": "/nowhere:/missing"}, args: "existing", says: "there is no /nowhere, /missing", code: 1},
		{name: "no image", env: map[string]string{"KUBECONFIG": "/nowhere:/dev/null"}, args: "existing", says: "set IMAGE to one", code: 1},
		{name: "a cluster", env: map[string]string{"KUBECONFIG": "/dev/null", "E2E_IMAGE": "runner"}, args: "existing", target: "existing"},
		{name: "in a pod", env: map[string]string{"KUBERNETES_SERVICE_HOST": "10.0.0.1", "E2E_IMAGE": "runner"}, args: "existing", target: "existing"},
		{name: "unknown", args: "minikube", says: `<target>] must be one of "","embedded","kind","existing" but got "minikube"`, code: 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			bin := t.TempDir()
			// The go command is asked to run e2e/airgap.
			program := "[ \"$*\" = \"run -C e2e/airgap . check\" ] || exit 3\necho '" + test.airgap + "'\n"
			for name, text := range map[string]string{"docker": test.docker, "go": program} {
				if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", bin)
			t.Setenv("HOME", t.TempDir())
			for _, name := range []string{"KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBEBUILDER_ASSETS", "KIND_NODE_IMAGE", "E2E_IMAGE"} {
				t.Setenv(name, test.env[name])
			}
			var out, problems strings.Builder
			code := run(append([]string{"target"}, strings.Fields(test.args)...), &out, &problems)
			if code != test.code || strings.TrimSpace(out.String()) != test.target || !strings.Contains(problems.String(), test.says) {
				t.Errorf("exit code %d, stdout %q, stderr %q", code, out.String(), problems.String())
			}
		})
	}
}

// A mistake in a scenario is said before anything is built for it.
func TestTargetOfBadScenarios(t *testing.T) {
	tree(t, map[string]string{"scenarios/start/one.yaml": file("one") + "runers: {}\n"})
	var out, problems strings.Builder
	code := run([]string{"target", "embedded"}, &out, &problems)
	if want := "scenarios/start/one.yaml:6: unknown field"; code != 1 || out.String() != "" || !strings.HasPrefix(problems.String(), want) {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, out.String(), problems.String())
	}
}
