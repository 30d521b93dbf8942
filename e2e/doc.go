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
//	KUBEBUILDER_ASSETS=$(bin/airgap controlplane) go test -timeout=45m ./e2e -args -e2e.target=embedded -ginkgo.v
//
// Each -e2e flag has an environment variable as its default, see go test ./e2e
// -args -h. E2E_TIME_FACTOR=3 gives everything three times the time, for slow
// and busy machines.
//
// Each scenario is one spec, and on embedded another with its queue in a server, where
// row 75 asks for that. A spec runs in a place of its own (a namespace, a service
// account, a queue), so that specs run at the same time, but for those that use
// the cluster's GPUs or harm its nodes. Its labels are
// area:<folder>, row:<number> for each row of the catalogue, target:<target>,
// and what its file adds. The location of a spec is the line of its file:
// failures lead there.
//
// # Where it starts
//
// make asks cmd/e2e for the target, which also says what the machine lacks for it, and
// builds the programs. Then Ginkgo, in several processes, calls TestE2E in suite_test.go:
//
//  1. scenario loads the files; scenarios_test.go makes a spec of each.
//  2. setUp and open in targets_test.go (kind_test.go for kind) bring the target
//     up, once, and give it to the processes that run the specs.
//  3. playOne in scenarios_test.go plays one scenario: Target.Isolate makes its
//     place, engine.Run does the steps of the file, in run.go, and what
//     the sources tell meanwhile (the maps, the tasks, each runner) is in a
//     history.History. In it await and expect look for what they want, and so does,
//     at the end, the package rules.
//  4. After a failure the place is asked for evidence, and the record is written
//     beside it.
//  5. What happened in it, as people read it, its story, is an entry of the spec's report. At the end
//     of the suite the package report makes the page of all of them.
//
// # Packages
//
//   - scenario is the format, catalogue the rows of the contract that scenarios and tests
//     show, and oracle an independent statement of the rules for expected values.
//   - engine plays a scenario; each verb is added where it is done, in a file
//     verb_*.go, and what a condition can ask for is a row of facts.go. history is its record, mapwatch
//     what the record has of maps from, rules what no record may show to be broken, and
//     crowd is ConfigMaps that concern no runner.
//   - targets says what a cluster must be able to do. targets/embedded is one, and
//     targets/pods is one whose runners are pods; both use targets/place.
//   - kube is what the tests do to any cluster, and kind makes the one of the target kind.
//   - controlplane is an etcd and an API server on loopback, and its clients' tokens;
//     network what can be broken between them, pgserver a server for queues (and
//     pgserver/incluster one in a cluster), program what keeps them all, and older the
//     runner of a release of before.
//   - evidence is what a scenario leaves for people, who need it after a failure.
//   - report makes what people look at: the page of a run (report.html among its
//     artifacts), a summary in Markdown, and the line of progress of make e2e.
//   - conformance plays the contract against any runner, through an adapter, with
//     scenarios of its own that need nothing of this one.
//   - mutants breaks the runner, one fault at a time, to see whether a test notices.
//   - bench measures the runner beside what one would pick instead, and writes a page.
//   - airgap, a module of its own, gets what the machine lacks: programs of the
//     control plane, Docker, a node image. Who sets KUBEBUILDER_ASSETS, DOCKER_HOST
//     and KIND_NODE_IMAGE, as for anybody's tools, never needs it.
//
// None of those that play scenarios imports anything of the runner but the package
// api, the words on the wire, and the shipped manifests of runner/deploy.
//
// Beside the scenarios, the command chaos plays random faults on random tasks; it
// uses targets/embedded, and judges by its own record.
package e2e
