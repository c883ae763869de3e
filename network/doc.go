// Package network is the client of GitLab's Jobs API: it registers and verifies runners, asks for jobs,
// reports their state, sends their logs and moves their artifacts.
//
// What it guarantees:
//   - A Client is safe for concurrent use. It keeps one set of connections per set of credentials.
//   - Statuses that ask for patience (429, 503 and their like) are retried below every call.
//   - Nothing that comes from the server is read without a limit, and no token, user info or query of a
//     URL reaches a log or an error text.
//   - A Trace is the only owner of its job's log: its one goroutine sends the log and the keep-alives,
//     and Finish waits for that goroutine.
//
// Commands and the helper binary import it. It imports the job's and the configuration's types and
// helpers, and neither executors nor metric libraries: see Recorder.
package network
