// Package e2e proves the contract: it plays the scenarios of ../scenarios on a
// target and looks at what the runners do.
//
// Run it with make:
//
//	make e2e                                       # all scenarios, on kind or embedded
//	make e2e TARGET=embedded                       # likewise kind, existing
//	make e2e FOCUS='two flips'                     # those whose name matches
//	make e2e LABELS='row: containsAny {16, 17}'    # those that show a row
//	make e2e LABELS='area: consistsOf {drain}'     # those of a folder
//	make e2e REPEAT=10
//
// Or with go test, once the binaries are built:
//
//	go test -timeout=45m ./e2e -args -e2e.target=embedded -ginkgo.v
//
// Each -e2e flag has an environment variable as its default, see go test ./e2e
// -args -h. E2E_TIME_FACTOR=3 gives everything three times the time, for slow
// and busy machines.
//
// Each scenario is one spec, in a place of its own (a namespace, a service
// account, a queue), so that specs run at the same time, but for those that use
// the cluster's GPUs or harm its nodes. Its labels are
// area:<folder>, row:<number> for each row of the catalogue, target:<target>,
// and what its file adds. The location of a spec is the line of its file:
// failures lead there.
//
// The packages: scenario is the format, oracle an independent statement of the
// rules for expected values, engine plays a scenario, history is its record,
// crowd is ConfigMaps that concern no runner, targets says what a cluster must be able to do; targets/embedded is one, and
// targets/pods is one whose runners are pods. Both use targets/place. None of them imports anything of the runner
// but the package api, the words on the wire, and the shipped manifests of
// runner/deploy.
//
// Beside the scenarios, the command chaos plays random faults; it uses the target
// embedded, and judges by its own record.
//
// A run starts in the Makefile: cmd/e2e chooses the target and says what the machine
// lacks for it. Programs of the control plane are those of KUBEBUILDER_ASSETS, kind's
// Docker and node image those of DOCKER_HOST and KIND_NODE_IMAGE, as for anybody's
// tools. Who has not set them gets them from the program airgap, a module of its own:
// it downloads or builds programs, starts Docker, and makes a node image where there
// is no registry. Then suite_test.go makes the specs and brings the target up,
// targets_test.go and kind_test.go say how, and targets/kind makes the cluster.
package e2e
