package programs

import "time"

// SetListTimeout changes how long envtest's list may take.
func SetListTimeout(d time.Duration) (restore func()) {
	old := listTimeout
	listTimeout = d
	return func() { listTimeout = old }
}
