package e2e_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/studioml/studio-go-runner/e2e/engine"
)

// demoSpecs are about make run beside what it shows, which is a scenario: that
// nothing is left of it, whatever ends it.
func demoSpecs() {
	const limit = 5 * time.Minute // for a control plane to come up beside others
	spec := func(name string, end syscall.Signal, group bool, command ...string) {
		It("make run ends with "+name, Label("area:demo"), SpecTimeout(engine.Stretch(limit)), func(ctx SpecContext) {
			place := GinkgoT().TempDir()
			var out screenText
			cmd := exec.CommandContext(ctx, command[0], command[1:]...)
			cmd.Dir, cmd.Stdout, cmd.Stderr = "..", &out, &out
			cmd.Env = append(slices.DeleteFunc(os.Environ(), ofMake), "TMPDIR="+place)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			cmd.WaitDelay = time.Minute // for what is to end with it
			Expect(cmd.Start()).To(Succeed())
			Eventually(ctx, out.String).Should(And(ContainSubstring("runner-a  Running"), ContainSubstring("runner-b  Running")))
			Expect(runsIn(place)).NotTo(BeEmpty())
			pid := cmd.Process.Pid
			if group {
				pid = -pid // as the kernel does for the keys of a terminal
			}
			Expect(syscall.Kill(pid, end)).To(Succeed())
			err := cmd.Wait()
			Eventually(ctx, func() []string { return runsIn(place) }).Should(BeEmpty())
			Eventually(ctx, func() ([]os.DirEntry, error) { return os.ReadDir(place) }).Should(BeEmpty())
			Expect(out.String()).NotTo(ContainSubstring("Error"))
			if status := cmd.ProcessState.Sys().(syscall.WaitStatus); group || end == syscall.SIGKILL {
				Expect(status.Signal()).To(Equal(end), "%v", err) // make itself; a shell says 130
			} else {
				Expect(err).NotTo(HaveOccurred())
			}
		})
	}
	demo := filepath.Join("bin", "e2e")
	spec("Ctrl-C", syscall.SIGINT, true, "make", "--no-print-directory", "--old-file=build", "--old-file="+demo, "run")
	spec("its terminal", syscall.SIGHUP, false, demo, "demo")
	spec("SIGKILL", syscall.SIGKILL, false, demo, "demo")
}

// ofMake says whether a variable is for the makes below the one that runs the suite.
func ofMake(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	return slices.Contains([]string{"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}, name)
}

// runsIn returns the processes that name a directory, or something in it.
func runsIn(dir string) (commands []string) {
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, process := range all {
		// What has ended meanwhile, and what is somebody else's, has nothing to read.
		command, _ := os.ReadFile(filepath.Join(process, "cmdline"))
		environ, _ := os.ReadFile(filepath.Join(process, "environ"))
		if bytes.Contains(append(command, environ...), []byte(dir)) {
			commands = append(commands, strings.ReplaceAll(string(command), "\x00", " "))
		}
	}
	return commands
}

// screenText is what a program prints, to be read meanwhile.
type screenText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screenText) Write(text []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(text)
}

func (s *screenText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}
