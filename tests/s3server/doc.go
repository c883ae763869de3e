// Package s3server starts a real S3 server for tests and demonstrations: the Versity S3 Gateway, a free
// program written in Go, as a process of its own that keeps its objects in a directory. It checks
// signatures, their times and what they cover as S3 does.
//
// The program is built from its module, of a fixed version, into out/tools when it is not there yet;
// that takes about a minute. `go run ./tests/s3server/install` does so ahead of time.
//
// What it guarantees: every server has credentials of its own, which stand on no command line; Close
// leaves no process behind. Any test or demo of this module may import it; product code may not.
package s3server
