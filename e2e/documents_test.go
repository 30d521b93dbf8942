package e2e_test

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/pgserver"
	"github.com/studioml/studio-go-runner/e2e/report"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

// documents are for those who operate a fleet, in the order in which they are typed.
var documents = []string{"FLEET.md", "MIGRATION.md"}

// elsewhere are the blocks of the documents that need nodes, by how they begin.
var elsewhere = map[string]string{
	"kubectl drain":                 "recipeSpecs type it on kind",
	"kubectl port-forward":          "likewise",
	"kubectl create serviceaccount": "likewise",
}

// reference are the blocks of the README that are typed behind them, by how they begin.
var reference = []string{"kubectl create configmap studioml-go-runner", "kubectl patch configmap studioml-go-runner", "kubectl label node NODE"}

var (
	//go:embed testdata/cluster.sh
	cluster string
	//go:embed testdata/sentences.sh
	sentences string
)

func document(name string) string {
	text, err := os.ReadFile(filepath.Join("..", "runner", "deploy", name))
	if err != nil {
		panic(err)
	}
	return string(text)
}

// documentSpecs type what the documents have, from the first block to the last.
func documentSpecs() {
	sentenceSpecs()
	It("the lines of the documents for operators work as typed", Label("area:documents"), SpecTimeout(engine.Stretch(10*time.Minute)), func(ctx SpecContext) {
		name := CurrentSpecReport().LeafNodeText
		evidence := report.Evidence(config.artifacts, "documents", name)
		env := isolate(ctx, targets.Isolation{Name: name, Needs: []scenario.Need{scenario.NeedKubectl}, Evidence: evidence})
		DeferCleanup(func(ctx SpecContext) { Expect(env.Close(ctx)).To(Succeed()) }, NodeTimeout(engine.Stretch(cleanupTime)))
		shell, err := env.(targets.KubectlControl).Shell()
		Expect(err).NotTo(HaveOccurred())
		server, err := pgserver.Start()
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(server.Close)
		queue, err := server.Database(ctx, "fleet")
		Expect(err).NotTo(HaveOccurred())

		defineDrainers(ctx, strings.TrimPrefix(shell[0], "KUBECONFIG="))
		// What others on the same control plane may have as well gets another name.
		t := newTypist(env.Namespace()+"-typed", elsewhere)
		t.here = strings.NewReplacer("postgres://fleet:secret@db.example/tasks", queue, "postgres://owner@db.example/tasks", "'"+queue+"'",
			"/var/lib/fakegpu", filepath.Join(t.dir, "fakegpu"), "worker-1", "$NODE", "node NODE", "node $NODE",
			// The drain finds it begun, and not only fetched.
			"-- sleep 10", "-- sh -c 'touch "+filepath.Join(t.dir, "begun")+"; until [ -e "+filepath.Join(t.dir, "seen")+" ]; do sleep 0.1; done'",
			"until runner tasks long | grep Running;", "until [ -e "+filepath.Join(t.dir, "begun")+" ];")
		t.write("kustomization.yaml", "namespace: "+t.namespace+"\nresources: [studio-go-runner/runner/deploy/fake-gpu]\n")
		script := append([]string{cluster}, t.lines(strings.Join(slices.Collect(eachDocument), "\n"))...)
		script = append(script, "kubectl delete configmaps --all")
		for _, begin := range reference {
			block, err := blockOf(filepath.Join("..", "README.md"), begin)
			Expect(err).NotTo(HaveOccurred())
			script = append(script, t.says(block))
		}
		script = append(script, t.says(sentences))
		machine := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(254), rand.IntN(256))
		out := t.types(ctx, script, append(shell, "NODE="+t.namespace, "ADDRESSES="+machine+"1:8080 "+machine+"2:8080",
			"STUDIOML_NVML_LIBRARY=none", "STUDIOML_TERMINATION_LOG="+filepath.Join(t.dir, "last-words"))...)
		Expect(out).To(And(
			ContainSubstring("\nhello\n"), ContainSubstring("\ninside\n"),
			MatchRegexp(`StateTransition +pod/studio-go-runner-0-fghij +Unknown to Running, source global`),
			MatchRegexp(`(?m)^Phase: +Suspended`), ContainSubstring("attempt 1 of hello is in"),
			MatchRegexp(`pod/studio-go-runner-[01]-fghij still has work\n`), MatchRegexp(`(?m)^long +Finished +1 `),
			Not(ContainSubstring("poddisruptionbudget.policy/studio-go-runner-canary")),
			MatchRegexp(`(?s)configmap/studio-go-runner-1 labeled\n.*uncordoned\n.*configmap "studio-go-runner-1" deleted`),
			MatchRegexp(`machinedrainrule.cluster.x-k8s.io/studio-go-runner (created|configured)\n`)))
		Expect(os.ReadFile(filepath.Join(t.dir, "copy", "outputs", "answer"))).To(BeEquivalentTo("42\n"))
	})
}

