# The program that supervises an attempt. The runner holds it, with the digest of
# its source at the end. ARCH=arm64 is for another processor, as in images.

SUPERVISOR    := runner/internal/supervise/supervisor/supervisor.$(or $(ARCH),$(shell go env GOARCH))
SUPERVISOR_CC := $(if $(filter arm64,$(ARCH)),aarch64-linux-gnu-gcc,gcc)

$(SUPERVISOR): runner/internal/supervise/supervisor/main.c
	@$(SUPERVISOR_CC) -std=gnu11 -Os -static -s -Wall -Wextra -Werror -o $@.new $<
	@sha256sum <$< | cut -d' ' -f1 >>$@.new
	@mv $@.new $@
