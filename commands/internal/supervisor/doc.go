// Package supervisor watches over one child process and lets others watch and stop it over gRPC, as the
// contract in commands/processwrapper has it.
//
// A [Process] is started once and never again. It is in a process group of its own, out of reach of the
// signals of a terminal, and it does not outlive its supervisor: [Process.Terminate] kills what does not
// end in time, and where the system can do so (on Linux) it asks the process to finish its work and end when
// the supervisor was killed. Whoever asked for it is called back once the process has ended. What is received is checked
// and bounded; of a callback neither headers nor path are logged.
//
// The command `wrapper` imports it.
package supervisor
