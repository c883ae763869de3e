// Package sample is a small project with a pipeline: a real program in a real git repository, the jobs that build and
// test it, and for every job what must come of it. Whole-system tests and the demo run the same pipeline and judge it by
// the same table.
//
// It knows the runner only from outside, as package coordinator does. Any test, demo or benchmark of this module may
// import it; product code may not.
package sample
