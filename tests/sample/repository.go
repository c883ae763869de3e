package sample

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed program
var program embed.FS

const (
	// Project is the path under which the repository is meant to be served.
	Project = "sample/greeter"
	// Branch is the default branch.
	Branch = "main"
	// Tag is the tag of the first release, an ancestor of Branch's head.
	Tag = "v0.1.0"
)

// Create makes the repository below dir, which must exist: the bare repository that it returns with its head commit.
// The commit ids are the same each time. It fails when git is not installed or dir cannot be written or is not empty.
func Create(dir string) (bareRepo, head string, err error) {
	r := maker{work: filepath.Join(dir, "work"), bare: filepath.Join(dir, "greeter.git")}
	if err := os.Mkdir(r.work, 0o755); err != nil {
		return "", "", fmt.Errorf("create sample repository: %w", err)
	}
	steps := []func() error{
		func() error { return r.git("init", "-q", "-b", Branch) },
		func() error { return r.write("VERSION", "0.1.0\n") },
		func() error { return r.copy("README.md", "greeter.sh.in", "build.sh") },
		func() error { return r.commit("Greet whoever is named") },
		func() error { return r.git("tag", Tag) },
		func() error { return r.copy("test.sh") },
		func() error { return r.commit("Test the greetings") },
		func() error { return r.copy("warm.sh") },
		func() error { return r.commit("Keep a cache") },
		func() error { return r.copy("VERSION") },
		func() error { return r.commit("Release 0.2.0") },
		func() error { return r.git("clone", "-q", "--bare", r.work, r.bare) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return "", "", fmt.Errorf("create sample repository: %w", err)
		}
	}
	head, err = r.output("rev-parse", "HEAD")
	if err != nil {
		return "", "", fmt.Errorf("create sample repository: %w", err)
	}
	return r.bare, strings.TrimSpace(head), nil
}

// maker builds the history in work.
type maker struct {
	work, bare string
	commits    int
}

// firstCommit is when the history begins; each commit is an hour after the one before.
var firstCommit = time.Date(2026, 1, 5, 9, 0, 0, 0, time.UTC)

func (r *maker) git(args ...string) error {
	_, err := r.output(args...)
	return err
}

// output runs git apart from the machine's configuration, so that the commits come out the same everywhere.
func (r *maker) output(args ...string) (string, error) {
	when := firstCommit.Add(time.Duration(r.commits) * time.Hour).Format(time.RFC3339)
	cmd := exec.CommandContext(context.Background(), "git", args...)
	cmd.Dir = r.work
	cmd.Env = append(os.Environ(),
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull,
		"GIT_AUTHOR_NAME=Sample Author", "GIT_AUTHOR_EMAIL=author@example.com", "GIT_AUTHOR_DATE="+when,
		"GIT_COMMITTER_NAME=Sample Author", "GIT_COMMITTER_EMAIL=author@example.com", "GIT_COMMITTER_DATE="+when,
	)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return string(text), nil
}

func (r *maker) copy(names ...string) error {
	for _, name := range names {
		content, err := fs.ReadFile(program, "program/"+name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if err := r.write(name, string(content)); err != nil {
			return err
		}
	}
	return nil
}

func (r *maker) write(name, content string) error {
	if err := os.WriteFile(filepath.Join(r.work, name), []byte(content), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// commit takes in everything; scripts are executable whatever the file system of this machine says.
func (r *maker) commit(message string) error {
	if err := r.git("add", "."); err != nil {
		return err
	}
	scripts, err := filepath.Glob(filepath.Join(r.work, "*.sh"))
	if err != nil {
		return fmt.Errorf("list scripts: %w", err)
	}
	for _, script := range scripts {
		if err := r.git("update-index", "--chmod=+x", filepath.Base(script)); err != nil {
			return err
		}
	}
	if err := r.git("commit", "-q", "-m", message); err != nil {
		return err
	}
	r.commits++
	return nil
}
