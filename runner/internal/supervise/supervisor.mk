# The program that supervises an attempt. The runner holds it, with the digest of
# its source at the end.

SUPERVISOR := runner/internal/supervise/supervisor/supervisor

$(SUPERVISOR): runner/internal/supervise/supervisor/main.c
	@gcc -std=gnu11 -Os -static -s -Wall -Wextra -Werror -o $@.new $<
	@sha256sum <$< | cut -d' ' -f1 >>$@.new
	@mv $@.new $@