// drainers are the objects of what empties nodes by itself, by the modules that define them.
var drainers = map[string][]string{
	"sigs.k8s.io/cluster-api": {"config/crd/bases/cluster.x-k8s.io_machinedrainrules.yaml", "config/crd/bases/cluster.x-k8s.io_machines.yaml"},
	"sigs.k8s.io/karpenter":   {"pkg/apis/crds/karpenter.sh_nodepools.yaml"},
}

// defineDrainers has the API server know those objects, so that it refuses a field that
// there is not.
func defineDrainers(ctx SpecContext, kubeconfig string) {
	GinkgoHelper()
	k, err := newKubectl("")
	Expect(err).NotTo(HaveOccurred())
	k.kubeconfig = kubeconfig
	for module, files := range drainers {
		get := exec.CommandContext(ctx, "go", "mod", "download", "-json", module)
		get.Dir = filepath.Join("..", "e2e", "testdata", "drainers") // the suite runs in bin
		out, err := get.Output()
		Expect(err).NotTo(HaveOccurred(), "%s", out)
		var downloaded struct{ Dir string }
		Expect(json.Unmarshal(out, &downloaded)).To(Succeed())
		for _, file := range files {
			from := "--filename=" + filepath.Join(downloaded.Dir, filepath.FromSlash(file))
			_, err := k.try(ctx, nil, "apply", "--server-side", from)
			Expect(err).NotTo(HaveOccurred())
			// kubectl waits for no condition of what has none yet.
			eventually(ctx, k.try).WithArguments(ctx, []byte(nil), "wait", "--for=condition=established", from).Should(ContainSubstring("condition met"))
		}
	}
}

func eachDocument(yield func(string) bool) {
	for _, name := range documents {
		if !yield(document(name)) {
			return
		}
	}
}

// What the documents name is there: metrics, variables, files, and headings.
func TestDocumentsNameWhatThereIs(t *testing.T) {
	if config.target != "" {
		t.Skip("it is about the repository, which the image of the suite has not; make test runs it")
	}
	var sources strings.Builder
	for _, pattern := range []string{"../runner/*.go", "../runner/api/*.go", "../runner/internal/observe/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %d files", pattern, err, len(files))
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sources.Write(text)
		}
	}
	tests, err := exec.Command("grep", "-rohE", "--include=*_test.go", `^func Test\w+`, "../e2e", "../fakegpu", "../runner").Output()
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`studioml_runner_([a-z_]+)|\b(STUDIOML_[A-Z_]+)`)
	links := regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]*))?\)`)
	all, err := texts()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range all {
		for _, test := range regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(text, -1) {
			if !strings.Contains(string(tests), "func "+test+"\n") {
				t.Errorf("%s names %s, which is no test", name, test)
			}
		}
		for _, found := range names.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(sources.String(), `"`+found[1]+found[2]+`"`) {
				t.Errorf("%s names %s, which is nowhere in the runner", name, found[0])
			}
		}
		for _, found := range links.FindAllStringSubmatch(text, -1) {
			file, heading := filepath.Join(filepath.Dir(name), found[1]), found[2]
			switch {
			case strings.HasPrefix(found[1], "https://"):
				continue
			case found[1] == "":
				file = name
			}
			target, is := all[file]
			if _, err := os.Stat(file); err != nil || heading != "" && !(is && hasHeading(target, heading)) {
				t.Errorf("%s links to %s#%s, where no such file or heading is", name, found[1], heading)
			}
		}
	}
}

// texts are all documents for people, by their paths.
func texts() (map[string]string, error) {
	all := map[string]string{}
	for _, pattern := range []string{"*.md", "*/*.md", "*/*/*.md"} {
		names, err := filepath.Glob(filepath.Join("..", pattern))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			all[name] = string(text)
		}
	}
	return all, nil
}

// hasHeading says whether a text has a heading with an anchor, as GitHub makes them, or
// names a place so.
func hasHeading(text, anchor string) bool {
	if strings.Contains(text, `<a id="`+anchor+`"></a>`) {
		return true
	}
	for line := range strings.Lines(text) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' {
			kept := regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), "")
			if strings.ReplaceAll(kept, " ", "-") == anchor {
				return true
			}
		}
	}
	return anchor == ""
}
