// Package processwrapper is the gRPC contract by which a runner under `gitlab-runner wrapper` is watched
// and stopped, as wrapper.proto has it, with the client and the server's interface in Go.
//
// It holds nothing but generated code. The server is commands/internal/supervisor; clients, of this
// project or not, may import it.
package processwrapper

//go:generate go run github.com/bufbuild/buf/cmd/buf@v1.75.0 generate
