package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/studioml/studio-go-runner/e2e/controlplane"
)

// kubectl is the program, used in one namespace.
type kubectl struct {
	program, namespace string
	kubeconfig         string // if not the usual one
}

// newKubectl finds the program: that of PATH, or the one beside the control plane.
func newKubectl(namespace string) (kubectl, error) {
	program, err := exec.LookPath("kubectl")
	if err != nil {
		program, err = exec.LookPath(filepath.Join(os.Getenv(controlplane.EnvAssets), "kubectl"))
	}
	if err != nil {
		return kubectl{}, fmt.Errorf("find kubectl: it is neither in PATH nor in %s; install it, or run this with make", controlplane.EnvAssets)
	}
	return kubectl{program, namespace, config.kubeconfig}, nil
}

// try runs kubectl and returns what it prints.
func (k kubectl) try(ctx context.Context, stdin []byte, args ...string) (string, error) {
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(ctx, k.program, append([]string{"--namespace=" + k.namespace}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &problems
	cmd.Env = append(os.Environ(), "GOGC=off") // it lives for a moment
	if k.kubeconfig != "" {
		cmd.Env = append(cmd.Env, "KUBECONFIG="+k.kubeconfig)
	}
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, problems.String())
	}
	return out.String(), nil
}

// do is try where it must succeed.
func (k kubectl) do(ctx context.Context, args ...string) string {
	GinkgoHelper()
	out, err := k.try(ctx, nil, args...)
	Expect(err).NotTo(HaveOccurred())
	return out
}

// apply applies a directory of runner/deploy as the README says: through a
// kustomization of one's own, here with more fields as YAML text, in which $DEPLOY
// stands for runner/deploy.
func (k kubectl) apply(ctx context.Context, directory, fields string) error {
	overlay, err := os.MkdirTemp("", "studio-go-runner-e2e-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(overlay)
	if err := k.kustomize(overlay, directory, fields); err != nil {
		return err
	}
	_, err = k.try(ctx, nil, "apply", "-k", overlay)
	return err
}

// kustomize writes such a kustomization into a directory.
func (k kubectl) kustomize(overlay, directory, fields string) error {
	deploy, err := filepath.Abs(filepath.Join("..", "runner", "deploy"))
	if err != nil {
		return err
	}
	if deploy, err = filepath.Rel(overlay, deploy); err != nil { // kustomize takes no absolute paths
		return err
	}
	text := fmt.Sprintf("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: %s\nresources: [$DEPLOY/%s]\n%s", k.namespace, directory, fields)
	text = strings.ReplaceAll(text, "$DEPLOY", deploy)
	return os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), []byte(text), 0o600)
}

// typed types the block of the README that begins so, in a directory and with other
// words in place of some of its own, and returns what is printed.
func (k kubectl) typed(ctx context.Context, dir, begin string, here ...string) (string, error) {
	block, err := blockOf(filepath.Join("..", "README.md"), begin)
	if err != nil {
		return "", err
	}
	script := strings.NewReplacer(append(here, "-n lab", "-n "+k.namespace)...).Replace(block)
	cmd := exec.CommandContext(ctx, "bash", "-ec", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "KUBECONFIG="+config.kubeconfig, "PATH="+filepath.Dir(k.program)+":"+os.Getenv("PATH"))
	cmd.WaitDelay = 10 * time.Second // for what it has started
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s%s", err, script, out)
	}
	return string(out), err
}

// blockOf is the block of a document that begins so.
func blockOf(file, begin string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	for _, found := range fence.FindAllStringSubmatch(string(text), -1) {
		if strings.HasPrefix(found[2], begin) {
			return found[2], nil
		}
	}
	return "", fmt.Errorf("%s has no block that begins with %q", filepath.Base(file), begin)
}

// image is an item of a kustomization's images, by which workloads use an image that
// may come from a registry with a port, and have a tag, a digest, both or none.
func image(name, image string) string {
	newName, digest, _ := strings.Cut(image, "@")
	tag := ""
	if i := strings.LastIndexByte(newName, ':'); i > strings.LastIndexByte(newName, '/') {
		newName, tag = newName[:i], newName[i+1:]
	}
	return fmt.Sprintf("- {name: %s, newName: %q, newTag: %q, digest: %q}\n", name, newName, tag, digest)
}

// The names of images are what kustomize makes of them, also where a tag looks
// like a number.
func TestImages(t *testing.T) {
	const sum = "sha256:0123456789012345678901234567890123456789012345678901234567890123"
	for _, name := range []string{
		"runner", "runner:e2e", "example/runner:1.10", "host:5000/lab/runner", "host:5000/lab/runner:v1",
		"host:5000/runner@" + sum, "host:5000/runner:v1@" + sum,
	} {
		fs := filesys.MakeFsInMemory()
		for file, text := range map[string]string{
			"kustomization.yaml": "resources: [pod.yaml]\nimages:\n" + image("studio-go-runner", name),
			"pod.yaml":           "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: studio-go-runner}]}}",
		} {
			if err := fs.WriteFile(file, []byte(text)); err != nil {
				t.Fatal(err)
			}
		}
		built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(fs, ".")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text, err := built.AsYaml()
		if err != nil || !strings.Contains(string(text), "image: "+name+"\n") {
			t.Errorf("%s became, %v:\n%s", name, err, text)
		}
	}
}
