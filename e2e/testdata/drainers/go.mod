// What empties nodes by itself. FLEET.md names fields of its objects, which the API
// server of a test knows by the definitions in these modules.
module github.com/studioml/studio-go-runner/e2e/testdata/drainers

go 1.26.0

require (
	sigs.k8s.io/cluster-api v1.13.6
	sigs.k8s.io/karpenter v1.14.1
)
