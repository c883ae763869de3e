// Package connector reaches the instances of a group: it opens an SSH or WinRM connection from the
// data a plugin returned, runs commands over it and carries network connections through it.
//
// What it guarantees:
//
//   - Connecting is tried again until the configured timeout is over, because instances boot, and
//     ends at once when the context does.
//   - Every connection is bound to the machine it was opened to. Host keys are compared with those
//     the plugin gave, or with the ones seen first when the caller keeps a [KnownHosts].
//   - The loss of an SSH connection is noticed within the keepalive interval plus its reply time,
//     see [Monitored], and is never mistaken for the orderly end of a stream.
//   - Everything an instance sends is capped, and its text is cleaned before it becomes part of an
//     error. Credentials are in no error.
//   - After Close of a client none of its goroutines is left, but for one that is still inside a
//     Read or Write of the caller's own stream.
//
// Any package that knows about instances may import it; it knows nothing of jobs or scaling.
package connector
