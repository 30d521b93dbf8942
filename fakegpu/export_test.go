package fakegpu

// Format is the text of a state.
func Format(m Machine) []byte { return m.format() }

// Describe reads a profile that is not one of profiles/.
func Describe(profile string) (GPU, error) {
	g := GPU{Numbers: make(map[string]uint64)}
	return g, g.describe([]byte(profile))
}
