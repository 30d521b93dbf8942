# The fake NVML library, and the command that makes its state.

FAKEGPU_SOURCES := $(wildcard fakegpu/shim/*.c fakegpu/shim/*.h)
FAKEGPU_CFLAGS  := -std=gnu11 -Os -U_FORTIFY_SOURCE -fno-stack-protector -fno-asynchronous-unwind-tables -fPIC -fvisibility=hidden -Wall -Wextra -Werror -Wno-unused-parameter

bin/libnvidia-ml.so.1: $(FAKEGPU_SOURCES) go.mod
	@mkdir -p bin
	gcc $(FAKEGPU_CFLAGS) -Wno-deprecated-declarations -isystem "$$(go list -m -f '{{.Dir}}' github.com/NVIDIA/go-nvml)/pkg/nvml" \
	  -shared -Wl,-soname,libnvidia-ml.so.1 -Wl,--as-needed -o $@ $(filter %.c,$^) -lpthread
	@ln -sf libnvidia-ml.so.1 bin/libnvidia-ml.so # some clients open it by this name

.PHONY: bin/fakegpu
bin/fakegpu:
	@go build -ldflags '-extldflags=-Wl,-z,lazy' -o $@ ./fakegpu/cmd/fakegpu
	@ln -sf fakegpu bin/nvidia-smi # by this name it is one

# Modules of their own, so that the product does not depend on these programs.
.PHONY: clients
clients: tools bin/fakegpu bin/libnvidia-ml.so.1 ## NVIDIA's device plugin, GPU Feature Discovery and nvidia-ctk on the fake NVML (as root: all of it)
	cd fakegpu/clients && FAKEGPU_BIN=$(CURDIR)/bin go test -count=1 .

.PHONY: clients-full
clients-full: clients ## Debian 12's nvtop, pynvml, gpustat, PCP, lstopo and nvml-wrapper as well
	cd fakegpu/clients && go test -count=1 ./debian

CARD ?= 0
.PHONY: compare-card
compare-card: bin/fakegpu bin/libnvidia-ml.so.1 ## What a real card (CARD=0) answers otherwise than the fake one that is made of it
	@mkdir -p bin/card
	bin/fakegpu capture --answers $(CARD) >bin/card/real
	bin/fakegpu capture $(CARD) >bin/card/card.yaml
	bin/fakegpu create bin/card/state --profile bin/card/card.yaml
	env -u FAKEGPU_LIBRARY FAKEGPU_STATE=bin/card/state bin/fakegpu capture --answers >bin/card/fake
	diff bin/card/real bin/card/fake || true
