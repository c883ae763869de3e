//go:build system

// Package autoscaling holds whole-system tests of fleets over time: restarts with and without state,
// reloads, rotated tokens, entries that go, instances that die, several entries under load, and a soak.
// The built programs run with the docker plugin against the stand-in for GitLab; what is asserted is seen
// from outside.
//
// Every test has a stand-in, a configuration and groups of instances of its own, and ends with nothing of
// that left. They need the build tag system and what `make system` builds first. Nothing imports this
// package.
package autoscaling
