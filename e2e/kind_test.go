package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/kind"
	"github.com/studioml/studio-go-runner/e2e/kube"
	"github.com/studioml/studio-go-runner/e2e/report"
	"github.com/studioml/studio-go-runner/e2e/targets"
	"github.com/studioml/studio-go-runner/e2e/targets/pods"
)

// What make builds for the kind cluster: the archives of images, and the names
// in them.
const (
	runnerArchive   = "e2e-image.tar"
	fakegpuArchive  = "fakegpu-image.tar"
	testsArchive    = "tests-image.tar"    // loaded by the spec that needs it
	postgresArchive = "postgres-image.tar" // if this machine has the programs
	runnerImage     = "studio-go-runner:e2e"
	postgresImage   = "studio-go-runner-postgres:e2e"
)

// kindHandle is what all processes need.
type kindHandle struct {
	Kind kind.Handle
	Pods pods.Config
}

// nodes is the kind cluster, for specs about nodes; nil on other targets.
var nodes *kind.Cluster

// upIn is how long the kind cluster took until its nodes were ready. Only the first
// process, which makes it, knows.
var upIn time.Duration

// kindSetUp makes a kind cluster ready for the scenarios.
type kindSetUp struct {
	bin     string // where make has left what it built
	cluster *kind.Cluster
	pods    pods.Config
	target  *pods.Target
}

// setUpKind makes a cluster of four nodes, three of them with fake GPUs, on the
// Docker that answers. The scenarios then use what others would be given: a
// kubeconfig, an image, a storage class, and GPUs to allocate.
func setUpKind(ctx SpecContext) (any, error) {
	bin, err := filepath.Abs(filepath.Join("..", "bin"))
	if err != nil {
		return nil, err
	}
	s := kindSetUp{bin: bin}
	began := time.Now()
	err = kind.BringUp(ctx, GinkgoWriter, // shown when it fails; make has shown what takes long
		kind.Action{Name: "make the cluster", Do: s.create}, // says more itself
		kind.Action{Name: "look at it", Do: func(context.Context) error { upIn = time.Since(began); return s.connect() }},
		kind.Action{Name: "give the workers fake GPUs", Do: s.fakeGPUs}, // of which the kubelets take note meanwhile
		kind.Action{Name: "load the images of the runner and its queue", Do: s.load},
		kind.Action{Name: "inspect it as a target", Do: func(context.Context) (err error) { s.pods, err = setUpPods(ctx, s.pods); return err }},
		kind.Action{Name: "wait until CoreDNS answers", Do: func(ctx context.Context) error { return s.cluster.AwaitDNS(ctx) }},
		kind.Action{Name: "wait until the kubelets have the fake GPUs", Do: s.awaitFakeGPUs},
	)
	if err != nil {
		return nil, err
	}
	return kindHandle{s.cluster.Handle, s.pods}, nil
}

func (s *kindSetUp) create(ctx context.Context) (err error) {
	s.cluster, err = kind.Create(ctx, kind.Config{
		Kind: filepath.Join(s.bin, "kind"), Image: config.nodeImage, ConfigFile: filepath.Join("..", "kind-config.yaml"),
		Logs: filepath.Join(config.artifacts, "nodes"), Keep: config.keep, Progress: GinkgoWriter,
	})
	if err == nil {
		DeferCleanup(func(ctx SpecContext) error { return s.cluster.Close(ctx) }, NodeTimeout(3*time.Minute))
	}
	return err
}

func (s *kindSetUp) connect() (err error) {
	useKind(s.cluster.Handle)
	s.pods = pods.Config{Name: "kind", Kubeconfig: s.cluster.Kubeconfig, Image: runnerImage, Owned: true, Run: kube.Run{Passing: !config.keep}}
	s.target, err = pods.Connect(s.pods)
	DeferCleanup(s.countPods)
	return err
}

// countPods notes how many pods there were, as the kubelets count them.
func (s *kindSetUp) countPods(ctx SpecContext) error {
	pods := 0
	for _, node := range s.workers() {
		nodes := s.target.Admin.CoreV1().RESTClient().Get().Resource("nodes")
		metrics, err := nodes.Name(node).SubResource("proxy").Suffix("metrics").DoRaw(ctx)
		if err != nil {
			return err
		}
		_, count, _ := strings.Cut(string(metrics), "\nkubelet_started_pods_total ")
		count, _, _ = strings.Cut(count, "\n")
		n, err := strconv.Atoi(count)
		if err != nil {
			return fmt.Errorf("count the pods of node %s: %w", node, err)
		}
		pods += n
	}
	AddReportEntry(report.MeasuredEntry, map[string]float64{"pods": float64(pods)}, ReportEntryVisibilityNever)
	return nil
}

