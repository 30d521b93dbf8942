package fleet_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/studioml/studio-go-runner/runner/api"
	"github.com/studioml/studio-go-runner/runner/internal/fleet"
	"github.com/studioml/studio-go-runner/runner/internal/statemap"
)

// parse reads pods or maps as the API server has them.
func parse[T any](t *testing.T, text string) (all []T) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// pod is one whose runner says something of itself.
func pod(name, status string, more ...string) string {
	return fmt.Sprintf("- {metadata: {name: %s-x, creationTimestamp: '2026-11-27T10:00:00Z', annotations: {studioml.io/status: '%s'}}, spec: {nodeName: n1, hostname: %s}, status: {%s}}\n",
		name, status, name, strings.Join(append([]string{"phase: Running"}, more...), ", "))
}

// says is what a runner reports: its phase, what it obeys, and of both maps the version and the value.
func says(phase, effective, global, node string) string {
	seen := func(name, version string) string {
		version, value, present := strings.Cut(version, "=")
		return fmt.Sprintf(`{"name":%q,"readable":true,"present":%t,"value":%q,"resourceVersion":%q}`, name, present, value, version)
	}
	return fmt.Sprintf(`{"started":"2026-11-27T10:00:05.5Z","phase":%q,"effective":%q,"source":"node","reason":"2 tasks still run","maps":{"global":%s,"node":%s}}`,
		phase, effective, seen("studioml-go-runner", global), seen("w", node))
}

func stateMap(name, version, state string) string {
	return fmt.Sprintf("- {metadata: {name: %s, resourceVersion: '%s', annotations: {studioml.io/reason: because}, managedFields: [{manager: early, time: '2026-11-27T09:00:00Z', fieldsV1: {'f:data': {'f:STATE': {}}}}, "+
		"{manager: alice, time: '2026-11-27T10:00:00Z', fieldsV1: {'f:data': {'f:STATE': {}}}}, {manager: other, time: '2026-11-27T11:00:00Z', fieldsV1: {'f:data': {'f:NOTE': {}}}}]}, data: {STATE: %s}}\n", name, version, state)
}

// What is missing until a runner is what is waited for, for all that may be.
func TestMissing(t *testing.T) {
	running := `containerStatuses: [{name: runner, state: {running: {startedAt: '2026-11-27T10:00:05Z'}}}]`
	restarted := `containerStatuses: [{name: runner, state: {running: {startedAt: '2026-11-27T11:00:00Z'}}, lastState: {terminated: {exitCode: 137, reason: OOMKilled}}}]`
	crashing := `containerStatuses: [{name: aside, state: {running: {}}}, {name: runner, state: {waiting: {reason: CrashLoopBackOff, message: back-off}}, lastState: {terminated: {exitCode: 1, message: no queue}}}]`
	ended := `containerStatuses: [{name: runner, state: {terminated: {startedAt: '2026-11-27T10:00:05Z', exitCode: 0, message: drained because}}}]`
	suspended := says("Suspended", "DrainAndSuspend", "7=DrainAndSuspend", "9")
	global, node := stateMap("studioml-go-runner", "7", "DrainAndSuspend"), stateMap("w", "8", "Running")
	for _, test := range []struct {
		name, pods, maps string
		phase            api.Phase
		want             string
		never            bool
	}{
		{"it is so", pod("w", suspended, running), global, "Suspended", "", false},
		{"a control plane without kubelets", pod("w", suspended), global, "Suspended", "", false},
		{"a later version was seen", pod("w", says("Suspended", "DrainAndSuspend", "11=DrainAndSuspend", "9")), global, "Suspended", "", false},
		{"it runs tasks", pod("w", says("Draining", "DrainAndSuspend", "7=DrainAndSuspend", "9"), running), global, "Suspended", "is Draining: 2 tasks still run", false},
		{"it has not seen the map", pod("w", says("Suspended", "DrainAndSuspend", "6=DrainAndSuspend", "9")), global, "Suspended", "has not seen the newest version of both maps", false},
		{"versions are numbers", pod("w", says("Suspended", "DrainAndSuspend", "10=DrainAndSuspend", "9")), strings.ReplaceAll(global, "'7'", "'9'"), "Suspended", "", false},
		{"nor a node map that says the same", pod("w", suspended), global + stateMap("w", "12", "DrainAndSuspend"), "Suspended", "has not seen the newest version of both maps", false},
		{"nor the deletion of one", pod("w", says("Suspended", "DrainAndSuspend", "7=DrainAndSuspend", "8=DrainAndSuspend")), global, "Suspended", "has not seen the newest version of both maps", false},
		{"its own map outranks", pod("w", says("Running", "Running", "7=DrainAndSuspend", "8=Running")), global + node, "Suspended", "is asked for Running, source node; set by alice; because", true},
		{"nobody asks for it", pod("w", says("Running", "Running", "7", "8")), "", "Suspended", "is asked for Running, source default", true},
		{"another state is asked for", pod("w", suspended), global, "Terminated", "is asked for DrainAndSuspend, source global; set by alice; because", true},
		{"a typo", pod("w", says("Running", "Running", "7", "8")), stateMap("w", "8", "Suspend"), "Suspended",
			`is asked for Running, source default; ConfigMap "w": STATE is "Suspend"; must be Running, DrainAndTerminate or DrainAndSuspend; the map counts as unset`, true},
		{"a typo over a value in force", pod("w", says("Suspended", "DrainAndSuspend", "7", "8=DrainAndSuspend")), stateMap("w", "8", "Sorry"), "Suspended", "", false},
		{"it started again since", pod("w", suspended, restarted), global, "Suspended", "says nothing of itself; may it write to its pod? See runner/deploy/conditions", false},
		{"it crashes", pod("w", suspended, crashing), global, "Suspended", "CrashLoopBackOff: has ended with 1: no queue", false},
		{"it may not write to its pod", pod("w", ""), global, "Suspended", "says nothing of itself; may it write to its pod? See runner/deploy/conditions", false},
		{"it is stopped, and says what was so", pod("w", says("Running", "Running", "6", "5"), running, "conditions: [{type: Ready, status: 'False', lastTransitionTime: '2026-11-27T10:30:00Z'}]"), global, "Suspended", "has not seen the newest version of both maps; Running, not Ready since ", false},
		{"it waits for a node", pod("w", "", "conditions: [{type: PodScheduled, status: 'False', message: no GPU}]"), global, "Suspended", ": no GPU", false},
		{"it is about to start again", pod("w", suspended, ended), global, "Suspended", "has ended with 0: drained because", false},
		{"it has ended", pod("w", suspended, "phase: Succeeded", ended), global, "Suspended", "has ended with 0: drained because", true},
		{"it has ended, as was asked", pod("w", "", "phase: Succeeded", ended), stateMap("w", "8", "DrainAndTerminate"), "Terminated", "", false},
		{"it was ended, and another comes", pod("w", "", "phase: Failed", "reason: Evicted"), global, "Suspended", "has ended: Evicted", false},
		{"it parks", pod("w", says("Terminated", "DrainAndTerminate", "7", "8=DrainAndTerminate"), running), stateMap("w", "8", "DrainAndTerminate"), "Terminated", "", false},
		{"its container waits, and nobody knows why", pod("w", suspended, `containerStatuses: [{name: runner, state: {waiting: {}}}]`), global, "Suspended", "its container waits", false},
		{"a map that it obeys is gone", pod("w", suspended), "", "Suspended", "is asked for Running, source default; a map that it obeyed was deleted", false},
		{"its own limit", pod("w", strings.Replace(says("Draining", "Running", "7", "8"), `"source":"node"`, `"source":"limit"`, 1), running), "", "Terminated", "is Draining: 2 tasks still run", false},
	} {
		pods := strings.ReplaceAll(test.pods, "phase: Running, phase:", "phase:")
		runners := fleet.Runners(parse[fleet.Pod](t, pods), parse[statemap.ConfigMap](t, test.maps))
		if len(runners) != 1 {
			t.Errorf("%s: %d runners: %+v", test.name, len(runners), runners)
			continue
		}
		missing, never := runners[0].Missing(test.phase)
		if never != test.never || (missing != test.want && (test.want == "" || !strings.Contains(missing, test.want))) {
			t.Errorf("%s: got %q, %t, want %q, %t", test.name, missing, never, test.want, test.never)
		}
	}
}

