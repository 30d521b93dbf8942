# studio-go-runner. `make` alone lists the targets.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

# What `make image` and its kin build; see the help below.
IMAGE ?= studio-go-runner:$(VERSION)
FAKEGPU_IMAGE ?= studio-go-runner-fakegpu:$(VERSION)
TESTS_IMAGE ?= studio-go-runner-tests:$(VERSION)
BASE ?=
# Equal sources make equal images: nothing in them is younger than the commit.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
export SOURCE_DATE_EPOCH

# What `make e2e` runs; see the help below.
TARGET    ?=
POSTGRES  ?=
RUNTIME_CLASS ?=
FOCUS     ?=
LABELS    ?=
REPEAT    ?= 1
PROCS     ?=
ARTIFACTS ?= artifacts
KEEP      ?=

# How long `make fuzz` takes for each test.
FUZZTIME  ?= 1m

# What `make mutants` plays; see the help below.
SEED      ?= 1

# go-nvml's headers mark half of NVML as deprecated.
export CGO_ENABLED = 1
export CGO_CFLAGS  = -g -O2 -Wno-deprecated-declarations
# NVML's functions are looked up when they are called: the library is only there
# on machines with a driver.
LDFLAGS = -X main.version=$(VERSION) -extldflags=-Wl,-z,lazy
# Linking a test without what only debuggers read takes a third less.
TEST_LDFLAGS = -w -extldflags=-Wl,-z,lazy

# What is made where a machine lacks what others have. Who names all of it, in
# KUBEBUILDER_ASSETS and KIND_NODE_IMAGE, never builds this module.
AIRGAP = CGO_ENABLED=0 go build -C e2e/airgap -o $(CURDIR)/bin/airgap . && bin/airgap
ASSETS = $(if $(KUBEBUILDER_ASSETS),,KUBEBUILDER_ASSETS=$$($(AIRGAP) controlplane); export KUBEBUILDER_ASSETS;)

include fakegpu/fakegpu.mk
include runner/internal/supervise/supervisor.mk

.PHONY: help
help: ## List the targets and their variables
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-13s %s\n", $$1, $$2 }'
	@printf '\nVariables of make e2e:\n'
	@printf '  TARGET=embedded    etcd and kube-apiserver on loopback, runners are processes\n'
	@printf '  TARGET=kind        a cluster in Docker, runners are pods on BASE, else Debian 12; KEEP=1 leaves it running\n'
	@printf '  TARGET=existing    the cluster of KUBECONFIG, runners are pods of IMAGE;\n'
	@printf '                     POSTGRES=image for the server of the queues, if not the published one;\n'
	@printf '                     RUNTIME_CLASS=name for those with GPUs, where the default runtime shows them none\n'
	@printf '  FOCUS=text         only scenarios whose name contains it (a regular expression)\n'
	@printf '  LABELS=query       only these labels, as LABELS="row: containsAny {16, 17}" or "area: consistsOf {drain}"\n'
	@printf '  REPEAT=10          run that many times in a row, until one run fails\n'
	@printf '  PROCS=n            scenarios at the same time: 4 by default, 9 on kind\n'
	@printf '  ARTIFACTS=dir      where reports, and what failed scenarios leave behind, go\n'
	@printf '  KEEP=1             keep the files of scenarios that passed, too\n'
	@printf '  KUBEBUILDER_ASSETS=dir  etcd, kube-apiserver and kubectl, as of setup-envtest; else they are downloaded or built, once\n'
	@printf '  KIND_NODE_IMAGE=image   what the nodes of kind are made of; else it is chosen, pulled or made, and Docker started\n'
	@printf 'Variable of make test:\n  RUN=text           only tests whose name contains it (a regular expression)\n'
	@printf 'Variables of make chaos:\n'
	@printf '  SHORT=1            2 minutes, 5 at most; else 10,000 tasks and 500 faults\n'
	@printf '  QUEUE=postgres     the queue is in a server; QUEUE=spool in a directory. Without, the seed of a short form draws one\n'
	@printf '  SEED=n             the plan of that seed\n'
	@printf '  KINDS=kill,api     only faults whose name begins so\n'
	@printf 'Variables of make bench:\n'
	@printf '  SHORT=1            each row once in its smallest form, a minute; else half an hour\n'
	@printf '  BENCH=text         only rows whose name contains it (a regular expression)\n'
	@printf 'Variables of make mutants:\n'
	@printf '  SHORT=1            a sample that takes two minutes; SEED=n for other faults\n'
	@printf '  ONLY=text          only faults whose name contains it (a regular expression), as ONLY=gate/\n'
	@printf '  SCENARIOS=1        what survives the tests is played against scenarios, too\n'
	@printf 'Variables of make conformance:\n'
	@printf '  RUNNER=program     the adapter of the runner; without it, ours. See e2e/conformance/README.md\n'
	@printf '  IMAGE=name         play pods of that image, on the cluster of KUBECONFIG; POSTGRES as with make e2e\n'
	@printf '  TARGET=kind        play pods of ours, on a kind cluster\n'
	@printf '  LEVEL=extended     all of it, and not core alone\n'
	@printf '  REPORT=file        where the report goes, if not beside the page\n'
	@printf 'Variables of make image:\n'
	@printf '  IMAGE=name:tag     what it is called; FAKEGPU_IMAGE and TESTS_IMAGE are those of the other two\n'
	@printf '  ARCH=arm64         make it for ARM, with the compiler of gcc-aarch64-linux-gnu (make image only)\n'
	@printf '  BASE=image         add the runner to this: the file of an image or a root file system, or an image of Docker or a registry\n'
	@printf 'Variable of make run:\n  DEMO=1             type the kubectl lines by itself, explain each, and end\n'