// load gives each node what it runs.
func (s *kindSetUp) load(ctx context.Context) error {
	if config.postgres != "" {
		if err := s.cluster.LoadArchive(ctx, filepath.Join(s.bin, postgresArchive), s.cluster.ControlPlane()); err != nil {
			return err
		}
	}
	return s.loadWorkers(ctx, runnerArchive)
}

func (s *kindSetUp) loadWorkers(ctx context.Context, archive string) error {
	return s.cluster.LoadArchive(ctx, filepath.Join(s.bin, archive), s.workers()...)
}

// useKind has all that follows use the cluster, and the images that were made for it.
func useKind(h kind.Handle) {
	config.kubeconfig, config.image = h.Kubeconfig, runnerImage
	if _, err := os.Stat(filepath.Join("..", "bin", postgresArchive)); err == nil {
		config.postgres = postgresImage // else its own is pulled
	}
}

func openKind(data []byte) (targets.Target, error) {
	var handle kindHandle
	if err := json.Unmarshal(data, &handle); err != nil {
		return nil, err
	}
	nodes = &kind.Cluster{Handle: handle.Kind}
	useKind(handle.Kind)
	return pods.Connect(handle.Pods)
}

// contractSpec plays the contract on the cluster as on anybody's.
func contractSpec() {
	It("the contract, as a black box", Label("area:conformance"), SpecTimeout(engine.Stretch(10*time.Minute)), func(ctx SpecContext) {
		play := exec.CommandContext(ctx, filepath.Join("bin", "e2e"), append([]string{"conformance", "play",
			"--target=kind", "--image=" + config.image, "--postgres=" + config.postgres}, strings.Fields(config.contract)...)...)
		play.Dir, play.Env = "..", append(os.Environ(), "KUBECONFIG="+config.kubeconfig)
		play.Stdout, play.Stderr = os.Stdout, os.Stdout // each scenario as it ends
		play.Cancel = func() error { return play.Process.Signal(os.Interrupt) }
		Expect(play.Run()).To(Succeed())
	})
}

// fakeNamespace is that of the DaemonSets of runner/deploy/fake-gpu.
const fakeNamespace = "fakegpu"

// fakeNodes are the models of the workers, of which the last is the spare one: one is
// as runner/deploy/fake-gpu ships it, one as its README changes it.
var fakeNodes = []struct {
	workers []int
	model   string
	count   int64
	edits   string
}{
	{[]int{0}, "H100-80GB", 8, ""},
	{[]int{1, 2}, "T4", 4, `
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

// fakeGPUs gives the workers fake GPUs; it takes a kubelet up to 10 s to say so.
func (s *kindSetUp) fakeGPUs(ctx context.Context) error {
	if err := s.loadWorkers(ctx, fakegpuArchive); err != nil {
		return err
	}
	workers := s.workers()
	k, err := newKubectl(fakeNamespace)
	if err != nil {
		return err
	}
	if _, err := k.try(ctx, nil, "create", "namespace", fakeNamespace); err != nil {
		return err
	}
	for _, fake := range fakeNodes {
		for _, i := range fake.workers {
			if _, err := k.try(ctx, nil, "label", "node", workers[i], "studioml.io/fakegpu="+fake.model); err != nil {
				return err
			}
		}
		if err := k.apply(ctx, "fake-gpu", "images: [{name: studio-go-runner-fakegpu, newTag: e2e}]\n"+fake.edits); err != nil {
			return err
		}
	}
	return nil
}

// awaitFakeGPUs waits until the kubelets have them to allocate.
func (s *kindSetUp) awaitFakeGPUs(ctx context.Context) error {
	for _, fake := range fakeNodes {
		for _, i := range fake.workers {
			err := await(ctx, func() error {
				node, err := s.target.Admin.CoreV1().Nodes().Get(ctx, s.workers()[i], metav1.GetOptions{})
				if err != nil {
					return err
				}
				if n := node.Status.Allocatable["nvidia.com/gpu"]; n.Value() != fake.count {
					return fmt.Errorf("node %s has %s nvidia.com/gpu to allocate, want %d; see kubectl logs -n %s", node.Name, n.String(), fake.count, fakeNamespace)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// workers are all of them, the spare one last.
func (s *kindSetUp) workers() []string { return append(s.cluster.Workers(), s.cluster.Spare()) }

// await calls holds until it returns no error, in set-up code that no assertion
// library runs in.
func await(ctx context.Context, holds func() error) error {
	ctx, cancel := context.WithTimeout(ctx, engine.Stretch(patience))
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
