package engine

import "github.com/studioml/studio-go-runner/e2e/scenario"

func init() {
	add(scenario.Verb{Name: "admission", Need: scenario.NeedAdmission,
		Doc: "Installs the shipped ValidatingAdmissionPolicy for the scenario's namespace, and waits until it is enforced."}, admission.do)
}

type admission bool

func (a admission) Check(c *scenario.Checker, at string) {
	if !a {
		c.Bad(at, "is false; must be true")
	}
}

func (admission) do(p *play) error { return p.bounded(clusterBudget, p.env.Admission) }
