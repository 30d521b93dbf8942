# Container images. They need no Docker; where it answers, it gets them as well.

IMAGE_FILE  = go run ./runner/deploy/image --version='$(VERSION)' --revision="$$(git rev-parse HEAD 2>/dev/null || echo unknown)"
BUILD_IMAGE = $(IMAGE_FILE) --load

# Programs as they are in images: without paths of this machine and symbols.
GO_SMALL = go build -trimpath -ldflags '-s -w $(LDFLAGS)'

.PHONY: image
image: tools ## Build the runner's image, bin/image.tar
	@mkdir -p bin/image
	@$(GO_SMALL) -o bin/image/runner ./runner
	@$(BUILD_IMAGE) --name='$(IMAGE)' --base='$(BASE)' --output=bin/image.tar --title='StudioML runner' \
	  --add=bin/image/runner=/usr/local/bin/runner --entrypoint=/usr/local/bin/runner

# NVIDIA's device plugin is a module of its own; see fakegpu.mk.
bin/image/nvidia-device-plugin: fakegpu/clients/go.mod
	@mkdir -p bin/image
	@echo 'NVIDIA device plugin: build, a minute or two' >&2
	@cd fakegpu/clients && go build -trimpath -ldflags '-s -w -extldflags=-Wl,-z,lazy' -o $(CURDIR)/$@ github.com/NVIDIA/k8s-device-plugin/cmd/nvidia-device-plugin

.PHONY: fakegpu-image
fakegpu-image: tools bin/libnvidia-ml.so.1 bin/image/nvidia-device-plugin ## Build the image for nodes with fake GPUs, bin/fakegpu-image.tar
	@$(GO_SMALL) -o bin/image/fakegpu ./fakegpu/cmd/fakegpu
	@$(BUILD_IMAGE) --name='$(FAKEGPU_IMAGE)' --output=bin/fakegpu-image.tar --title='Fake GPUs for a Kubernetes node' \
	  --add=bin/image/fakegpu=/usr/local/lib/fakegpu/fakegpu --add=bin/libnvidia-ml.so.1=/usr/local/lib/fakegpu/libnvidia-ml.so.1 \
	  --add=bin/image/nvidia-device-plugin=/usr/local/bin/nvidia-device-plugin --user=0:0 --entrypoint=/usr/local/lib/fakegpu/fakegpu \
	  --env=PATH=/usr/local/lib/fakegpu:/usr/local/bin --env=LD_LIBRARY_PATH=/usr/local/lib/fakegpu --env=FAKEGPU_STATE=/var/lib/fakegpu/state

# The runners of the scenarios on a kind cluster: their tasks are shell scripts, so
# there is Debian below the runner, and some change their fake GPUs.
.PHONY: bin/e2e-image.tar
bin/e2e-image.tar: tools bin/fakegpu bin/libnvidia-ml.so.1
	@mkdir -p bin/image
	@$(GO_SMALL) -o bin/image/runner ./runner
	@base='$(BASE)'; if [ -z "$$base" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v debootstrap >/dev/null; then base=$$(go run ./e2e/cmd/nodeimage rootfs); else base=debian:12-slim; fi; fi; \
	$(IMAGE_FILE) --name=studio-go-runner:e2e --base="$$base" --output=$@ --title='StudioML runner, for its scenarios' \
	  --add=bin/image/runner=/usr/local/bin/runner --add=bin/fakegpu=/usr/local/bin/fakegpu \
	  --add=bin/libnvidia-ml.so.1=/usr/local/bin/libnvidia-ml.so.1 --entrypoint=/usr/local/bin/runner
