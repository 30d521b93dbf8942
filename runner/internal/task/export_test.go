package task

// MemoryCounters are the files in which the kernel counts.
var MemoryCounters = &memoryCounters

// DiskPause is how long nobody looks at a task's directory.
var DiskPause = &diskPause