.PHONY: tools
tools:
	@command -v go >/dev/null || { echo "Go is missing; install the version that go.mod names, or a newer one"; exit 1; }
	@command -v gcc >/dev/null || { echo "gcc is missing; install it: apt-get install gcc libc6-dev"; exit 1; }
	@command -v flock >/dev/null || { echo "flock is missing; install it: apt-get install util-linux"; exit 1; }

.PHONY: build
build: tools bin/runner bin/fakegpu bin/libnvidia-ml.so.1 ## Build the runner and the fake NVML into bin/

# Go decides what is up to date.
.PHONY: bin/runner bin/runner-race bin/kind bin/e2e bin/e2e.test
bin/runner: $(SUPERVISOR)
	@$(GO_SMALL) -o $@ ./runner
bin/runner-race: $(SUPERVISOR)
	@go build -race -ldflags '$(LDFLAGS)' -o $@ ./runner

bin/kind:
	@CGO_ENABLED=0 go build -C e2e/airgap -o $(CURDIR)/$@ sigs.k8s.io/kind
bin/e2e:
	@go build -o $@ ./e2e/cmd/e2e
bin/e2e.test:
	@go test -c $(RACE) -ldflags='$(TEST_LDFLAGS)' -o $@ ./e2e

include runner/deploy/image.mk

.PHONY: run
run: build bin/e2e ## Start a control plane and two runners and watch them; DEMO=1 plays a drain by itself
	@$(ASSETS) exec bin/e2e demo $(if $(DEMO),--play)

# The race detector sleeps for a second at the end of each program, also of those that
# tests start by the hundred. What vet finds make lint has found.
.PHONY: test
test: export GORACE = atexit_sleep_ms=0
test: ONE = $(if $(RUN),-run='$(value RUN)')
test: tools $(SUPERVISOR) ## Quick tests: no cluster
	go test -race -vet=off -timeout=20m $(ONE) -ldflags '$(TEST_LDFLAGS)' ./...
	cd e2e/airgap && go test -race -vet=off $(ONE) -ldflags=-w ./...

.PHONY: mutants
mutants: tools bin/e2e $(SUPERVISOR) ## Break the runner, one fault at a time, and list the faults that no test notices
	@bin/e2e mutants --seed=$(SEED) $(if $(SHORT),--short) $(if $(ONLY),--only='$(value ONLY)') $(if $(SCENARIOS),--scenarios)

# What the target lacks is said first, before minutes of building: for kind that is
# found out by getting Docker and a node image. What "$$@" has is bin/airgap, which brings
# both to a machine without them, or nothing.
.PHONY: e2e
e2e: tools bin/e2e ## Run the scenarios, on a kind cluster where Docker is usable, else on a control plane
	@target=$$(E2E_IMAGE='$(NAMED_IMAGE)' bin/e2e target $(TARGET)); \
	if [ $$target = kind ] && [ -z '$(KIND_NODE_IMAGE)' ]; then $(AIRGAP) --help >/dev/null; set -- bin/airgap kind --; fi; \
	echo 'building what the scenarios need: minutes at first, seconds later'; \
	"$$@" $(MAKE) --no-print-directory --jobs=2 e2e-$$target

.PHONY: e2e-embedded e2e-kind e2e-existing
e2e-embedded e2e-existing: RACE = -race# on kind processors are what is short
e2e-embedded: bin/e2e bin/e2e.test bin/runner-race bin/runner bin/fakegpu bin/libnvidia-ml.so.1
	@$(ASSETS) $(GINKGO)

