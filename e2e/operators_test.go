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
	"github.com/studioml/studio-go-runner/runner/api"
)

// operatorSpecs are what those who operate a fleet do with the program, on a control
// plane alone, as in conditionSpecs.
func operatorSpecs() {
	It("drain --wait ends when every runner has acted on that version, not before", Labels{"area:workloads", "row:83"},
		SpecTimeout(engine.Stretch(7*time.Minute)), func(ctx SpecContext) {
			o := newWriter(ctx)
			k := o.kubectl
			Expect(o.kubectl.apply(ctx, "base", "components: [$DEPLOY/conditions]\n")).To(Succeed())
			for _, name := range []string{"worker-0", "worker-1", "worker-2"} {
				o.start(ctx, name)
			}
			Expect(run(ctx, k, 0, "wait", "--all", "--for=Running")).To(ContainSubstring("worker-2 is Running\n"))

			By("draining, with a task that takes its time")
			dir := GinkgoT().TempDir()
			o.submit(ctx, []string{"long"}, "sh", "-c", "cd "+dir+"; touch runs; until [ -e go-on ]; do sleep 0.1; done")
			eventually(ctx, filepath.Join(dir, "runs")).Should(BeAnExistingFile())
			drain := begin(ctx, k, "drain", "--all", "--wait", "--reason=kernel upgrade")
			eventually(ctx, drain.Out).Should(gbytes.Say(`worker-. is Draining: 1 task still runs`))
			eventually(ctx, run).WithArguments(ctx, k, 0, "state", "--phase=suspended", "-o", "name").Should(HaveLen(len("worker-0\nworker-1\n")))
			Expect(drain.ExitCode()).To(Equal(-1), "a task still runs")
			Expect(os.WriteFile(filepath.Join(dir, "go-on"), nil, 0o600)).To(Succeed())
			eventually(ctx, drain).Should(gexec.Exit(0))
			Expect(run(ctx, k, 0, "state")).To(MatchRegexp(
				`(?m)^worker-0 +DrainAndSuspend +global +Suspended +\S+ +0 +- +0/0/0 +yes +- +runner\S* +\S+ .*kernel upgrade$`))

			By("not being able to")
			Expect(run(ctx, k, 4, "wait", "--all", "--for=Running")).To(ContainSubstring("worker-0 is asked for DrainAndSuspend, source global; set by runner"))
			o.do(ctx, "create", "configmap", "wroker-1", "--from-literal=STATE=Running")
			o.do(ctx, "create", "configmap", "worker-1", "--from-literal=STATE=Running")
			Expect(run(ctx, k, 0, "state", "-o", "wide")).To(And(
				MatchRegexp(`(?m)^wroker-1 +Running +- +\? .* no runner here has this map; did you mean worker-1\?$`),
				MatchRegexp(`(?m)^worker-1 +Running +node +.* global=DrainAndSuspend +kubectl-create +\S+ +worker-1 `)))
			Expect(run(ctx, k, 4, "drain", "--all", "--wait", "--reason=again")).To(And(
				ContainSubstring("not worker-1: its own map says Running, set by kubectl-create"), ContainSubstring("this cannot come true: worker-1")))
			Expect(run(ctx, k, 1, "drain", "wroker-1", "--reason=typo")).To(ContainSubstring(`there is no runner "wroker-1" in namespace ` + o.Namespace() + `; did you mean worker-1?`))

			By("taking a map over")
			Expect(run(ctx, k, 1, "drain", "worker-*", "--reason=loud")).To(MatchRegexp(`worker-1: STATE is kubectl-create's, who set it \S+ ago; ask there, or take it over with --force-conflicts`))
			Expect(o.do(ctx, "get", "configmaps", "--output=name")).NotTo(ContainSubstring("configmap/worker-2"), "it is all or none")
			Expect(run(ctx, k, 0, "drain", "worker-1", "--reason=loud", "--force-conflicts", "--dry-run=server")).To(Equal("worker-1: STATE would be DrainAndSuspend\n"))
			Expect(run(ctx, k, 0, "drain", "worker-1", "--reason=it's loud", "--deadline=30m", "--force-conflicts", "--wait")).To(HaveSuffix("worker-1 is Suspended\n"))
			Expect(o.do(ctx, "get", "configmap", "worker-1", "--output=jsonpath={.metadata.annotations}")).To(MatchJSON(
				`{"studioml.io/drain-deadline": "30m0s", "studioml.io/reason": "it's loud"}`))

			By("doing the same with kubectl")
			lines := run(ctx, k, 0, "resume", "worker-1", "--wait", "--print")
			shell := exec.CommandContext(ctx, "bash", "-e", "-c", lines)
			shell.Env = append(os.Environ(), "KUBECONFIG="+k.kubeconfig, "PATH="+filepath.Dir(o.program)+":"+os.Getenv("PATH"))
			out, err := shell.CombinedOutput()
			Expect(err).NotTo(HaveOccurred(), "%s\n%s", lines, out)
			Expect(run(ctx, k, 0, "state", "worker-1")).To(MatchRegexp(`(?m)^worker-1 +Running +node +Running .* yes +global=DrainAndSuspend +runner\S* +\S+ +Running, not Ready since [^;]*$`), "no reason is left")

			By("waiting for a runner that is stopped")
			run(ctx, k, 0, "resume", "--all", "--wait")
			Expect(o.runners["worker-2"].Signal(ctx, syscall.SIGSTOP)).To(Succeed())
			Expect(run(ctx, k, 3, "drain", "worker-[02]", "--reason=rack", "--wait", "--timeout=30s")).To(And(
				ContainSubstring("worker-0 is Suspended\n"), MatchRegexp(`timed out after 30s: worker-2 \S+`), Not(ContainSubstring("worker-2 is Suspended"))))
			Expect(o.runners["worker-2"].Signal(ctx, syscall.SIGCONT)).To(Succeed())
			run(ctx, k, 0, "wait", "worker-2", "--for=Suspended")

			By("looking with the right to read alone")
			o.do(ctx, "create", "serviceaccount", "viewer")
			o.do(ctx, "create", "role", "viewer", "--verb=list", "--resource=pods,configmaps")
			o.do(ctx, "create", "rolebinding", "viewer", "--role=viewer", "--serviceaccount="+o.Namespace()+":viewer")
			k.kubeconfig = filepath.Join(dir, "viewer")
			token, err := o.client.CoreV1().ServiceAccounts(o.Namespace()).CreateToken(ctx, "viewer", &authnv1.TokenRequest{}, metav1.CreateOptions{})
			Expect(err).NotTo(HaveOccurred())
			o.writeKubeconfig(k.kubeconfig, token.Status.Token)
			eventually(ctx, run).WithArguments(ctx, k, -1, "state", "worker-2", "-o", "json").Should(ContainSubstring(`"reason": "rack"`))
			Expect(run(ctx, k, 1, "resume", "worker-2")).To(ContainSubstring("worker-2: the API server answers 403 Forbidden: "))
			k = o.kubectl

			By("ending all")
			run(ctx, k, 0, "resume", "worker-[02]")
			o.do(ctx, "delete", "configmap", "worker-0", "worker-1", "worker-2")
			Expect(run(ctx, k, 0, "drain", "--all", "--terminate", "--reason=rack 7 goes", "--wait")).To(ContainSubstring("worker-2 is Terminated\n"))
		})
}

