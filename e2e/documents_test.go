package e2e_test

import (
	"cmp"
	_ "embed"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
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
	"kubectl drain":        "nodes_test.go plays it on kind",
	"kubectl port-forward": "the suite on kind reaches its queues so, see queues_test.go",
}

//go:embed testdata/cluster.sh
var cluster string

var fence = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")

func document(name string) string {
	text, err := os.ReadFile(filepath.Join("..", "runner", "deploy", name))
	if err != nil {
		panic(err)
	}
	return string(text)
}

// documentSpecs type what the documents have, from the first block to the last. A
// block of YAML is the file that its first line names.
func documentSpecs() {
	sentenceSpecs()
	It("the lines of the documents for operators work as typed", Label("area:documents"), SpecTimeout(engine.Stretch(10*time.Minute)), func(ctx SpecContext) {
		name := CurrentSpecReport().LeafNodeText
		evidence := report.Evidence(config.artifacts, "documents", name)
		env := isolate(ctx, targets.Isolation{Name: name, Needs: []scenario.Need{scenario.NeedKubectl}, Artifacts: evidence})
		DeferCleanup(func(ctx SpecContext) { Expect(env.Close(ctx)).To(Succeed()) }, NodeTimeout(engine.Stretch(cleanupTime)))
		shell, err := env.(targets.KubectlControl).Shell()
		Expect(err).NotTo(HaveOccurred())
		server, err := pgserver.Start()
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(server.Close)
		queue, err := server.Database(ctx, "fleet")
		Expect(err).NotTo(HaveOccurred())

		// What others on the same control plane may have as well gets another name.
		namespace := env.Namespace() + "-typed"
		lab, worker := regexp.MustCompile(`\blab\b`), regexp.MustCompile(`\bworker-1\b`)
		dir := GinkgoT().TempDir()
		here := strings.NewReplacer("postgres://fleet:secret@db.example/tasks", queue,
			"-- sleep 10", "-- sh -c 'until [ -e "+filepath.Join(dir, "seen")+" ]; do sleep 0.1; done'")
		script := []string{"set -e -o pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT", cluster}
		skipped := map[string]bool{}
	blocks:
		for _, found := range fence.FindAllStringSubmatch(strings.Join(slices.Collect(eachDocument), "\n"), -1) {
			language, block := found[1], lab.ReplaceAllString(found[2], namespace)
			for begin := range elsewhere {
				if strings.HasPrefix(block, begin) {
					skipped[begin] = true
					continue blocks
				}
			}
			switch language {
			case "text": // nothing to type
			case "sh":
				script = append(script, here.Replace(worker.ReplaceAllString(block, namespace)))
			case "yaml":
				first, _, _ := strings.Cut(block, "\n")
				file := filepath.Join(dir, strings.TrimPrefix(first, "# "))
				Expect(os.MkdirAll(filepath.Dir(file), 0o755)).To(Succeed())
				Expect(os.WriteFile(file, []byte(block), 0o644)).To(Succeed())
			default:
				Fail(fmt.Sprintf("a block of %q; must be sh, yaml or text:\n%s", language, block))
			}
		}
		Expect(skipped).To(HaveLen(len(elsewhere)), "each of %v must begin a block", elsewhere)

		repository, err := filepath.Abs("..")
		Expect(err).NotTo(HaveOccurred())
		Expect(os.Symlink(repository, filepath.Join(dir, "studio-go-runner"))).To(Succeed())
		Expect(os.Mkdir(filepath.Join(dir, "bin"), 0o755)).To(Succeed())
		Expect(os.Symlink(cmp.Or(config.client, config.runner), filepath.Join(dir, "bin", "runner"))).To(Succeed())
		machine := fmt.Sprintf("127.%d.%d.", 1+rand.IntN(254), rand.IntN(256))

		cmd := exec.CommandContext(ctx, "bash", "-c", strings.Join(script, "\n"))
		cmd.Dir = dir
		cmd.Env = append(append(os.Environ(), shell...), "HOME="+dir, "TMPDIR="+dir, "NAMESPACE="+namespace, "NODE="+namespace,
			"ADDRESSES="+machine+"1:8080 "+machine+"2:8080", "STUDIOML_NVML_LIBRARY=none", "STUDIOML_TERMINATION_LOG="+filepath.Join(dir, "last-words"))
		for i, variable := range cmd.Env {
			if path, ok := strings.CutPrefix(variable, "PATH="); ok {
				cmd.Env[i] = "PATH=" + filepath.Join(dir, "bin") + ":" + path
			}
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.WaitDelay = 10 * time.Second
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
		out, err := cmd.CombinedOutput()
		GinkgoWriter.Printf("%s\n", out) // whole, which gomega's words are not
		Expect(err).NotTo(HaveOccurred())
		Expect(string(out)).To(And(
			ContainSubstring("\nhello\n"), ContainSubstring("\ninside\n"),
			MatchRegexp(`StateTransition +pod/studio-go-runner-0-fghij +Unknown to Running, source global`),
			MatchRegexp(`(?m)^Phase: +Suspended`), ContainSubstring("attempt 1 of hello is in"),
			MatchRegexp(`pod/studio-go-runner-[01]-fghij still has work\n`), MatchRegexp(`(?m)^long +Finished +1 `),
			Not(ContainSubstring("poddisruptionbudget.policy/studio-go-runner-canary")),
			MatchRegexp(`(?s)configmap/studio-go-runner-1 labeled\n.*uncordoned\n.*configmap "studio-go-runner-1" deleted`)))
		Expect(os.ReadFile(filepath.Join(dir, "copy", "outputs", "answer"))).To(BeEquivalentTo("42\n"))
	})
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
	names := regexp.MustCompile(`studioml_runner_([a-z_]+)|\b(STUDIOML_[A-Z_]+)`)
	links := regexp.MustCompile(`\]\(([^)#]*)(?:#([^)]*))?\)`)
	all, err := texts()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range all {
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

// hasHeading says whether a text has a heading with an anchor, as GitHub makes them.
func hasHeading(text, anchor string) bool {
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