// Who is shown under which name, with what the maps say.
func TestRunners(t *testing.T) {
	pods := parse[fleet.Pod](t, pod("w", says("Suspended", "DrainAndSuspend", "7=DrainAndSuspend", "8=Running"))+`
- {metadata: {name: old, creationTimestamp: '2026-11-26T10:00:00Z'}, spec: {hostname: w}, status: {phase: Failed}}
- {metadata: {name: plain}, spec: {nodeName: n2}, status: {phase: Pending}}
- {metadata: {name: host-net}, spec: {nodeName: n3, hostNetwork: true}}
- {metadata: {name: long-`+strings.Repeat("a", 57)+`-cut}}
- {metadata: {name: renamed}, spec: {hostname: r, containers: [{}, {env: [{name: HOSTNAME, value: other}]}]}}
`)
	maps := parse[statemap.ConfigMap](t, stateMap("studioml-go-runner", "7", "DrainAndSuspend")+stateMap("w", "8", "Running")+
		stateMap("palin", "8", "DrainAndSuspend")+`
- {metadata: {name: lower}, data: {state: Running}}
- {metadata: {name: file}, data: {app.env: "STATE=Running"}}
- {metadata: {name: plain}, data: {other: x}}
`)
	var got []string
	for _, r := range fleet.Runners(pods, maps) {
		shadowed := api.Shadowed{}
		if r.Shadowed != nil {
			shadowed = *r.Shadowed
		}
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s %s %s %t %s", r.Name, r.Pod, r.Node, r.Effective, r.Source, shadowed.Value, r.SetBy, r.Stray, r.Reason)))
	}
	want := []string{
		"long-" + strings.Repeat("a", 57) + " long-" + strings.Repeat("a", 57) + "-cut  DrainAndSuspend global  alice false because",
		"lower       true",
		"n3 host-net n3 DrainAndSuspend global  alice false because",
		"other renamed  DrainAndSuspend global  alice false because",
		"palin   DrainAndSuspend   alice true because",
		"plain plain n2 DrainAndSuspend global  alice false because",
		"w w-x n1 Running node DrainAndSuspend alice false because",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, r := range fleet.Runners(pods, maps) {
		if r.Name == "palin" && !strings.HasSuffix(r.Problem, "did you mean plain?") {
			t.Errorf("the stray map has the problem %q", r.Problem)
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
	}
}
