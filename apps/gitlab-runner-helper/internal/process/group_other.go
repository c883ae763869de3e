//go:build !unix

package process

import "os/exec"

func ownGroup(*exec.Cmd) {}

func endGroup(cmd *exec.Cmd) error {
	return cmd.Process.Kill()
}

func killGroup(*exec.Cmd) {}

func exitCode(err *exec.ExitError) int {
	return err.ExitCode()
}
