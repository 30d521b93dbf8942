package scenario

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/studioml/studio-go-runner/runner/api"
)

// Global, Tasks and Runners are the subjects that are no runner: the global map,
// all tasks, and all runners of the file. Tasks with a slash and a name is one
// group of them; runners joined by a plus sign are taken together.
const (
	Global  = "global"
	Tasks   = "tasks"
	Runners = "runners"
)

// The words that stand for something else than a value.
const (
	Absent  = "absent"  // no map
	Keyless = "keyless" // a map without STATE
	None    = "none"    // no shadowed value, no effective state
	NoHost  = "unset"   // no HOSTNAME
)

// words is a type of which files can have a few words only.
type words interface{ Words() []string }

// Words turns constants of any text type into plain texts.
func Words[T ~string](constants ...T) []string {
	var texts []string
	for _, c := range constants {
		texts = append(texts, string(c))
	}
	return texts
}

// Target is a kind of cluster.
type Target string

// Targets are all of them.
var Targets = []Target{"embedded", "kind", "existing"}

// Need is an ability that not every target has.
type Need string

// The abilities.
const (
	// NeedAPIServer: the API server is the scenario's own: it can be stopped and
	// started, and have flags.
	NeedAPIServer Need = "apiserver"
	// NeedNetwork: what lies between the runners and the API server can be changed.
	NeedNetwork Need = "network"
	// NeedToken: the token of the runners' service account can be changed.
	NeedToken Need = "token"
	// NeedQueueOutage: the queue can be made unreachable.
	NeedQueueOutage Need = "queue-outage"
	// NeedOlder: there is the program of a release of before, by which all tasks of the
	// scenario are submitted.
	NeedOlder Need = "older-release"
	// NeedSignals: a runner can be sent any signal, any number of times.
	NeedSignals Need = "signals"
	// NeedGPUs: runners can have GPUs, real or fake.
	NeedGPUs Need = "gpus"
	// NeedFakeGPUs: the GPUs are fake, and can be changed by the fakegpu command.
	NeedFakeGPUs Need = "fake-gpus"
	// NeedKubectl: there is kubectl, with all rights in the runners' namespace.
	NeedKubectl Need = "kubectl"
	// NeedAdmission: the shipped admission policy, which is for the whole
	// cluster, can be installed.
	NeedAdmission Need = "admission"
)

// needs are all of them.
var needs = []Need{
	NeedAPIServer, NeedNetwork, NeedToken, NeedQueueOutage, NeedOlder,
	NeedSignals, NeedGPUs, NeedFakeGPUs, NeedKubectl, NeedAdmission,
}

// UsesGPUsOfTarget says whether needs ask for GPUs as the target has them. Those
// that a scenario changes are fake, and of that scenario alone.
func UsesGPUsOfTarget(needs []Need) bool {
	return slices.Contains(needs, NeedGPUs) && !slices.Contains(needs, NeedFakeGPUs)
}

// Permissions is a set of rights of the runners' service account.
type Permissions string

// The sets. Shipped is the namespace-wide Role of runner/deploy, Named the one
// that allows only the maps' names.
const (
	PermissionsShipped    Permissions = "shipped"
	PermissionsNamed      Permissions = "named"
	PermissionsGlobalOnly Permissions = "global-only"
	PermissionsNone       Permissions = "none"
)

// Token is what happens to the token of the runners' service account.
type Token string

// The tokens.
const (
	TokenRotate Token = "rotate" // replaced by a new one
	TokenExpire Token = "expire" // its time is over
	TokenRevoke Token = "revoke" // its service account was made anew
)

// Words are those that files can have.
func (Target) Words() []string { return Words(Targets...) }
func (Need) Words() []string   { return Words(needs...) }
func (Permissions) Words() []string {
	return Words(PermissionsShipped, PermissionsNamed, PermissionsGlobalOnly, PermissionsNone)
}
func (Token) Words() []string { return Words(TokenRotate, TokenExpire, TokenRevoke) }

// Duration is a time.Duration written as 500ms; files have positive ones only.
type Duration time.Duration

// String returns the duration as it stands in a file.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText returns the duration as it stands in a file.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(text []byte) error {
	read, err := time.ParseDuration(string(text))
	if err != nil || read <= 0 {
		return errors.New("must be " + positive)
	}
	*d = Duration(read)
	return nil
}

const positive = "a positive duration, such as 90s"

// The texts that follow a rule of their own. Each checks itself.
type (
	// Name is a label or the name of a group.
	Name string
	// Flag is the name of a flag without dashes.
	Flag string
	// RunnerName is a runner of the file.
	RunnerName string
	// MapName is a map by its subject: global, or a runner of the file.
	MapName string
	// Group is a group of tasks that an earlier step has submitted.
	Group string
	// Mark is a point of the record that an earlier step has marked, and NewMark
	// marks one.
	Mark    string
	NewMark string
)

var flagRule = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// Check wants a flag.
func (f Flag) Check(c *Checker, at string) {
	if !flagRule.MatchString(string(f)) {
		c.Bad(at, "flag %s cannot be one; write it without dashes in front", quote(string(f)))
	}
}

// Check wants a runner of the file.
func (r RunnerName) Check(c *Checker, at string) { c.subject(at, string(r)) }

// Check wants the subject of a map.
func (m MapName) Check(c *Checker, at string) { c.subject(at, string(m), Global) }

// Check wants a group that was submitted.
func (g Group) Check(c *Checker, at string) {
	if c.Groups[g] == nil {
		c.Bad(at, "no earlier step submits group %s%s", quote(string(g)), api.DidYouMean(string(g), slices.Sorted(maps.Keys(c.Groups))))
	}
}

// Check wants a mark that was set.
func (m Mark) Check(c *Checker, at string) {
	if !slices.Contains(c.marks, string(m)) {
		c.Bad(at, "no earlier step marks %s%s", quote(string(m)), api.DidYouMean(string(m), c.marks))
	}
}

// Check lets later steps name the mark.
func (m NewMark) Check(c *Checker, at string) {
	if slices.Contains(c.marks, string(m)) {
		c.Bad(at, "%s was marked before", quote(string(m)))
	}
	c.marks = append(c.marks, string(m))
}

// NodeMap is the name of the node map of the runner with that name, which counts where
// there is no HOSTNAME, too. It is empty where the contract has none: where that is no
// legal name, or the global map's.
func (r Runner) NodeMap(name string) string {
	host := name
	if r.Hostname != "" && r.Hostname != NoHost {
		host = r.Hostname
	}
	if host == api.GlobalMapName || validation.IsDNS1123Subdomain(host) != nil {
		return ""
	}
	return host
}

// UnmarshalText reads the short form of a map.
func (m *Map) UnmarshalText(text []byte) error {
	switch string(text) {
	case Absent:
		*m = Map{Absent: true}
	case Keyless:
		*m = Map{Data: map[string]string{"NOTE": "a map without STATE"}}
	default:
		*m = Map{Data: map[string]string{api.StateKey: string(text)}}
	}
	return nil
}