// operatorsOnKind is the same where the runners are pods.
func operatorsOnKind() {
	It("drain --wait of a Job's runners, by the global map and by their node", rows(83), SpecTimeout(engine.Stretch(4*time.Minute)), SpecPriority(2), func(ctx SpecContext) {
		f := newFleet(ctx)
		f.state(ctx, api.GlobalMapName, "Running")
		f.submit(ctx, "held", 2)
		f.applyWith(ctx, "job", "- $DEPLOY/conditions\n")
		eventually(ctx, func() []string { return by(f.started("held")) }).Should(ConsistOf("studio-go-runner-0", "studio-go-runner-1"))
		drain := begin(ctx, f.kubectl, "drain", "--all", "--force-conflicts", "--wait", "--reason=kernel upgrade")
		eventually(ctx, drain.Out).Should(gbytes.Say(`studio-go-runner-. is Draining: 1 task still runs`))
		eventually(ctx, run).WithArguments(ctx, f.kubectl, 0, "state", "--phase=draining", "-o", "name").Should(Equal("studio-go-runner-0\nstudio-go-runner-1\n"))
		Expect(drain.ExitCode()).To(Equal(-1), "tasks still run")
		Expect(f.Release(ctx, "held")).To(Succeed())
		eventually(ctx, drain).Should(gexec.Exit(0))
		Expect(run(ctx, f.kubectl, 0, "state")).To(MatchRegexp(`(?m)^studio-go-runner-1 +DrainAndSuspend +global +Suspended +.* yes +.*kernel upgrade$`))

		run(ctx, f.kubectl, 0, "resume", "--all", "--wait")
		node := f.runners(ctx)[0].Spec.NodeName
		here := run(ctx, f.kubectl, 0, "state", "--node="+node, "-o", "name")
		run(ctx, f.kubectl, 0, "drain", "--node="+node, "--reason=new fan", "--wait")
		Expect(run(ctx, f.kubectl, 0, "state", "--phase=suspended", "-o", "name")).To(Equal(here))
		run(ctx, f.kubectl, 0, "drain", "--node="+node, "--reason=it goes", "--terminate", "--wait")
		run(ctx, f.kubectl, 0, "drain", "--all", "--reason=all go", "--terminate", "--wait")
		f.do(ctx, "wait", "--for=condition=complete", timeout(), "job/studio-go-runner")
	})
}

// begin types a command, where and as kubectl would do it.
func begin(ctx context.Context, k kubectl, args ...string) *gexec.Session {
	GinkgoHelper()
	cmd := exec.CommandContext(ctx, cmp.Or(config.client, config.runner), args...)
	cmd.Env = append(os.Environ(), "POD_NAMESPACE="+k.namespace)
	if k.kubeconfig != "" {
		cmd.Env = append(cmd.Env, "KUBECONFIG="+k.kubeconfig)
	}
	session, err := gexec.Start(cmd, nil, nil)
	Expect(err).NotTo(HaveOccurred())
	return session
}

// run returns what a command prints. A code below 0 is any.
func run(ctx context.Context, k kubectl, code int, args ...string) string {
	GinkgoHelper()
	session := begin(ctx, k, args...)
	Eventually(ctx, session).WithTimeout(engine.Stretch(2 * time.Minute)).Should(gexec.Exit())
	text := string(session.Out.Contents()) + string(session.Err.Contents())
	if code >= 0 {
		Expect(session.ExitCode()).To(Equal(code), "%v\n%s", args, text)
	}
	return text
}
