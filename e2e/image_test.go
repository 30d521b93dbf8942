package e2e_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/report"
)

// imageSpecs play the tests as an image.
func imageSpecs() {
	It("the tests as an image: a Job with a GPU plays scenarios on the cluster that it is in, and a pod of it gives a shell", Labels{"area:workloads", "document"}, SpecPriority(3), SpecTimeout(engine.Stretch(8*time.Minute)), func(ctx SpecContext) {
		workers := nodes.Workers()
		Expect(nodes.LoadArchive(ctx, filepath.Join("..", "bin", testsArchive), workers...)).To(Succeed())
		if config.postgres != "" { // its server of the queues is on a worker
			Expect(nodes.LoadArchive(ctx, filepath.Join("..", "bin", postgresArchive), workers...)).To(Succeed())
		}
		k, err := newKubectl("studio-go-runner-tests")
		Expect(err).NotTo(HaveOccurred())
		k.do(ctx, "create", "namespace", k.namespace)
		DeferCleanup(func(ctx SpecContext) {
			k.do(ctx, "delete", "namespace", "--wait=false", k.namespace)
			k.do(ctx, "delete", "--ignore-not-found", "clusterrole,clusterrolebinding", "studio-go-runner-tests")
		}, NodeTimeout(engine.Stretch(cleanupTime)))
		// Few scenarios, for it is the image that is tried: some of any kind, and one
		// whose runner asks for a GPU of the device plugin, as the tests' pod does.
		dir := GinkgoT().TempDir()
		typed := func(begin string, here ...string) string {
			GinkgoHelper()
			out, err := k.typed(ctx, dir, begin, here...)
			Expect(err).NotTo(HaveOccurred())
			return out
		}
		Expect(k.kustomize(dir, "tests", `
images: [{name: studio-go-runner-tests, newTag: e2e}]
patches:
- target: {kind: Job}
  patch: |
    - {op: add, path: /spec/template/spec/containers/0/env/-, value: {name: E2E_POSTGRES, value: "`+config.postgres+`"}}
    - {op: add, path: /spec/template/spec/containers/0/env/-, value: {name: E2E_TIME_FACTOR, value: "3"}}
    - {op: add, path: /spec/template/spec/containers/0/args, value: ["--label-filter=row: containsAny {2, 3, 46}"]}
`)).To(Succeed())
		evidence := report.Evidence(config.artifacts, "workloads", CurrentSpecReport().LeafNodeText)
		Expect(os.RemoveAll(evidence)).To(Succeed())
		DeferOnFailure(func(ctx SpecContext) {
			out, err := k.try(ctx, nil, "logs", "--tail=400", "job/studio-go-runner-tests")
			AddReportEntry("log of the tests in the cluster", fmt.Sprintln(out, err)) // one value
			objects, err := k.try(ctx, nil, "get", "jobs,pods,events", "--output=yaml")
			err = errors.Join(err, os.MkdirAll(evidence, 0o755), os.WriteFile(filepath.Join(evidence, "objects.yaml"), []byte(objects), 0o644))
			if err := errors.Join(err, collectNodes(ctx, evidence)); err != nil {
				AddReportEntry("evidence incomplete", err.Error())
			}
		}, NodeTimeout(engine.Stretch(cleanupTime)))
		log := typed("kubectl apply -k .                                # with resources")
		Expect(log).To(MatchRegexp(`(?m)^existing: ([3-9]|[1-9]\d+) passed, 0 failed`))
		AddReportEntry("counts in the cluster", regexp.MustCompile(`(?m)^existing: .*$`).FindString(log))
		k.do(ctx, "wait", "--for=condition=complete", timeout(), "job/studio-go-runner-tests")

		By("leaving the image asleep, for a shell")
		out := typed("kubectl run -n lab build", "example/tests:v1", "studio-go-runner-tests:e2e", "-it build -- run-tests --focus='two flips'",
			"build -- sh -c 'echo $NVIDIA_VISIBLE_DEVICES; E2E_POSTGRES="+config.postgres+" E2E_TIME_FACTOR=3 run-tests --focus=\"suspended at start\"'")
		Expect(out).To(And(MatchRegexp(`(?m)^GPU-`), ContainSubstring("existing: 1 passed, 0 failed")))
		typed("kubectl delete -k .")
		k.do(ctx, "get", "namespace", k.namespace) // which is not the tests' own
	})
}
