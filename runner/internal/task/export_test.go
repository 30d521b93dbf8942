package task

// MemoryCounters are the files in which the kernel counts.
var MemoryCounters = &memoryCounters
