package main

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
)

// terminating are the signals that end a runner (R7). A runner that was started
// with nohup stays when its terminal goes.
func terminating() []os.Signal {
	signals := []os.Signal{syscall.SIGTERM, syscall.SIGINT}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// catchSignals delivers termination signals, and lets no other signal end or stop
// the process but QUIT, which shows what every goroutine does. They are caught,
// not ignored: tasks would inherit that. They stay caught to the end of the
// process, whose exit code would be another otherwise.
func catchSignals() <-chan os.Signal {
	const last = syscall.Signal(64) // of the real-time ones; 32 to 34 cannot be caught in Go
	harmless := []os.Signal{syscall.SIGQUIT, syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGURG, syscall.SIGWINCH}
	ends, others := make(chan os.Signal, 2), make(chan os.Signal, 1)
	wanted := terminating()
	for n := syscall.Signal(1); n <= last; n++ {
		if !slices.Contains(harmless, os.Signal(n)) && !slices.Contains(wanted, os.Signal(n)) && !signal.Ignored(n) {
			signal.Notify(others, n)
		}
	}
	signal.Notify(ends, wanted...)
	return ends
}
