package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var processFaults = []fault{
	{"kill", "runner", false, 0, 0, signals(syscall.SIGKILL)},
	{"term", "runner", false, 0, 0, signals(syscall.SIGTERM)},
	{"hup", "runner", false, 0, 0, signals(syscall.SIGHUP)},
	{"double", "runner", false, 1100 * time.Millisecond, 2 * time.Second, signals(syscall.SIGTERM, syscall.SIGTERM)},
	{"group", "runner", false, 0, 10 * time.Millisecond, signals(syscall.SIGTERM, syscall.SIGTERM)}, // as timeout(1) sends them
	{"stop", "runner", false, 500 * time.Millisecond, 3 * time.Second, stop},
	{"log-gone", "runner", false, 500 * time.Millisecond, time.Second, logGone},
	{"log-asleep", "runner", false, 2 * time.Second, 5 * time.Second, logAsleep},
	{"descriptors", "runner", true, time.Second, 3 * time.Second, descriptors},
	{"processes", "runner", true, time.Second, 2 * time.Second, processes},
}

// signals sends signals to a runner, and waits for its end.
func signals(list ...syscall.Signal) func(context.Context, *Arena, *hit) error {
	return func(ctx context.Context, a *Arena, h *hit) error {
		p := h.runner.living(ctx)
		if p == nil {
			return nil
		}
		for i, sig := range list {
			if i > 0 {
				h.last(ctx)
			}
			p.signal(sig)
		}
		p.end(a)
		return nil
	}
}

// stop stops a runner and lets it go on.
func stop(ctx context.Context, _ *Arena, h *hit) error {
	if p := h.runner.living(ctx); p != nil {
		p.signal(syscall.SIGSTOP)
		h.last(ctx)
		p.signal(syscall.SIGCONT)
	}
	return nil
}

// logGone closes the other end of the log.
func logGone(ctx context.Context, _ *Arena, h *hit) error {
	if p := h.runner.living(ctx); p != nil {
		p.log.Close()
		h.last(ctx)
	}
	return nil
}

// logAsleep leaves the log unread, until its pipe is full.
func logAsleep(ctx context.Context, _ *Arena, h *hit) error {
	if p := h.runner.living(ctx); p != nil {
		p.reading <- struct{}{}
		h.last(ctx)
		<-p.reading
	}
	return nil
}

// limit lowers a soft limit of a runner, and restores it.
func limit(ctx context.Context, h *hit, p *process, resource int, value uint64) error {
	pid := p.cmd.Process.Pid
	var before unix.Rlimit
	if err := unix.Prlimit(pid, resource, nil, &before); err != nil {
		return nil // it has ended
	}
	if err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: value, Max: before.Max}, nil); err != nil {
		return nil
	}
	h.last(ctx)
	_ = unix.Prlimit(pid, resource, &before, nil) // it may have ended
	return nil
}

// descriptors leaves a runner one or two descriptors.
func descriptors(ctx context.Context, _ *Arena, h *hit) error {
	p := h.runner.living(ctx)
	if p == nil {
		return nil
	}
	open, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	return limit(ctx, h, p, unix.RLIMIT_NOFILE, uint64(len(open)+1)+h.Dice%2)
}

// processes leaves a runner no room for more threads and processes than its user has.
func processes(ctx context.Context, a *Arena, h *hit) error {
	p := h.runner.living(ctx)
	if p == nil {
		return nil
	}
	threads := 0
	for _, pid := range a.processes() {
		list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		threads += len(list)
	}
	return limit(ctx, h, p, unix.RLIMIT_NPROC, uint64(threads)+h.Dice%4)
}

// processes are all that the runners' user has. With a user of our own that would be
// others' as well, so there it is none.
func (a *Arena) processes() (pids []int) {
	if a.uid == 0 {
		return nil
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		var pid int
		var s unix.Stat_t
		if unix.Stat(dir, &s) == nil && int(s.Uid) == a.uid {
			if _, err := fmt.Sscanf(filepath.Base(dir), "%d", &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
