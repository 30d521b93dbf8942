# The program that supervises an attempt. The runner holds it, with the digest of
# its source at the end. ARCH=arm64 is for another processor, as in images.

SUPERVISOR    := runner/internal/supervise/supervisor/supervisor.$(or $(ARCH),$(shell go env GOARCH))
# glibc asks the processor about itself at each start, which on a virtual machine
# takes longer than all else that the supervisor does; musl does not. And each part of
# the program that is mapped apart costs each attempt more.
SUPERVISOR_CC := $(if $(filter arm64,$(ARCH)),aarch64-linux-gnu-gcc,$(or $(shell command -v musl-gcc),gcc))

$(SUPERVISOR): runner/internal/supervise/supervisor/main.c
	@$(SUPERVISOR_CC) -std=gnu11 -Os -static -s -Wl,-z,noseparate-code,-z,norelro -Wall -Wextra -Werror -o $@.new $<
	@sha256sum <$< | cut -d' ' -f1 >>$@.new
	@mv $@.new $@
