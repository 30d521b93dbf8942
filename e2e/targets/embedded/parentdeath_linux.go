package embedded

import "syscall"

// dieWithParent makes the kernel kill the process when this one dies. More
// exactly, when the thread dies that starts it, which Go ends only for
// goroutines that locked it; the tests have none.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
