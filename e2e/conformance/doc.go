// Package conformance plays the contract against any runner that reads the two
// maps, in whatever language it is written. See README.md for its users.
//
// A row of the catalogue is in level core, in level extended, or in none for a
// reason (levels.yaml). What shows it is a scenario below rows/<level>, in the
// format of the harness and played by its engine, but one that can only use what
// anybody sees of a runner: Kubernetes, what tasks note, exits and termination
// messages. The rest is one adapter, which starts runners and submits tasks.
package conformance
