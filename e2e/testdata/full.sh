# What `make full` types: what the documents have people type where .ci/run does not, and
# what is too long for each change. It has Docker and the image of a kind node (airgap kind).
# TestCommandsAreTyped wants each command of a document to be in one of these two, in
# sentences.sh beside this, or in a block that a test types.
set -euo pipefail
unset MAKEFLAGS MFLAGS MAKELEVEL
place=$(mktemp -d)
trap 'kind delete cluster --name=documents; rm -rf "$place"' EXIT
GOENV=$(go env GOENV) GOPATH=$(go env GOPATH) GOCACHE=$(go env GOCACHE) XDG_CACHE_HOME=${XDG_CACHE_HOME:-$HOME/.cache}
export GOENV GOPATH GOCACHE XDG_CACHE_HOME HOME=$place PATH=$PWD/bin:$PATH
PS4='=== '
set -x

make generate
git diff --exit-code
make test RUN=TestFullDisk
make build
bin/fakegpu create "$place/card" --profile=H100-80GB
FAKEGPU_STATE=$place/card make compare-card

make e2e TARGET=embedded FOCUS='two flips'
bin/e2e report artifacts/embedded
make e2e TARGET=embedded LABELS='row: containsAny {16, 17}'
make e2e TARGET=embedded LABELS='area: consistsOf {drain}'
make e2e TARGET=embedded FOCUS='two flips' REPEAT=10
make e2e TARGET=kind FOCUS='more memory than its pod'
make conformance REPORT=artifacts/report.yaml
make conformance LEVEL=extended
make conformance LEVEL=extended TARGET=kind
make conformance-variants

# Images, and a cluster that is somebody's own.
make node-image bin/kind bin/postgres-image.tar
make image
docker load -i bin/image.tar
docker import "$(bin/airgap debian)" example/pytorch:2
make fakegpu-image
make tests-image BASE=example/pytorch:2
make image IMAGE=example/runner:v1 BASE=example/pytorch:2
kind create cluster --name=documents --config=kind-config.yaml --image="$KIND_NODE_IMAGE"
kind load image-archive bin/image.tar --name=documents
kind load image-archive bin/postgres-image.tar --name=documents
ctr() { docker exec --interactive documents-worker ctr "$@"; }
ctr -n k8s.io images import - <bin/image.tar
export POSTGRES=studio-go-runner-postgres:e2e
make e2e TARGET=existing IMAGE=example/runner:v1 KUBECONFIG=$HOME/.kube/config FOCUS='two flips'
KUBECONFIG=$HOME/.kube/config make conformance IMAGE=example/runner:v1 RUNNER=e2e/conformance/adapters/studio-go-runner
unset POSTGRES
kind delete cluster --name=documents

make clients-full
make chaos SHORT=1 SEED=7
make chaos SHORT=1 SEED=1 KINDS=kill,state
make chaos SHORT=1 SEED=3 KINDS=disk-hidden
make chaos SHORT=1 KINDS=descriptors
make chaos SHORT=1 KINDS=processes
make chaos SHORT=1 KINDS=kill,term
make chaos SHORT=1 KINDS=kill,disk
make chaos SHORT=1 KINDS=log-gone
make chaos SHORT=1 KINDS=log-asleep
make chaos SHORT=1 KINDS=group
make chaos SHORT=1 KINDS=gpu
make chaos SHORT=1 KINDS=disk-full,disk-inodes
make chaos
make chaos QUEUE=postgres
make chaos-planted
make faults
make fuzz
make mutants
