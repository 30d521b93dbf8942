package supervise

// Compile makes the supervisor of its source.
var Compile = compile

// Waitable makes a file for which no thread waits.
var Waitable = waitable

// Started counts the supervisors that nobody has waited for.
func Started() int {
	children.mu.Lock()
	defer children.mu.Unlock()
	return len(children.started)
}

// Anew makes the next start put the supervisor into memory again, as the first one of a process does.
func Anew() {
	memory.Lock()
	defer memory.Unlock()
	memory.file = nil
}
