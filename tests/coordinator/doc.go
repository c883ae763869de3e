// Package coordinator is a stand-in for GitLab: it hands out CI jobs over the Jobs API, serves their sources over
// authenticated git smart HTTP and keeps what the runner sends back.
//
// Whole-system tests, the demo and the benchmarks start one with Start, add a repository, enqueue jobs or pipelines and
// read each job's record afterwards. The stand-in is written from the protocol alone: it imports none of the runner's own
// packages, so a test that uses it never checks the product with itself.
//
// What it guarantees:
//
//   - Every request is checked against the protocol. A breach is answered as GitLab would answer it and noted, see
//     [Coordinator.Violations]; a test ends by asserting that there are none. Breaches that follow from a fault the test
//     itself injected are not noted.
//   - Job tokens are real: they open the Jobs API, artifacts and git for as long as their job runs and no longer.
//   - All methods are safe for concurrent use. Close leaves no goroutine, process or file behind.
//   - Memory and disk are bounded: request bodies, traces, artifacts and logs of requests have caps.
//
// Any test, demo or benchmark of this module may import it; product code may not.
package coordinator
