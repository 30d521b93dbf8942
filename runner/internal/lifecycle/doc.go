// Package lifecycle decides what a runner does: whether its gate is open, when
// its work must be stopped, and when it exits.
//
// It is level-triggered. Everything it decides from is a present fact: the two
// maps as last read, the tasks that are in flight, the signals received, the
// time. Resolve and Machine.Step are pure functions of such facts and of the
// little that must be remembered; Loop is the one goroutine that feeds them
// and carries out what they order.
//
// The rules are those of the contract: what the maps mean (R1 to R4 and R15) is in
// resolve.go, what a runner does about it (R5 to R7 and R9 to R11) in machine.go, with
// the signals counted in loop.go, the runner's own limits in limit.go and the times of an
// end in budget.go.
package lifecycle