# The tasks of the scenarios are shell scripts, so their runners' image has Debian
# below the runner, and the fake GPUs that they change.
e2e-kind: export E2E_TIME_FACTOR ?= 3
e2e-kind: FAKEGPU_IMAGE = studio-go-runner-fakegpu:e2e
e2e-kind: TESTS_IMAGE = studio-go-runner-tests:e2e
e2e-kind: BUILD_IMAGE = $(IMAGE_FILE)# the nodes get the archives; Docker would collect them
e2e-kind: CLIENT = bin/image/runner
e2e-kind: USUAL_PROCS = 9# pods are waited for rather than worked on
e2e-kind: bin/e2e bin/e2e.test bin/kind bin/e2e-image.tar bin/fakegpu-image.tar bin/tests-image.tar bin/postgres-image.tar
	@$(ASSETS) $(GINKGO)

e2e-existing: export E2E_TIME_FACTOR ?= 3
# Only an image that was named: no cluster has the one that make image would make.
NAMED_IMAGE = $(if $(filter file,$(origin IMAGE)),,$(IMAGE))
e2e-existing: export E2E_IMAGE = $(NAMED_IMAGE)
e2e-existing: export E2E_POSTGRES = $(POSTGRES)
e2e-existing: bin/e2e bin/e2e.test bin/runner
	@$(if $(shell command -v kubectl),,$(ASSETS)) $(GINKGO)

# The suite runs in another directory. KUBECONFIG may be a list of files, as kubectl has it.
space := $(subst ,, )
KUBECONFIG_OF_SUITE = $(if $(findstring :,$(KUBECONFIG)),KUBECONFIG=$(subst $(space),:,$(abspath $(subst :, ,$(KUBECONFIG)))),E2E_KUBECONFIG=$(abspath $(KUBECONFIG)))

GINKGO = mkdir -p $(ARTIFACTS)/$(@:e2e-%=%) && rm -f $(ARTIFACTS)/$(@:e2e-%=%)/{summary.txt,progress.jsonl} && \
	trap 'cat $(ARTIFACTS)/$(@:e2e-%=%)/summary.txt 2>/dev/null' EXIT; \
	E2E_TARGET=$(@:e2e-%=%) E2E_RUNNER=$(or $(MUTANT_RUNNER),$(CURDIR)/bin/runner-race) E2E_CLIENT=$(CURDIR)/$(or $(CLIENT),bin/runner) E2E_NVML=$(CURDIR)/bin/libnvidia-ml.so.1 \
	E2E_ARTIFACTS=$(abspath $(ARTIFACTS))/$(@:e2e-%=%) E2E_KEEP=$(KEEP) E2E_RUNTIME_CLASS=$(RUNTIME_CLASS) $(KUBECONFIG_OF_SUITE) GORACE=atexit_sleep_ms=0 \
	go tool ginkgo --procs=$(or $(PROCS),$(USUAL_PROCS),4) --randomize-all --trace \
	  --no-color --silence-skips --fail-on-pending --fail-on-empty --timeout=60m --grace-period=5s \
	  --poll-progress-after=90s --poll-progress-interval=30s --output-interceptor-mode=none \
	  --repeat=$$(( $(REPEAT) - 1 )) \
	  --output-dir=$(abspath $(ARTIFACTS))/$(@:e2e-%=%) --json-report=report.json --junit-report=junit.xml \
	  $(if $(LABELS),--label-filter='$(value LABELS)') $(if $(FOCUS),--focus='$(value FOCUS)') bin/e2e.test | bin/e2e progress $(ARTIFACTS)/$(@:e2e-%=%)

# Any runner that reads the two maps: RUNNER is an adapter, a program that starts it
# and gives it tasks; see e2e/conformance/README.md. With IMAGE, runners are pods of it.
RUNNER ?= e2e/conformance/adapters/studio-go-runner
LEVEL  ?= core
SMALL_RUNNER = e2e/conformance/small/runner.py
VARIANTS ?= all
.PHONY: conformance conformance-variants
CONTRACT = --runner=$(RUNNER) --level=$(LEVEL) --artifacts=$(ARTIFACTS)/conformance/$(basename $(notdir $(RUNNER))) $(if $(REPORT),--report=$(REPORT))
ifneq ($(filter-out kind,$(TARGET))$(and $(filter kind,$(TARGET)),$(NAMED_IMAGE)),)
conformance:
	@echo 'TARGET of conformance must be kind, for pods of our own image, or not be set; IMAGE=name plays pods on the cluster of KUBECONFIG' >&2; exit 2
else ifeq ($(TARGET),kind)
conformance: tools
	@E2E_CONTRACT='$(CONTRACT)' $(MAKE) --no-print-directory e2e PROCS=1
else
conformance: tools bin/e2e bin/runner bin/libnvidia-ml.so.1 ## Play the contract against any runner, as a black box
	@$(ASSETS) $(if $(NAMED_IMAGE),export E2E_TIME_FACTOR=$${E2E_TIME_FACTOR:-3};) PATH=$(CURDIR)/bin:$$PATH bin/e2e conformance $(CONTRACT) \
	  $(if $(NAMED_IMAGE),--image=$(NAMED_IMAGE) $(if $(POSTGRES),--postgres=$(POSTGRES)))
