package engine

import (
	"cmp"
	"fmt"
	"strconv"

	"github.com/studioml/studio-go-runner/e2e/history"
	"github.com/studioml/studio-go-runner/e2e/scenario"
	"github.com/studioml/studio-go-runner/runner/api"
)

// unseen names a map of which the runner has not seen the newest version that
// the harness has, empty if there is none.
func (p *play) unseen(subject string, f *history.Facts, s *api.Status) string {
	node := p.scenario.Runners[subject].NodeMap(subject)
	for _, m := range []struct {
		name  string
		known *api.MapStatus
	}{{api.GlobalMapName, s.Maps.Global}, {node, s.Maps.Node}} {
		newest, ok := f.Maps[p.env.Namespace()+"/"+m.name]
		if !ok {
			continue // there never was one
		}
		version := ""
		if m.known != nil {
			version = m.known.ResourceVersion
		}
		if older(version, newest.ResourceVersion) || newest.Missed && version == newest.ResourceVersion {
			return fmt.Sprintf("%s is at version %s, the runner saw %s", m.name, newest.ResourceVersion, cmp.Or(version, scenario.None))
		}
	}
	return ""
}

// older compares resource versions of one kind, which are numbers that grow
// (KEP-5504). No version is older than any.
func older(a, b string) bool {
	x, errA := strconv.ParseUint(a, 10, 64)
	y, errB := strconv.ParseUint(b, 10, 64)
	return errB == nil && (errA != nil || x < y)
}
