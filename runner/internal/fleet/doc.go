// Package fleet says what the runners of a namespace are asked for and what they do,
// from their pods and maps alone. It asks no runner, and changes nothing.
package fleet
