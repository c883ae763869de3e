// Package localrun runs jobs of a pipeline without a GitLab: it takes a commit of the working tree, serves
// it and the artifacts to the jobs, runs each as a common.Build on the executor it is given, in the order
// that stages and needs ask for, and shows what they print.
//
// Nothing listens on this machine. What a job's helper needs of a server it gets through the standard
// streams of its stages, see helpers/relay, so that it makes no difference where the job runs.
//
// The exec command uses it.
package localrun
