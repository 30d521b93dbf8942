# Container images. They need no Docker; where it answers, it gets them as well.

IMAGE_FILE  = go run ./runner/deploy/image --version='$(VERSION)' --revision="$$(git rev-parse HEAD 2>/dev/null || echo unknown)"
BUILD_IMAGE = $(IMAGE_FILE) --load

# ARCH=arm64 is for another processor; its compiler and C library come with Debian's
# gcc-aarch64-linux-gnu.
ifeq ($(ARCH),arm64)
FOR_ARCH   = GOARCH=arm64 CGO_ENABLED=1 CC=aarch64-linux-gnu-gcc
IMAGE_ARCH = --sysroot=/usr/aarch64-linux-gnu
endif

# Programs as they are in images: without paths of this machine and symbols.
GO_SMALL = $(FOR_ARCH) go build -trimpath -ldflags '-s -w $(LDFLAGS)'

.PHONY: bin/image/runner bin/image/fakegpu bin/image/names bin/image/ginkgo bin/image/e2e.test bin/image/kubectl
bin/image/runner: $(SUPERVISOR)
	@$(GO_SMALL) -o $@ ./runner
bin/image/fakegpu:
	@$(GO_SMALL) -o $@ ./fakegpu/cmd/fakegpu
# What else it and its library are called.
bin/image/names:
	@mkdir -p $@
	@ln -sf fakegpu $@/nvidia-smi
	@ln -sf libnvidia-ml.so.1 $@/libnvidia-ml.so
bin/image/ginkgo:
	@$(GO_SMALL) -o $@ github.com/onsi/ginkgo/v2/ginkgo
bin/image/e2e.test:
	@go test -c -trimpath -ldflags '-s -w -extldflags=-Wl,-z,lazy' -o $@ ./e2e
bin/image/kubectl:
	@mkdir -p bin/image
	@$(ASSETS) ln -sf "$$KUBEBUILDER_ASSETS/kubectl" $@

.PHONY: image
image: tools bin/image/runner ## Build the runner's image, bin/image.tar
	@$(BUILD_IMAGE) $(IMAGE_ARCH) --name='$(IMAGE)' --base='$(BASE)' --output=bin/image.tar --title='StudioML runner' \
	  --add=bin/image/runner=/usr/local/bin/runner --entrypoint=/usr/local/bin/runner

# NVIDIA's device plugin is a module of its own; see fakegpu.mk.
bin/image/nvidia-device-plugin: fakegpu/clients/go.mod
	@mkdir -p bin/image
	@echo 'NVIDIA device plugin: build, a minute or two' >&2
	@cd fakegpu/clients && go build -trimpath -ldflags '-s -w -extldflags=-Wl,-z,lazy' -o $(CURDIR)/$@ github.com/NVIDIA/k8s-device-plugin/cmd/nvidia-device-plugin

# The command with the library beside it, where both look for each other.
ADD_FAKEGPU = --add=bin/image/fakegpu=/usr/local/lib/fakegpu/fakegpu --add=bin/libnvidia-ml.so.1=/usr/local/lib/fakegpu/libnvidia-ml.so.1 \
  --add=bin/image/names=/usr/local/lib/fakegpu

.PHONY: fakegpu-image bin/fakegpu-image.tar
fakegpu-image: bin/fakegpu-image.tar ## Build the image for nodes with fake GPUs, bin/fakegpu-image.tar
bin/fakegpu-image.tar: tools bin/image/fakegpu bin/image/names bin/libnvidia-ml.so.1 bin/image/nvidia-device-plugin
	@$(BUILD_IMAGE) --name='$(FAKEGPU_IMAGE)' --output=$@ --title='Fake GPUs for a Kubernetes node' $(ADD_FAKEGPU) \
	  --add=bin/image/nvidia-device-plugin=/usr/local/bin/nvidia-device-plugin --user=0:0 --entrypoint=/usr/local/lib/fakegpu/fakegpu \
	  --env=PATH=/usr/local/lib/fakegpu:/usr/local/bin --env=LD_LIBRARY_PATH=/usr/local/lib/fakegpu --env=FAKEGPU_STATE=/var/lib/fakegpu/state

