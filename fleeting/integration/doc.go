// Package integration is a test kit for the authors of plugins. It builds a plugin's binary and drives
// it through the whole life of a few instances, as GitLab Runner does: with a real process, real
// instances and a real connection to one of them. Tests of plugins import it, nothing else does; it
// holds no state, so tests may use it at the same time.
package integration
