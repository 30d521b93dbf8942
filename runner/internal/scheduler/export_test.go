package scheduler

// Attempts is how many attempts Stop would reach.
func (s *Scheduler) Attempts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.running)
}