# The runners of the scenarios on a kind cluster: their tasks are shell scripts, so
# there is Debian below the runner, and some change their fake GPUs.
.PHONY: bin/e2e-image.tar
bin/e2e-image.tar: tools bin/image/runner bin/image/fakegpu bin/image/names bin/libnvidia-ml.so.1
	@$(IMAGE_FILE) --name=studio-go-runner:e2e --base="$(TASKS_BASE)" --output=$@ --title='StudioML runner, for its scenarios' $(ADD_FAKEGPU) \
	  --add=bin/image/runner=/usr/local/bin/runner --entrypoint=/usr/local/bin/runner --env=PATH=/usr/local/bin:/usr/local/lib/fakegpu:/usr/bin:/bin

# Debian: made here where that can be done, else from a registry.
TASKS_BASE = $(or $(BASE),$(shell $(AIRGAP) debian))

# The runners of the tests are pods of this image as well, so its entry point is
# the runner; the tests are run-tests. They look for files as in a checkout.
.PHONY: tests-image bin/tests-image.tar
tests-image: bin/tests-image.tar ## Build the image of the tests on a BASE with a shell, bin/tests-image.tar
bin/tests-image.tar: tools bin/image/runner bin/image/fakegpu bin/image/names bin/libnvidia-ml.so.1 bin/image/ginkgo bin/image/e2e.test bin/image/kubectl
	@$(BUILD_IMAGE) --name='$(TESTS_IMAGE)' --base="$(TASKS_BASE)" --output=$@ --title='Tests of the StudioML runner' $(ADD_FAKEGPU) \
	  --add=bin/image/runner=/usr/local/bin/runner --entrypoint=/usr/local/bin/runner \
	  --add=bin/image/kubectl=/usr/local/bin/kubectl --add=bin/image/ginkgo=/usr/local/bin/ginkgo --add=runner/deploy/tests/run-tests=/usr/local/bin/run-tests \
	  --add=bin/image/e2e.test=/studio-go-runner/e2e/e2e.test --add=scenarios=/studio-go-runner/scenarios --add=runner/deploy=/studio-go-runner/runner/deploy \
	  --env=PATH=/usr/local/bin:/usr/local/lib/fakegpu:/usr/bin:/bin --env=HOME=/tmp --env=E2E_TARGET=existing --env=E2E_ARTIFACTS=/tmp/artifacts

# PostgreSQL of this machine's package, for clusters that reach no registry; elsewhere
# its own image is pulled.
POSTGRES_DIR = $(patsubst %/bin/initdb,%,$(lastword $(sort $(wildcard /usr/lib/postgresql/*/bin/initdb))))
POSTGRES_SHARE = /usr/share/postgresql/$(notdir $(POSTGRES_DIR))
.PHONY: bin/postgres-image.tar
bin/postgres-image.tar: tools
	@$(if $(POSTGRES_DIR),$(IMAGE_FILE) --name=studio-go-runner-postgres:e2e --output=$@ --title='PostgreSQL for the scenarios' --user=65534:65534 \
	  --add=/bin/sh=/bin/sh --add=/bin/rm=/bin/rm --add=/bin/mv=/bin/mv --add=$(POSTGRES_DIR)/bin/initdb=$(POSTGRES_DIR)/bin/initdb --add=$(POSTGRES_DIR)/bin/postgres=$(POSTGRES_DIR)/bin/postgres \
	  $(foreach f,plpgsql dict_snowball,--add=$(POSTGRES_DIR)/lib/$f.so=$(POSTGRES_DIR)/lib/$f.so) --add=$(POSTGRES_SHARE)=$(POSTGRES_SHARE),rm -f $@)
