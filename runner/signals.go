package main

import (
	"os"
	"os/signal"
	"syscall"
)

// catchSignals delivers the signals that end a runner (R7), and lets no other end or
// stop the process but QUIT, which shows what every goroutine does. They are caught,
// not ignored: tasks would inherit that. They stay caught to the end of the
// process, whose exit code would be another otherwise.
func catchSignals() <-chan os.Signal {
	const last = syscall.Signal(64) // of the real-time ones; 32 to 34 cannot be caught in Go
	ends, others := make(chan os.Signal, 2), make(chan os.Signal, 1)
	for n := syscall.Signal(1); n <= last; n++ {
		switch n {
		case syscall.SIGQUIT, syscall.SIGCHLD, syscall.SIGCONT, syscall.SIGURG, syscall.SIGWINCH: // harmless
		case syscall.SIGTERM, syscall.SIGINT:
			signal.Notify(ends, n)
		case syscall.SIGHUP:
			if !signal.Ignored(n) { // as by nohup: such a runner stays when its terminal goes
				signal.Notify(ends, n)
			}
		default:
			if !signal.Ignored(n) {
				signal.Notify(others, n)
			}
		}
	}
	return ends
}
