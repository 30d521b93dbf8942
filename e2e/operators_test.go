package e2e_test

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/onsi/gomega/gexec"
	authnv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/studioml/studio-go-runner/e2e/engine"
)

// operatorSpecs are what those who operate a fleet do with the program, on a control
// plane alone, as in conditionSpecs.
func operatorSpecs() {
	It("drain --wait ends when every runner has acted on that version, not before", Labels{"area:workloads", "row:83"},
		SpecTimeout(engine.Stretch(7*time.Minute)), func(ctx SpecContext) {
			o := operator{newWriter(ctx), ""}
			o.kubeconfig = o.kubectl.kubeconfig
			Expect(o.kubectl.apply(ctx, "base", "components: [$DEPLOY/conditions]\n")).To(Succeed())
			for _, name := range []string{"worker-0", "worker-1", "worker-2"} {
				o.start(ctx, name)
			}
			Expect(o.run(ctx, 0, "wait", "--all", "--for=Running")).To(ContainSubstring("worker-2 is Running\n"))

			By("draining, with a task that takes its time")
			dir := GinkgoT().TempDir()
			o.submit(ctx, []string{"long"}, "sh", "-c", "cd "+dir+"; touch runs; until [ -e go-on ]; do sleep 0.1; done")
			eventually(ctx, filepath.Join(dir, "runs")).Should(BeAnExistingFile())
			drain := o.begin(ctx, "drain", "--all", "--wait", "--reason=kernel upgrade")
			eventually(ctx, drain.Out).Should(gbytes.Say(`worker-. is Draining: 1 task still runs\n`))
			eventually(ctx, func() string { return o.run(ctx, 0, "state", "--phase=suspended", "-o", "name") }).Should(HaveLen(len("worker-0\nworker-1\n")))
			Expect(drain.ExitCode()).To(Equal(-1), "a task still runs")
			Expect(os.WriteFile(filepath.Join(dir, "go-on"), nil, 0o600)).To(Succeed())
			eventually(ctx, drain).Should(gexec.Exit(0))
			Expect(o.run(ctx, 0, "state")).To(MatchRegexp(
				`(?m)^worker-0 +DrainAndSuspend +global +Suspended +\S+ +0 +- +0/0/0 +yes +- +runner\S* +\S+ .*kernel upgrade$`))

			By("not being able to")
			Expect(o.run(ctx, 4, "wait", "--all", "--for=Running")).To(ContainSubstring("worker-0 is asked for DrainAndSuspend, source global; set by runner"))
			o.do(ctx, "create", "configmap", "wroker-1", "--from-literal=STATE=Running")
			o.do(ctx, "create", "configmap", "worker-1", "--from-literal=STATE=Running")
			Expect(o.run(ctx, 0, "state", "-o", "wide")).To(And(
				MatchRegexp(`(?m)^wroker-1 +Running +- +\? .* no runner here has this map; did you mean worker-1\?$`),
				MatchRegexp(`(?m)^worker-1 +Running +node +.* global=DrainAndSuspend +kubectl-create +\S+ +worker-1 `)))
			Expect(o.run(ctx, 4, "drain", "--all", "--wait", "--reason=again")).To(And(
				ContainSubstring("not worker-1: its own map says Running, set by kubectl-create"), ContainSubstring("this cannot come true: worker-1")))
			Expect(o.run(ctx, 1, "drain", "wroker-1", "--reason=typo")).To(ContainSubstring(`there is no runner "wroker-1" in namespace ` + o.Namespace() + `; did you mean worker-1?`))

			By("taking a map over")
			Expect(o.run(ctx, 1, "drain", "worker-*", "--reason=loud")).To(MatchRegexp(`worker-1: STATE is kubectl-create's, who set it \S+ ago; ask there, or take it over with --force-conflicts`))
			Expect(o.do(ctx, "get", "configmaps", "--output=name")).NotTo(ContainSubstring("configmap/worker-2"), "it is all or none")
			Expect(o.run(ctx, 0, "drain", "worker-1", "--reason=loud", "--force-conflicts", "--dry-run=server")).To(Equal("worker-1: STATE would be DrainAndSuspend\n"))
			Expect(o.run(ctx, 0, "drain", "worker-1", "--reason=it's loud", "--deadline=30m", "--force-conflicts", "--wait")).To(HaveSuffix("worker-1 is Suspended\n"))
			Expect(o.do(ctx, "get", "configmap", "worker-1", "--output=jsonpath={.metadata.annotations}")).To(MatchJSON(
				`{"studioml.io/drain-deadline": "30m0s", "studioml.io/reason": "it's loud"}`))

			By("doing the same with kubectl")
			lines := o.run(ctx, 0, "resume", "worker-1", "--wait", "--print")
			shell := exec.CommandContext(ctx, "bash", "-e", "-c", lines)
			shell.Env = append(os.Environ(), "KUBECONFIG="+o.kubeconfig, "PATH="+filepath.Dir(o.program)+":"+os.Getenv("PATH"))
			out, err := shell.CombinedOutput()
			Expect(err).NotTo(HaveOccurred(), "%s\n%s", lines, out)
			Expect(o.run(ctx, 0, "state", "worker-1")).To(MatchRegexp(`(?m)^worker-1 +Running +node +Running .* yes +global=DrainAndSuspend +runner\S* +\S+ +\S*$`))

			By("waiting for a runner that is stopped")
			o.run(ctx, 0, "resume", "--all", "--wait")
			Expect(o.runners["worker-2"].Signal(ctx, syscall.SIGSTOP)).To(Succeed())
			Expect(o.run(ctx, 3, "drain", "worker-[02]", "--reason=rack", "--wait", "--timeout=10s")).To(And(
				ContainSubstring("worker-0 is Suspended\n"), MatchRegexp(`timed out after 10s: worker-2 \S+`), Not(ContainSubstring("worker-2 is Suspended"))))
			Expect(o.runners["worker-2"].Signal(ctx, syscall.SIGCONT)).To(Succeed())
			o.run(ctx, 0, "wait", "worker-2", "--for=Suspended")

			By("looking with the right to read alone")
			o.do(ctx, "create", "serviceaccount", "viewer")
			o.do(ctx, "create", "role", "viewer", "--verb=list", "--resource=pods,configmaps")
			o.do(ctx, "create", "rolebinding", "viewer", "--role=viewer", "--serviceaccount="+o.Namespace()+":viewer")
			file := filepath.Join(dir, "viewer")
			o.kubeconfig = file
			token, err := o.client.CoreV1().ServiceAccounts(o.Namespace()).CreateToken(ctx, "viewer", &authnv1.TokenRequest{}, metav1.CreateOptions{})
			Expect(err).NotTo(HaveOccurred())
			o.writeKubeconfig(file, token.Status.Token)
			eventually(ctx, o.run).WithArguments(ctx, -1, "state", "worker-2", "-o", "json").Should(ContainSubstring(`"reason": "rack"`))
			Expect(o.run(ctx, 1, "resume", "worker-2")).To(ContainSubstring("worker-2: the API server answers 403 Forbidden: "))
			o.kubeconfig = o.kubectl.kubeconfig

			By("ending all")
			o.run(ctx, 0, "resume", "worker-[02]")
			o.do(ctx, "delete", "configmap", "worker-0", "worker-1", "worker-2")
			Expect(o.run(ctx, 0, "drain", "--all", "--terminate", "--reason=rack 7 goes", "--wait")).To(ContainSubstring("worker-2 is Terminated\n"))
		})
}

// operator types commands.
type operator struct {
	*writer
	kubeconfig string
}

func (o *operator) begin(ctx context.Context, args ...string) *gexec.Session {
	GinkgoHelper()
	cmd := exec.CommandContext(ctx, cmp.Or(config.client, config.runner), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+o.kubeconfig, "POD_NAMESPACE="+o.Namespace())
	session, err := gexec.Start(cmd, nil, nil)
	Expect(err).NotTo(HaveOccurred())
	return session
}

// run returns what a command prints. A code below 0 is any.
func (o *operator) run(ctx context.Context, code int, args ...string) string {
	GinkgoHelper()
	session := o.begin(ctx, args...)
	Eventually(ctx, session).WithTimeout(engine.Stretch(2 * time.Minute)).Should(gexec.Exit())
	text := string(session.Out.Contents()) + string(session.Err.Contents())
	if code >= 0 {
		Expect(session.ExitCode()).To(Equal(code), "%v\n%s", args, text)
	}
	return text
}
