package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	. "github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/discovery"

	"github.com/studioml/studio-go-runner/e2e/catalogue"
	"github.com/studioml/studio-go-runner/e2e/engine"
	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/report"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/e2e/targets"
)

const (
	// cleanupTime is for collecting evidence, and for taking a place down.
	cleanupTime = 60 * time.Second
	// placeTime is for making a place, which may include an API server of its own: that
	// takes 2 s of a processor, of which busy machines give it little. An API server that
	// has ended is noticed sooner. It comes on top of a scenario's timeout, which the
	// engine keeps.
	placeTime = 5 * time.Minute
)

// specs makes one spec of each scenario that is meant for the target, and of some a second
// one. Those that may take longest come first, so that the run does not end with one of
// them alone; where runners are pods, that is all that is no scenario. The GPUs of
// somebody's cluster may be few, so those that use them are played one at a time.
func specs(scenarios []scenario.Scenario) {
	priority := func(s scenario.Scenario) SpecPriority {
		longest := time.Duration(s.Timeout)
		if slices.Contains(s.Needs, scenario.NeedAPIServer) {
			longest += placeTime
		}
		if config.target != "embedded" {
			longest -= 24 * time.Hour
		}
		return SpecPriority(longest / time.Second)
	}
	play := func(s scenario.Scenario, inServer bool) {
		if slices.Contains(s.Targets, scenario.Target(config.target)) {
			order, labels := []any{priority(s)}, Labels{"area:" + s.Area}
			for _, row := range s.Rows {
				labels = append(labels, fmt.Sprintf("row:%d", row))
			}
			labels = append(labels, scenario.Words(s.Labels...)...)
			if config.target == "existing" && scenario.UsesGPUsOfTarget(s.Needs) {
				order = append(order, Serial)
			}
			It(s.Name, labels, order, SpecTimeout(engine.Stretch(placeTime+time.Duration(s.Timeout))), GracePeriod(5*time.Second),
				types.CodeLocation{FileName: s.Path, LineNumber: s.Line}, func(ctx SpecContext) { playOne(ctx, s, inServer) })
		}
	}
	for _, s := range scenarios {
		embedded, both := config.target == "embedded", withBothQueues(s)
		play(s, both && !embedded)
		if both && embedded {
			s.Name, s.Rows = s.Name+", queue in a server", []catalogue.Row{75}
			s.Timeout += scenario.Duration(time.Minute) // for what begins when the lease of a dead runner is over
			play(s, true)
		}
	}
}

// withBothQueues says whether row 75 asks for a scenario with a server, too: each that shows
// only rows of 1 to 13, 45 to 51 and 77 to 80.
func withBothQueues(s scenario.Scenario) bool {
	within := func(row catalogue.Row) bool { return row <= 13 || row >= 45 && row <= 51 || row >= 77 && row <= 80 }
	return len(s.Rows) > 0 && !slices.ContainsFunc(s.Rows, func(row catalogue.Row) bool { return !within(row) })
}

// isolate makes a place, or skips the spec if the target cannot.
func isolate(ctx SpecContext, isolation targets.Isolation) targets.Env {
	GinkgoHelper()
	Expect(os.RemoveAll(isolation.Evidence)).To(Succeed())
	// Before anything can fail: nodes may be why a place does not come up.
	DeferOnFailure(func(ctx SpecContext) {
		if err := collectNodes(ctx, isolation.Evidence); err != nil {
			AddReportEntry("evidence incomplete", err.Error())
		}
	}, NodeTimeout(engine.Stretch(cleanupTime)))
	limit := engine.Stretch(placeTime)
	making, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("making a place took more than %s", limit))
	defer cancel()
	env, err := target.Isolate(making, isolation)
	if cannot := targets.Cannot(""); errors.As(err, &cannot) {
		Skip(cannot.Error())
	}
	Expect(err).NotTo(HaveOccurred())
	return env
}

// playOne has the engine play one scenario in a place of its own.
func playOne(ctx SpecContext, s scenario.Scenario, inServer bool) {
	evidence := report.Evidence(config.artifacts, s.Area, s.Name)
	env := isolate(ctx, targets.Isolation{
		Name: s.Name, Needs: s.Needs, Permissions: s.Permissions, NodeMaps: engine.NodeMaps(s), GPUs: gpus(s), Evidence: evidence,
		APIServerFlags: apiServerFlags(s), Server: inServer, Idle: engine.Idle(s),
	})
	// What is deferred runs from the last to the first: evidence, story, and the place goes.
	DeferCleanup(func(ctx SpecContext) {
		Expect(env.Close(ctx)).To(Succeed())
		if !ctx.SpecReport().Failed() && !config.keep {
			Expect(os.RemoveAll(evidence)).To(Succeed())
		}
	}, NodeTimeout(engine.Stretch(cleanupTime)))

	record := history.New()
	DeferCleanup(func() {
		if story := report.TellStory(record.Entries(), around(env)...); story != nil {
			AddReportEntry(report.StoryEntry, story, ReportEntryVisibilityNever)
		}
	})
	AddReportEntry("timeline", timeline{record}, ReportEntryVisibilityFailureOrVerbose)
	collect := func(ctx SpecContext) {
		// Best effort: the failure itself is what counts.
		if err := errors.Join(write(evidence, record), env.Collect(ctx)); err != nil {
			AddReportEntry("evidence incomplete", err.Error())
		}
	}
	if config.keep {
		DeferCleanup(collect, NodeTimeout(engine.Stretch(cleanupTime)))
	} else {
		DeferOnFailure(collect, NodeTimeout(engine.Stretch(cleanupTime)))
	}
	defer AttachProgressReporter(func() string { return engine.Latest(record) })()

	if err := engine.Run(ctx, env, s, record); err != nil {
		Fail(fmt.Sprintf("%v\nevidence: %s", err, evidence))
	}
}

var serverVersion string // of Kubernetes, once it was asked for

// around is what a scenario stands on. Its API server may be down by now.
func around(env targets.Env) []string {
	if serverVersion == "" {
		client, err := discovery.NewDiscoveryClientForConfig(env.Client().Config)
		if err != nil {
			return nil
		}
		version, err := client.ServerVersion()
		if err != nil {
			return nil
		}
		serverVersion = "Kubernetes " + version.GitVersion
	}
	return []string{serverVersion}
}

func apiServerFlags(s scenario.Scenario) map[string]string {
	flags := make(map[string]string)
	for name, value := range s.APIServerFlags {
		flags[string(name)] = value
	}
	return flags
}

// gpus is the most that one runner of a scenario has.
func gpus(s scenario.Scenario) (most int) {
	for _, r := range s.Runners {
		most = max(most, r.GPUs)
	}
	return most
}

// write leaves the record in a directory, for people and for programs.
func write(dir string, record *history.History) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "timeline.txt"), []byte(engine.Timeline(record)), 0o644); err != nil {
		return err
	}
	var lines bytes.Buffer
	if err := record.WriteJSON(&lines); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "record.jsonl"), lines.Bytes(), 0o644)
}

// timeline is written when the report is, with all that happened until then.
type timeline struct{ record *history.History }

func (t timeline) String() string { return "\n" + engine.Timeline(t.record) }
