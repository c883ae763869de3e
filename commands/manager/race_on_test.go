//go:build race

package manager_test

// raceFactor is how much more memory the race detector takes.
const raceFactor = 5
