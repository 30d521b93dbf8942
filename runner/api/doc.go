// Package api holds the words on the wire: the states and the ConfigMaps that
// carry them, the task and result documents, and the status document that a
// runner serves. It has no logic beyond parsing and validation, so that the
// runner, its command line and the test harness can share it without sharing
// anything else.
package api
