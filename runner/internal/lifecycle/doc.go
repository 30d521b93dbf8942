// Package lifecycle decides what a runner does: whether its gate is open, when
// its work must be stopped, and when it exits.
//
// It is level-triggered. Everything it decides from is a present fact: the two
// maps as last read, the tasks that are in flight, the signals received, the
// time. Resolve and Machine.Step are pure functions of such facts and of the
// little that must be remembered; Loop is the one goroutine that feeds them
// and carries out what they order.
//
// The rules are those of the contract: R1 to R4 are in resolve.go, R5 to R11
// in machine.go.
package lifecycle
