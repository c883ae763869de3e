// Package scenarios runs jobs that are kept as data, testdata/NN_name.yaml, on the docker executor of a
// real manager and compares their complete logs with testdata/NN_name.log. Run with -update, it writes
// the logs anew: read the difference before it is kept.
//
// Nothing imports it.
package scenarios