endif
# Some of the runners that break a rule each, drawn by a text, or all of them.
conformance-variants: tools
	@$(ASSETS) CONFORMANCE_VARIANTS=$(VARIANTS) CONFORMANCE_SEED=$(SEED) \
	  go test -count=1 -timeout=30m -v -run TestVariants$$ ./e2e/conformance

# The long form takes 20 minutes on an idle machine, the short one 2 minutes, and 5 at most. SEED, QUEUE and KUBEBUILDER_ASSETS
# go through the environment.
.PHONY: chaos chaos-planted
chaos: tools bin/chaos bin/chaos-task bin/runner bin/libnvidia-ml.so.1 ## Random faults on random tasks, and proof that nothing was lost
	@$(ASSETS) exec bin/chaos $(if $(SHORT),--short) --artifacts=$(ARTIFACTS)/chaos $(if $(KINDS),--kinds=$(KINDS))
chaos-planted: tools bin/chaos bin/chaos-task bin/libnvidia-ml.so.1 $(SUPERVISOR) ## Runners that break a rule each, which chaos has to find
	@$(ASSETS) CHAOS_BIN=$(CURDIR)/bin go test -count=1 -timeout=30m -v -run TestPlantedFaults ./e2e/chaos

.PHONY: bin/chaos
bin/chaos:
	@go build -o $@ ./e2e/chaos
bin/chaos-task: e2e/chaos/task/main.c
	@mkdir -p bin
	gcc -std=gnu11 -Os -static -Wall -Wextra -Werror -o $@ $<

.PHONY: node-image
node-image: tools ## Make the image of a kind node where there is no container registry (as root)
	@$(AIRGAP) node-image

# What it finds is kept beside the test, in testdata/fuzz, and played by every go test.
.PHONY: fuzz
fuzz: tools $(SUPERVISOR) ## Give random input to all that reads what others write, FUZZTIME=1m to each
	@grep -rE --include='*_test.go' '^func Fuzz' runner fakegpu e2e | sed -E 's#/[^/]*:func (\w+).*# \1#' | while read -r package test; do \
	  out=$$(go test -ldflags '$(TEST_LDFLAGS)' -run '^$$' -fuzz "^$$test\$$" -fuzztime $(FUZZTIME) ./$$package 2>&1) || \
	    { echo "$$out"; echo "$$package $$test: failed; the input is in $$package/testdata/fuzz/$$test"; exit 1; }; \
	  echo "$$package $$test: $$(grep -oE 'execs: [0-9]+|new interesting: [0-9]+' <<<"$$out" | tail -2 | paste -sd ' ')"; \
	done

# The short form is one of the package's tests.
.PHONY: faults
faults: ## A minute of faults of the queue's server, one every 5 s, while 1,000 tasks run (as root)
	FAULTS=1m go test -race -count=1 -timeout=10m -v -run TestFaults ./runner/internal/queue/postgres

.PHONY: full
full: tools ## What is too long for each change, and what else the documents name: e2e/testdata/full.sh
	@$(AIRGAP) kind -- bash e2e/testdata/full.sh

# All of it takes half an hour on a quiet machine, and writes the page; the short
# form a minute. Under bin/airgap kind -- it makes a kind cluster as well.
.PHONY: bench
bench: tools bin/image/runner bin/libnvidia-ml.so.1 ## Measure the runner beside what one would pick instead, into e2e/bench/README.md: BENCH=name, SHORT=1
	@$(ASSETS) go run ./e2e/bench $(if $(SHORT),--short) $(if $(BENCH),--bench='$(value BENCH)')

.PHONY: scenarios
scenarios: bin/e2e ## List and validate the scenarios, without a cluster
	@bin/e2e scenarios

.PHONY: generate
generate: ## Write anew what is generated: the schema, the catalogue's table, the matrix of conformance, the shim's entry points
	go run ./e2e/cmd/e2e generate
	go generate ./fakegpu/...

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, and whether go.mod is tidy
	@unformatted=$$(gofmt -l runner e2e fakegpu); test -z "$$unformatted" || { echo "not formatted: $$unformatted"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go mod tidy -diff
	staticcheck=$$(go tool -n staticcheck) && cd e2e/airgap && go vet ./... && "$$staticcheck" ./... && go mod tidy -diff
	cd e2e/airgap/controlplane && go mod tidy -diff
	cd e2e/airgap/containerd && go mod tidy -diff
	cd e2e/airgap/coredns && go mod tidy -diff
	cd fakegpu/clients && go vet ./... && go mod tidy -diff
	cd fakegpu/clients/ctk && go mod tidy -diff

.PHONY: clean
clean: ## Remove what was built here; the control plane in the user's cache stays
	rm -rf bin $(ARTIFACTS) $(basename $(SUPERVISOR)).*
