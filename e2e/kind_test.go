package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	. "github.com/onsi/ginkgo/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

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

// kindSetUp makes a kind cluster ready for the scenarios.
type kindSetUp struct {
	bin     string // where make has left what it built
	shared  string // the directory that all nodes share
	cluster *kind.Cluster
	pods    pods.Config
	target  *pods.Target
	handle  pods.Handle
}

// setUpKind makes a cluster of three nodes, two of them with fake GPUs, on the
// Docker that answers. The scenarios then use what others would be given: a
// kubeconfig, an image, a storage class, and GPUs to allocate.
func setUpKind(ctx SpecContext) (any, error) {
	var s kindSetUp
	began := time.Now()
	err := kind.BringUp(ctx, GinkgoWriter, // shown when it fails; make has shown what takes long
		kind.Action{Name: "make a directory that nodes share", Do: s.share},
		kind.Action{Name: "make the cluster", Do: s.create}, // says more itself
		kind.Action{Name: "look at it", Do: func(context.Context) error { upIn = time.Since(began); return s.connect() }},
		kind.Action{Name: "load the images of the runner and the fake GPUs", Do: s.load},
		kind.Action{Name: "make volumes for the queues", Do: s.volumes}, // a cluster of one's own has a provisioner
		kind.Action{Name: "give the workers fake GPUs", Do: s.fakeGPUs},
		kind.Action{Name: "inspect it as a target", Do: func(context.Context) (err error) { s.handle, err = setUpPods(ctx, s.pods); return err }},
	)
	if err != nil {
		return nil, err
	}
	return kindHandle{s.cluster.Handle, s.handle}, nil
}

func (s *kindSetUp) share(context.Context) (err error) {
	if s.bin, err = filepath.Abs(filepath.Join("..", "bin")); err != nil {
		return err
	}
	if s.shared, err = os.MkdirTemp("", "studio-go-runner-shared-*"); err == nil && !config.keep {
		DeferCleanup(func(ctx SpecContext) error { return removeShared(ctx, s.shared) }, NodeTimeout(time.Minute))
	}
	return err
}

func (s *kindSetUp) create(ctx context.Context) (err error) {
	s.cluster, err = kind.Create(ctx, kind.Config{
		Kind: filepath.Join(s.bin, "kind"), Image: config.nodeImage, ConfigFile: filepath.Join("..", "kind-config.yaml"),
		Shared: s.shared, Logs: filepath.Join(config.artifacts, "nodes"), Keep: config.keep, Progress: GinkgoWriter,
	})
	if err == nil {
		DeferCleanup(func(ctx SpecContext) error { return s.cluster.Close(ctx) }, NodeTimeout(3*time.Minute))
	}
	return err
}

func (s *kindSetUp) connect() (err error) {
	config.kubeconfig, config.image = s.cluster.Kubeconfig, runnerImage
	s.pods = pods.Config{Name: "kind", Kubeconfig: s.cluster.Kubeconfig, Image: runnerImage, Storage: pods.Storage{Class: storageClass, Shared: true}, Owned: true}
	s.target, err = pods.Connect(s.pods)
	return err
}

func (s *kindSetUp) load(ctx context.Context) error {
	for _, archive := range []string{runnerArchive, fakegpuArchive} {
		if err := s.cluster.LoadArchive(ctx, filepath.Join(s.bin, archive)); err != nil {
			return err
		}
	}
	return nil
}

func (s *kindSetUp) volumes(ctx context.Context) error {
	return createVolumes(ctx, s.target.Admin, s.shared)
}

func (s *kindSetUp) fakeGPUs(ctx context.Context) error {
	return installFakeGPUs(ctx, s.target.Admin, s.cluster)
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
// there is theirs: who is not root needs Docker for it, and the image of a pod.
func removeShared(ctx context.Context, shared string) error {
	err := os.RemoveAll(shared)
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	archive := filepath.Join("..", "bin", runnerArchive)
	script := `docker load --quiet --input="$1" && docker run --rm --network=none --user=0 --security-opt=label=disable --volume="$2:/shared" --entrypoint=find "$3" /shared -mindepth 1 -delete`
	out, err := exec.CommandContext(ctx, "sh", "-c", script, "sh", archive, shared, runnerImage).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("remove what pods have left in %s: %w: %s", shared, err, out)
	}
	return errors.Join(err, os.RemoveAll(shared))
}

// createVolumes makes volumes in the directory that all nodes share, for claims
// of that storage class.
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
	k, err := newKubectl(fakeNamespace)
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
