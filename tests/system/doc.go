//go:build system

// Package system holds the tests of the whole: the built programs run against the stand-in for GitLab,
// on real engines, over real SSH, with the real plugin. What they assert is seen from outside: in the
// stand-in's records, on the engines, in the table of processes. A text of the program counts only where
// it is part of the contract, which is in job logs and in the errors an operator has to act upon.
//
// Every test has a stand-in, a configuration and a group of instances of its own, and ends with nothing
// of that left; the tests can run side by side, and beside others on the same engine.
//
// They need the build tag system and what `make system` builds first. Nothing imports this package.
package system
