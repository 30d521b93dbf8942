package e2e_test

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

// typist types the blocks of documents, in a directory of its own.
type typist struct {
	dir       string
	here      *strings.Replacer // what is called otherwise here
	namespace string            // in place of lab
	elsewhere map[string]string // the blocks that are left out, by how they begin, and why
}

// newTypist makes the directory: with the checkout that FLEET.md wants to be there, and
// the programs.
func newTypist(namespace string, elsewhere map[string]string) *typist {
	GinkgoHelper()
	t := &typist{dir: GinkgoT().TempDir(), namespace: namespace, elsewhere: elsewhere}
	repository, err := filepath.Abs("..")
	Expect(err).NotTo(HaveOccurred())
	Expect(os.Symlink(repository, filepath.Join(t.dir, "studio-go-runner"))).To(Succeed())
	Expect(os.Mkdir(filepath.Join(t.dir, "bin"), 0o755)).To(Succeed())
	for name, file := range map[string]string{
		"runner": cmp.Or(config.client, config.runner), "fakegpu": filepath.Join(repository, "bin", "fakegpu"),
		"libnvidia-ml.so.1": filepath.Join(repository, "bin", "libnvidia-ml.so.1"),
	} {
		Expect(os.Symlink(file, filepath.Join(t.dir, "bin", name))).To(Succeed())
	}
	return t
}

var (
	fence = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")
	lab   = regexp.MustCompile(`\blab\b`)
)

// says is a piece of a document in the words of here.
func (t *typist) says(text string) string {
	return t.here.Replace(lab.ReplaceAllString(text, t.namespace))
}

// lines are the blocks of shell of a text, from the first to the last. A block of YAML
// becomes the file that its first line names.
func (t *typist) lines(text string) (script []string) {
	GinkgoHelper()
	left := maps.Clone(t.elsewhere)
blocks:
	for _, found := range fence.FindAllStringSubmatch(text, -1) {
		language, block := found[1], found[2]
		for begin := range t.elsewhere {
			if strings.HasPrefix(block, begin) {
				delete(left, begin)
				continue blocks
			}
		}
		switch language {
		case "text": // nothing to type
		case "sh":
			script = append(script, t.says(block))
		case "yaml":
			block = t.says(block)
			first, _, _ := strings.Cut(block, "\n")
			t.write(strings.TrimPrefix(first, "# "), block)
		default:
			Fail(fmt.Sprintf("a block of %q; must be sh, yaml or text:\n%s", language, block))
		}
	}
	Expect(left).To(BeEmpty(), "each of these must begin a block")
	return script
}

func (t *typist) write(name, text string) {
	GinkgoHelper()
	file := filepath.Join(t.dir, name)
	Expect(os.MkdirAll(filepath.Dir(file), 0o755)).To(Succeed())
	Expect(os.WriteFile(file, []byte(text), 0o600)).To(Succeed())
}

// types has a shell read a script, with more variables, and returns what is printed. A
// line that fails ends it.
func (t *typist) types(ctx SpecContext, script []string, variables ...string) string {
	GinkgoHelper()
	begin := []string{
		"set -e -o pipefail",
		`trap 'echo "this line fails: $BASH_COMMAND"' ERR`,
		"trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT",
	}
	cmd := exec.CommandContext(ctx, "bash", "-c", strings.Join(append(begin, script...), "\n"))
	cmd.Dir = t.dir
	cmd.Env = slices.Concat(os.Environ(), variables, []string{"HOME=" + t.dir, "TMPDIR=" + t.dir, "NAMESPACE=" + t.namespace})
	for i, variable := range cmd.Env {
		if path, ok := strings.CutPrefix(variable, "PATH="); ok {
			cmd.Env[i] = "PATH=" + filepath.Join(t.dir, "bin") + ":" + path
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 10 * time.Second
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	out, err := cmd.CombinedOutput()
	GinkgoWriter.Printf("%s\n", out) // whole, which gomega's words are not
	Expect(err).NotTo(HaveOccurred())
	return string(out)
}
