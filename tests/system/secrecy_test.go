//go:build system

package system

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig"
	"gitlab.com/gitlab-org/gitlab-runner/tests/rig/rigtest"
	"gitlab.com/gitlab-org/gitlab-runner/tests/s3server"
)

// secrecy knows every secret of a run, and looks for them in what others may see.
type secrecy struct {
	*stage
	secrets map[string]string
	// looked counts the bytes that were looked through, by where they came from.
	looked map[string]int
}

// made returns a new secret. It has no prefix by which it could be known for one.
func (s *secrecy) made(what string) string {
	value := "q" + strings.ToLower(rand.Text())
	s.secrets[what] = value
	return value
}

// look requires that a text has no secret.
func (s *secrecy) look(where, text string) {
	s.Helper()
	kind, _, _ := strings.Cut(where, ":")
	s.looked[kind] += len(text)
	for what, secret := range s.secrets {
		require.NotEmpty(s, secret, what)
		// No require.NotContains: it would print the text.
		if at := strings.Index(text, secret); at >= 0 {
			s.Errorf("%s has the %s: …%s", where, what, text[max(0, at-100):at])
		}
	}
}

// processes looks through the command lines of everything on the machine, instances included.
func (s *secrecy) processes() {
	s.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(s, err)
	for _, file := range files {
		if data, err := os.ReadFile(file); err == nil { // it may have ended
			s.look("command line: of process "+filepath.Base(filepath.Dir(file)), strings.ReplaceAll(string(data), "\x00", " "))
		}
	}
}

// containers looks at what is told of the containers on an instance, and of the instance itself. The
// environment of build and service containers is the user's: images count on finding variables there.
func (s *secrecy) containers(instance string) {
	s.Helper()
	ids := s.InInstance(instance, "docker", "ps", "--all", "--quiet")
	require.GreaterOrEqual(s, len(ids), 3, "helper, build and service")
	for _, id := range ids {
		var told []map[string]any
		require.NoError(s, json.Unmarshal([]byte(strings.Join(s.InInstance(instance, "docker", "inspect", id), "\n")), &told))
		config := told[0]["Config"].(map[string]any)
		if config["Labels"].(map[string]any)["com.gitlab.gitlab-runner.type"] != "predefined" {
			delete(config, "Env")
		}
		text, err := json.Marshal(told)
		require.NoError(s, err)
		s.look("container: "+id, string(text))
	}
	out, err := rig.Inspect(instance)
	require.NoError(s, err)
	s.look("instance: "+instance, out)
}

var debugLine = regexp.MustCompile(`(?m)^url=http\S+/-/jobs/\d+ state=running stage=step_script executor_stage=docker_run duration=[0-9.]+s$`)

func TestNoOutputOfARunHasASecret(t *testing.T) {
	t.Parallel()
	s := &secrecy{stage: newStage(t, coordinator.Config{}), secrets: map[string]string{}, looked: map[string]int{}}
	store, err := s3server.Start(filepath.Join(t.TempDir(), "store"), s.Gateway+":0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	s.secrets["runner token"] = s.Coordinator.RunnerToken()
	s.secrets["key of the cache"] = store.SecretKey
	registry := base64.StdEncoding.EncodeToString([]byte("robot:" + s.made("password of the operator's registry")))
	s.secrets["encoded credentials of the operator's registry"] = registry
	state := filepath.Join(s.Dir, "state")
	config := s.Autoscaled(rig.Config{
		Capacity: 2, IdleCount: 1, Cache: store.RunnerConfig(),
		Keys: fmt.Sprintf("  environment = [\"OPERATORS_TOKEN=%s\", 'DOCKER_AUTH_CONFIG={\"auths\":{\"registry.example.com\":{\"auth\":\"%s\"}}}']",
			s.made("variable of the operator"), registry),
		Connector:  fmt.Sprintf("      password = %q\n", s.made("password for instances")),
		Autoscaler: fmt.Sprintf("    [runners.autoscaler.state_storage]\n      enabled = true\n      dir = %q\n", state),
	})
	s.LaunchText("log_level = \"debug\"\nlisten_address = \"127.0.0.1:0\"\n" + s.Text(config))
	address := s.Listening()

	gate := s.NewGate()
	masked := s.made("masked variable")
	job := s.EnqueueWithSources(coordinator.JobSpec{
		Variables:   []coordinator.Variable{{Key: "PASSWORD", Value: masked, Masked: true}},
		Services:    []coordinator.Service{{Image: coordinator.Image{Name: rigtest.Busybox, Entrypoint: []string{"sleep", "600"}}}},
		Credentials: []coordinator.Credential{{URL: "registry.gitlab.example.com", Username: "job", Password: s.made("password of the job's registry")}},
		Cache:       []coordinator.CacheSpec{{Key: "kept", Paths: []string{"kept"}}},
		Artifacts:   []coordinator.ArtifactSpec{{Paths: []string{"kept"}}},
		Script:      []string{"mkdir -p kept && date >kept/file", "echo $PASSWORD $CI_JOB_TOKEN", gate.Wait},
	})
	s.Eventually(patience, func() bool { return gate.Held() == 1 }, "the job did not come to the gate")
	s.secrets["job token"] = job.Token()

	instance := s.Instance()
	s.containers(instance)
	s.processes()
	for _, path := range []string{"/metrics", "/status", "/status.json", "/debug/process/state", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2"} {
		text, _ := s.Get(address, path)
		s.look("endpoint: "+path, text)
	}
	list, header := s.Get(address, "/debug/jobs/list")
	require.Equal(t, "2", header.Get("X-List-Version"))
	require.Regexp(t, debugLine, list)
	s.look("endpoint: /debug/jobs/list", list)
	out, err := s.Runner(s.Ctx, "fleet", "status", "--address", address)
	require.NoError(t, err, out)
	s.look("fleet status: ", out)

	gate.Open()
	record := s.Ended(job)
	s.RequireState(record, coordinator.StateSuccess, "")
	require.Contains(t, string(record.Trace), "[MASKED]")
	s.look("job log: ", string(record.Trace))
	require.NoError(t, filepath.WalkDir(state, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		// Restarts need the credentials of instances: nobody else may read them.
		info, err := entry.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("others may read %s: %s", path, info.Mode())
		}
		s.looked["state files"]++
		return err
	}))
	log := s.Manager
	s.Stop()
	s.look("manager log: ", log.LogText())
	for _, kind := range []string{"command line", "container", "instance", "endpoint", "fleet status", "job log", "state files", "manager log"} {
		require.NotZero(t, s.looked[kind], "nothing was seen of the %s", kind)
	}
}
