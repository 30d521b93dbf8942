package scenario

import "github.com/studioml/studio-go-runner/runner/api"

// Global and Tasks are the subjects that are no runner: the global map, and
// the tasks. Tasks with a slash and a name is one group of them.
const (
	Global = "global"
	Tasks  = "tasks"
)

// The words that stand for something else than a value.
const (
	Absent  = "absent"  // no map
	Keyless = "keyless" // a map without STATE
	None    = "none"    // no shadowed value, no effective state
	NoHost  = "unset"   // no HOSTNAME
)

// MaxRow is the last row of the catalogue.
const MaxRow = 61

// Targets are the kinds of cluster.
var Targets = []string{"embedded", "kind", "existing"}

// What may stand in the fields that take one of a few words. The JSON schema
// and the checks both read these.
var (
	needs       = words(NeedAPIServer, NeedNetwork, NeedQueueOutage, NeedSignals, NeedGPUs, NeedFakeGPUs, NeedAdmission)
	permissions = words(PermissionsShipped, PermissionsNamed, PermissionsGlobalOnly, PermissionsNone)

	phases = words(api.PhaseUnknown, api.PhaseRunning, api.PhaseDraining, api.PhaseSuspended,
		api.PhaseTerminated)
	effectives   = append(words(api.States...), None)
	drainTargets = words(api.DrainAndTerminate, api.DrainAndSuspend)
	sources      = words(api.SourceSignal, api.SourceNode, api.SourceGlobal, api.SourceDefault)

	signals         = []string{"TERM", "INT", "KILL"}
	apiserverVerbs  = []string{"stop", "start"}
	networkVerbs    = []string{"cut", "restore"} // or a duration
	queueVerbs      = []string{"hide", "restore"}
	fakegpuVerbs    = []string{"add", "heal", "inject", "mig", "remove", "set"}
	predictionParts = []string{"effective", "phase", "source", "shadowed"}
)

// words turns constants of any text type into plain texts.
func words[T ~string](constants ...T) []string {
	var texts []string
	for _, c := range constants {
		texts = append(texts, string(c))
	}
	return texts
}
