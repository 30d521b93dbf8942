package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/studioml/studio-go-runner/e2e/docker"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/kind"
	"github.com/studioml/studio-go-runner/e2e/targets/pods"
)

// What make builds for the kind cluster: the archives of images, and the names
// in them.
const (
	runnerArchive  = "e2e-image.tar"
	fakegpuArchive = "fakegpu-image.tar"
	testsArchive   = "tests-image.tar" // loaded by the spec that needs it
	runnerImage    = "studio-go-runner:e2e"
	fakegpuImage   = "studio-go-runner-fakegpu:e2e"
)

// kindHandle is what all processes need.
type kindHandle struct {
	Kind kind.Handle
	Pods pods.Handle
}

// nodes is the kind cluster, for specs about nodes; nil on other targets.
var nodes *kind.Cluster

// upIn is how long the kind cluster took until its nodes were ready and its DNS
// answered. Only the first process, which makes it, knows.
var upIn time.Duration

// setUpKind makes a cluster of three nodes, two of them with fake GPUs.
func setUpKind(ctx SpecContext) (any, error) {
	out := GinkgoWriter // shown when it fails; make has shown what takes long
	bin, err := filepath.Abs(filepath.Join("..", "bin"))
	if err != nil {
		return nil, err
	}
	daemon, err := docker.Ensure(ctx, docker.Options{Keep: config.keep, Progress: out})
	if err != nil {
		return nil, err
	}
	DeferCleanup(daemon.Close)
	image, err := kind.ChooseNodeImage(ctx, daemon, out)
	if err != nil {
		return nil, err
	}
	shared, err := os.MkdirTemp("", "studio-go-runner-shared-*")
	if err != nil {
		return nil, err
	}
	if !config.keep {
		DeferCleanup(func(ctx SpecContext) error { return removeShared(ctx, daemon, image.Name, shared) }, NodeTimeout(time.Minute))
	}
	began := time.Now()
	cluster, err := kind.Create(ctx, kind.Config{
		Docker: daemon, Kind: filepath.Join(bin, "kind"), Image: image, ConfigFile: filepath.Join("..", "kind-config.yaml"),
		Shared: shared, Logs: filepath.Join(config.artifacts, "nodes"), Keep: config.keep, Progress: out,
	})
	if err != nil {
		return nil, err
	}
	DeferCleanup(func(ctx SpecContext) error { return cluster.Close(ctx) }, NodeTimeout(3*time.Minute))

	upIn = time.Since(began)
	began = time.Now()
	for _, archive := range []string{runnerArchive, fakegpuArchive} {
		if err := cluster.LoadArchive(ctx, filepath.Join(bin, archive)); err != nil {
			return nil, err
		}
	}
	fmt.Fprintf(out, "the images were loaded in %s\n", time.Since(began).Round(time.Second))
	// The scenarios use what others would be given: a kubeconfig, an image, a
	// storage class, and GPUs to allocate.
	config.kubeconfig, config.image = cluster.Kubeconfig, runnerImage
	c := pods.Config{Name: "kind", Kubeconfig: cluster.Kubeconfig, Image: runnerImage, Storage: pods.Storage{Class: storageClass, Shared: true}, Owned: true}
	t, err := pods.Connect(c)
	if err != nil {
		return nil, err
	}
	if err := createVolumes(ctx, t.Client(), shared); err != nil {
		return nil, err
	}
	began = time.Now()
	if err := installFakeGPUs(ctx, t.Client(), cluster); err != nil {
		return nil, err
	}
	fmt.Fprintf(out, "the workers have fake GPUs after %s\n", time.Since(began).Round(time.Second))
	handle, err := setUpPods(ctx, c)
	if err != nil {
		return nil, err
	}
	return kindHandle{cluster.Handle, handle}, nil
}

func openKind(data []byte) (targets.Target, error) {
	var handle kindHandle
	if err := json.Unmarshal(data, &handle); err != nil {
		return nil, err
	}
	var err error
	if nodes, err = kind.Connect(handle.Kind); err != nil {
		return nil, err
	}
	config.kubeconfig, config.image = handle.Kind.Kubeconfig, runnerImage
	return pods.Open(handle.Pods)
}

const (
	storageClass = "shared"
	// spareVolumes are for the scenarios of the tests' Job, and for one that is
	// played again.
	spareVolumes = 30
	// keptVolumes are for who goes on to use a cluster that is kept.
	keptVolumes = 300
)

// specsToRun is known in the first process, before it makes the cluster.
var specsToRun int

var _ = ReportBeforeSuite(func(report Report) { specsToRun = report.PreRunStats.SpecsThatWillRun })

