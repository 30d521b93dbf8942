package e2e_test

import (
	_ "embed"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/report"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

//go:embed testdata/nodes.sh
var onNodes string

// recipes are FLEET.md's.
const recipes = "FLEET.md"

// alone are the blocks that take a node away from everybody, by how they begin.
var alone = []string{"follow() {", "node=worker-1", "kubectl drain", "kubectl delete configmap $names"}

// recipeSpecs type FLEET.md where there are nodes, and all that documentSpecs stands in for.
func recipeSpecs() {
	limit := SpecTimeout(engine.Stretch(5 * time.Minute))

	It("the recipes for operators work as typed, on nodes", rows(83), limit, SpecPriority(2), func(ctx SpecContext) {
		left := map[string]string{
			"kubectl port-forward": "it is typed first",
		}
		for _, begin := range alone {
			left[begin] = "the next one types it"
		}
		r := newRecipes(ctx, left, nodeOfFirst)
		defineDrainers(ctx, r.kubectl.kubeconfig)
		out := r.types(ctx, r.lines(document(recipes))...)
		Expect(out).To(And(
			ContainSubstring("\nhello\n"), ContainSubstring("\ninside\n"),
			MatchRegexp(`StateTransition +pod/studio-go-runner-0-\w{5} +Unknown to Running, source global`),
			MatchRegexp(`pod/studio-go-runner-[01]-\w{5} still has work\n`),
			MatchRegexp(`(?m)^long +Finished +1 `),
			ContainSubstring("job.batch/resume-now condition met\n"),
			MatchRegexp(`machinedrainrule.cluster.x-k8s.io/studio-go-runner (created|configured)\n`),
		))
		Expect(os.ReadFile(filepath.Join(r.dir, "copy", "outputs", "answer"))).To(BeEquivalentTo("42\n"))
	})
}

// nodeOfFirst is where the runner with the index 0 is.
const nodeOfFirst = "$(kubectl get pods --selector=batch.kubernetes.io/job-completion-index=0" +
	" --output=jsonpath={.items[0].spec.nodeName})"

// functions are those of a document's blocks.
var functions = regexp.MustCompile(`(?ms)^\w+\(\) \{.*?^\}$`)

// typedRecipes has the recipes typed, in a namespace and with a queue of their own.
type typedRecipes struct {
	*typist
	kubectl kubectl
	begin   []string
	address string // of the server of the queue, for pods
}

// newRecipes has worker-1 be another node, and more words others.
func newRecipes(ctx SpecContext, elsewhere map[string]string, worker string, more ...string) *typedRecipes {
	GinkgoHelper()
	name := CurrentSpecReport().LeafNodeText
	env := isolate(ctx, targets.Isolation{Name: name, Evidence: report.Evidence(config.artifacts, "documents", name)})
	cleanup := NodeTimeout(engine.Stretch(cleanupTime))
	DeferCleanup(func(ctx SpecContext) { Expect(env.Close(ctx)).To(Succeed()) }, cleanup)
	k, err := newKubectl(env.Namespace())
	Expect(err).NotTo(HaveOccurred())
	queue := k.do(ctx, "get", "secret", "studio-go-runner-queue", "--output=go-template={{.data.url | base64decode}}")
	at, err := url.Parse(queue)
	Expect(err).NotTo(HaveOccurred())
	server := k.do(ctx, "get", "services", "--all-namespaces",
		fmt.Sprintf("--output=jsonpath={.items[?(@.spec.clusterIP==%q)].metadata.namespace}", at.Hostname()))

	k.namespace += "-typed"
	r := &typedRecipes{typist: newTypist(k.namespace, elsewhere), kubectl: k, address: at.Host}
	DeferCleanup(func(ctx SpecContext) { // the Jobs first, as the recipes have it
		k.do(ctx, "delete", "jobs,cronjobs", "--all")
		k.do(ctx, "delete", "namespace", "--wait=false", "--ignore-not-found", k.namespace)
	}, cleanup)
	image, tag, _ := strings.Cut(config.image, ":")
	const fewer, canary = `"completions":2,"parallelism":2}}'`, "kubectl exec job/studio-go-runner-canary -- runner status"
	r.here = strings.NewReplacer(append(more,
		"postgres://fleet:secret@db.example/tasks", queue,
		"postgres://owner@db.example/tasks", queue,
		"example/runner:v1", config.image,
		"example/runner, newTag: v1", image+", newTag: "+tag,
		"example/runner, newTag: v2", image+", newTag: "+tag,
		"service/studio-go-runner-postgres 5432", "--namespace="+server+" service/studio-go-runner-postgres :5432 >forward &",
		"kubectl drain $node", "kubectl drain $node --pod-selector="+runnerLabel, // others have pods there
		// The drain finds it begun, and not only fetched, and it goes on until somebody asked.
		"-- sleep 10", "-- sh -c 'touch /tmp/begun; until [ -e /tmp/seen ]; do sleep 0.2; done'",
		"until runner tasks long | grep Running;",
		"until for pod in $(runners); do kubectl exec $pod -- ls /tmp/begun || true; done 2>/dev/null | grep begun;",
		`still has work"`, `still has work"; kubectl exec "$pod" -- touch /tmp/seen || true`,
		// What a person sees before the next line.
		fewer, fewer+"; kubectl wait --for=delete pod --selector=batch.kubernetes.io/job-completion-index=2 --timeout=5m",
		"runner tasks --runner=", "until "+canary+" | grep '^Phase: *Running'; do sleep 1; done; runner tasks --runner=",
		"kubectl uncordon worker-1", "runner state; kubectl uncordon "+worker,
		"worker-1", worker,
	)...)
	forward, err := blockOf(filepath.Join("..", "runner", "deploy", recipes), "kubectl port-forward")
	Expect(err).NotTo(HaveOccurred())
	r.begin = []string{r.says(forward), onNodes}
	return r
}

func (r *typedRecipes) types(ctx SpecContext, lines ...string) string {
	GinkgoHelper()
	return r.typist.types(ctx, append(r.begin, lines...),
		"KUBECONFIG="+r.kubectl.kubeconfig, "PATH="+filepath.Dir(r.kubectl.program)+":"+os.Getenv("PATH"), "ADDRESS="+r.address)
}
