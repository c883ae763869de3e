package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/gittest"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

// asHelper in the environment makes the test binary be the helper.
const asHelper = "GITLAB_RUNNER_HELPER_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(asHelper) != "" {
		main()
	}
	os.Exit(m.Run())
}

// helper is a command of the real helper.
func helper(t *testing.T, args ...string) (cmd *exec.Cmd, out *bytes.Buffer) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd = exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), asHelper+"=1", "HOME="+t.TempDir())
	out = &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	return cmd, out
}

func sourcesPlan(t *testing.T) (*plan.Plan, string) {
	t.Helper()
	server := gittest.NewServer(t)
	repo := server.NewRepository(t, "group/project")
	sha := repo.Commit(t, map[string]string{"readme": "hello\n"})
	dir := filepath.Join(t.TempDir(), "builds", "group", "project")
	return &plan.Plan{
		Stage: "get_sources", ProjectDir: dir, TmpDir: dir + ".tmp",
		Sources: &plan.Sources{
			Strategy: plan.StrategyFetch, RemoteURL: repo.URL, RemoteURLWithCredentials: server.WithCredentials(repo.URL),
			Refspecs: []string{"+refs/heads/main:refs/remotes/origin/main"}, Sha: sha, Ref: "main", Checkout: true,
		},
	}, dir
}

// start runs run-stage with a plan. The input stays open.
func start(t *testing.T, p *plan.Plan) (cmd *exec.Cmd, stdin io.WriteCloser, out *bytes.Buffer) {
	t.Helper()
	cmd, out = helper(t, "run-stage")
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `umask 022; exec "$0" run-stage`, cmd.Path}
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	require.NoError(t, json.NewEncoder(stdin).Encode(p))
	return cmd, stdin, out
}

func TestStageEndsByItselfAndEverybodyMayWriteItsFiles(t *testing.T) {
	p, dir := sourcesPlan(t)
	cmd, _, out := start(t, p)
	require.NoError(t, cmd.Wait(), "%s", out)
	info, err := os.Stat(filepath.Join(dir, "readme"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o666), info.Mode().Perm())
}

func TestStageKeepsTheUmaskIfToldSo(t *testing.T) {
	p, dir := sourcesPlan(t)
	p.KeepUmask = true
	cmd, _, out := start(t, p)
	require.NoError(t, cmd.Wait(), "%s", out)
	info, err := os.Stat(filepath.Join(dir, "readme"))
	require.NoError(t, err)
	require.Zero(t, info.Mode().Perm()&0o002)
}

func TestExitCodeIsThatOfWhatFailed(t *testing.T) {
	p, _ := sourcesPlan(t)
	p.Sources.PreHooks = []string{"exit 42"}
	cmd, _, out := start(t, p)
	require.Error(t, cmd.Wait())
	require.Equal(t, 42, cmd.ProcessState.ExitCode())
	require.Contains(t, out.String(), "ERROR: pre_get_sources_script ended with exit code 42")

	p, _ = sourcesPlan(t)
	p.Sources.Sha = "short"
	cmd, _, _ = start(t, p)
	require.Error(t, cmd.Wait())
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
}

func TestEndOfInputGivesTheStageUp(t *testing.T) {
	p, dir := sourcesPlan(t)
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, exec.Command("mkfifo", pipe).Run())
	p.Sources.PreHooks = []string{"echo > " + pipe + "; exec sleep 1000"}
	cmd, stdin, out := start(t, p)
	_, err := os.ReadFile(pipe) // the hook runs
	require.NoError(t, err)
	require.NoError(t, stdin.Close())
	begun := time.Now()
	require.Error(t, cmd.Wait())
	require.Less(t, time.Since(begun), 30*time.Second)
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Contains(t, out.String(), "ERROR: the stage was given up: standard input ended")
	require.NoDirExists(t, dir)
}

func TestCommandsThatUsersCall(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "modules"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "modules", "a,b"), []byte("x"), 0o644))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)

	for _, c := range []struct {
		args []string
		env  []string
		code int
		says string
	}{
		{args: []string{"--version"}, says: "Version: "},
		{args: []string{"bogus"}, code: 1, says: `unknown command "bogus"`},
		{args: []string{"run-stage"}, code: 1, says: "there is no plan on standard input"},
		{args: []string{"cache-init", filepath.Join(dir, "new")}},
		{args: []string{"cache-init"}, code: 1, says: "no directory given"},
		{args: []string{"health-check"}, code: 1, says: "no host to check"},
		{args: []string{"health-check"}, env: []string{"DB_TCP_ADDR=127.0.0.1", "DB_1_TCP_PORT=" + port}, says: "dialed 127.0.0.1:" + port},
		{args: []string{"health-check", "-p", port}, says: "dialed localhost:" + port},
		{args: []string{"cache-archiver", "--file", "c/cache.zip", "--path", "modules/{a,b},b"}, says: "modules/{a,b},b: found 1 matching"},
		{args: []string{"cache-archiver", "--file", "d/cache.zip", "--alternate-file", "c/cache.zip", "--path", "modules"}, says: "found 2 matching"},
		{args: []string{"cache-extractor", "--file", "d/cache.zip"}},
		{args: []string{"cache-extractor", "--file", "c/cache.zip"}, code: 1, says: "cache file does not exist"},
		{args: []string{"cache-archiver", "--file", "d/cache.zip", "--path", "modules", "--url", "http://x", "--header", "bad"}, code: 1, says: "--header is not of the form"},
		{args: []string{"artifacts-uploader", "--url", "http://127.0.0.1:1", "--id", "1", "--token", "t", "--path", "none"}, says: "No files to upload"},
		{args: []string{"artifacts-downloader"}, code: 1, says: "Required flags"},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			cmd, out := helper(t, c.args...)
			cmd.Dir = dir
			cmd.Env = append(cmd.Env, c.env...)
			_ = cmd.Run()
			require.Equal(t, c.code, cmd.ProcessState.ExitCode(), "%s", out)
			require.Contains(t, out.String(), c.says)
		})
	}
}