// volumes is how many a cluster needs: each scenario uses one. More would hold
// up the first claims: a controller manager makes 20 requests a second by
// default (its --kube-api-qps).
func volumes() int {
	if config.keep {
		return specsToRun + spareVolumes + keptVolumes
	}
	return specsToRun + spareVolumes
}

// removeShared removes the directory that nodes shared. What pods have written
// there is theirs: who is not root needs Docker for it, and an image that it has.
func removeShared(ctx context.Context, d *docker.Docker, image, shared string) error {
	err := os.RemoveAll(shared)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	_, err = d.Run(ctx, "run", "--rm", "--network=none", "--user=0", "--security-opt=label=disable", "--volume="+shared+":/shared",
		"--entrypoint=find", image, "/shared", "-mindepth", "1", "-delete")
	return errors.Join(err, os.RemoveAll(shared))
}

// createVolumes makes volumes in the directory that all nodes share, for claims
// of that storage class. A cluster of one's own has a provisioner for that.
func createVolumes(ctx context.Context, client kubernetes.Interface, shared string) error {
	for n := range volumes() {
		name := fmt.Sprintf("%s-%03d", storageClass, n)
		dir := filepath.Join(shared, name)
		if err := os.Mkdir(dir, 0o777); err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o777); err != nil { // runners are not root, and umask has cut it
			return err
		}
		_, err := client.CoreV1().PersistentVolumes().Create(ctx, &corev1.PersistentVolume{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: corev1.PersistentVolumeSpec{
				AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany, corev1.ReadWriteOnce},
				Capacity:                      corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")},
				StorageClassName:              storageClass,
				PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
				PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: kind.SharedDir + "/" + name}},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("create volume %s: %w", name, err)
		}
	}
	return nil
}

// fakeNamespace is that of the DaemonSets of runner/deploy/fake-gpu.
const fakeNamespace = "fakegpu"

// fakeNodes are the models of the workers, in their order: one is as
// runner/deploy/fake-gpu ships it, one as its README changes it.
var fakeNodes = []struct {
	model string
	count int64
	edits string
}{
	{"H100-80GB", 8, ""},
	{"T4", 4, `
nameSuffix: -t4
labels: [{pairs: {studioml.io/fakegpu: T4}, includeSelectors: true}]
patches:
- target: {kind: DaemonSet}
  patch: |
    - {op: replace, path: /spec/template/spec/nodeSelector, value: {studioml.io/fakegpu: T4}}
    - {op: replace, path: /spec/template/spec/initContainers/1/env/0/value, value: T4}
    - {op: replace, path: /spec/template/spec/initContainers/1/env/1/value, value: "4"}
`},
}

// installFakeGPUs gives the workers fake GPUs, and waits until the kubelets have
// them to allocate.
func installFakeGPUs(ctx context.Context, client kubernetes.Interface, cluster *kind.Cluster) error {
	workers, err := cluster.Workers()
	if err != nil {
		return err
	}
	if len(workers) != len(fakeNodes) {
		return fmt.Errorf("the cluster has %d workers, want %d", len(workers), len(fakeNodes))
	}
	k, err := newKubectl(ctx, fakeNamespace)
	if err != nil {
		return err
	}
	if _, err := k.try(ctx, nil, "create", "namespace", fakeNamespace); err != nil {
		return err
	}
	for i, fake := range fakeNodes {
		if _, err := k.try(ctx, nil, "label", "node", workers[i], "studioml.io/fakegpu="+fake.model); err != nil {
			return err
		}
		if err := k.apply(ctx, "fake-gpu", "images: [{name: studio-go-runner-fakegpu, newTag: e2e}]\n"+fake.edits); err != nil {
			return err
		}
	}
	for i, fake := range fakeNodes {
		err := await(ctx, func() error {
			node, err := client.CoreV1().Nodes().Get(ctx, workers[i], metav1.GetOptions{})
			if err != nil {
				return err
			}
			if n := node.Status.Allocatable["nvidia.com/gpu"]; n.Value() != fake.count {
				return fmt.Errorf("node %s has %s nvidia.com/gpu to allocate, want %d; see kubectl logs -n %s", workers[i], n.String(), fake.count, fakeNamespace)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// await calls holds until it returns no error, in set-up code that no assertion
// library runs in.
func await(ctx context.Context, holds func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := holds()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(err, context.Cause(ctx))
		}
	}
}

// collectNodes leaves the nodes' logs, where the suite can have them.
func collectNodes(ctx context.Context, evidence string) error {
	if nodes == nil {
		return nil
	}
	return nodes.CollectLogs(ctx, filepath.Join(evidence, "nodes"))
}
