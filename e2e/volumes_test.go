package e2e_test

import (
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/report"
	"github.com/studioml/studio-go-runner/runner/api"
)

// volumeSpecs measure what others do who want to steer pods with a ConfigMap: they mount
// it, and the kubelet writes its changes into the volume when it comes by.
func volumeSpecs() {
	It("a runner obeys a change of its map long before a volume with that map has it", Labels{"area:workloads"},
		SpecTimeout(engine.Stretch(5*time.Minute)), SpecPriority(5), func(ctx SpecContext) {
			f := newFleet(ctx)
			f.state(ctx, api.GlobalMapName, "Running")
			f.apply(ctx, "statefulset", `
- {op: replace, path: /spec/replicas, value: 1}
- {op: add, path: /spec/template/spec/volumes/-, value: {name: maps, configMap: {name: `+api.GlobalMapName+`}}}
- {op: add, path: /spec/template/spec/containers/0/volumeMounts/-, value: {name: maps, mountPath: /maps}}
`)
			eventually(ctx, f.phases).WithArguments(ctx).Should(HaveExactElements("Running"))
			// The drain ends when the task has seen the file, so the runner tells both.
			Expect(f.Env.Submit(ctx, []api.Task{{ID: "looks", Command: "sh", Args: []string{"-c", "until grep Suspend /maps/STATE; do sleep 0.5; done"}}})).To(Succeed())
			said := func(phase api.Phase, running int) (at time.Time) {
				GinkgoHelper()
				eventually(ctx, func() bool {
					all := f.record.Entries()
					i := slices.IndexFunc(all, func(e history.Entry) bool {
						return e.Status != nil && e.Status.Phase == phase && e.Status.Tasks.Running == running
					})
					if i >= 0 {
						at = all[i].Time
					}
					return i >= 0
				}).Should(BeTrue())
				return at
			}
			said(api.PhaseRunning, 1)
			written := time.Now()
			f.state(ctx, api.GlobalMapName, "DrainAndSuspend")
			reported, inVolume := said(api.PhaseDraining, 1).Sub(written), said(api.PhaseSuspended, 0).Sub(written)
			Expect(reported).To(BeNumerically("<", inVolume))
			AddReportEntry(report.MeasuredEntry, map[string]float64{"reported-s": reported.Seconds(), "volume-s": inVolume.Seconds()}, ReportEntryVisibilityNever)
		})
}
