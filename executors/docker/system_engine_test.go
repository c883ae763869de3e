//go:build system

package docker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/api/types/volume"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/blueprint"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

// nextImage holds an engine that is some releases younger than this machine's.
const nextImage = "gitlab-runner-instance-next:local"

// otherEngine is a second real engine, in a container of this machine's. Its disk is as large as the test
// wants it, and it is reached by TLS from outside and by a socket from an instance's point of view.
type otherEngine struct {
	// container is its name on this machine's engine.
	container string
	host      string
	certs     string
	socket    string
}

// startEngine starts an engine whose data are on a disk of the given size, and gives it images.
func startEngine(t *testing.T, size string, images ...string) *otherEngine {
	t.Helper()
	dir := t.TempDir()
	e := &otherEngine{
		container: "test-engine-" + randomSuffix(),
		certs:     filepath.Join(dir, "client"),
		socket:    filepath.Join(dir, "run", "docker.sock"),
	}
	makeCertificates(t, e.certs, filepath.Join(dir, "server"))
	// The options are those with which an instance runs where a privileged container cannot.
	run(t, "docker", "run", "--detach", "--name", e.container,
		"--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE",
		"--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--security-opt", "systempaths=unconfined",
		"--tmpfs", "/var/lib/docker:rw,exec,dev,suid,size="+size,
		"--volume", filepath.Join(dir, "server")+":/certs:ro", "--volume", filepath.Dir(e.socket)+":/outside",
		"--publish", "127.0.0.1::2376", nextImage, "engine",
		"--host", "unix:///outside/docker.sock", "--host", "unix:///var/run/docker.sock", "--host", "tcp://0.0.0.0:2376",
		"--tlsverify", "--tlscacert", "/certs/ca.pem", "--tlscert", "/certs/cert.pem", "--tlskey", "/certs/key.pem")
	t.Cleanup(func() { run(t, "docker", "rm", "--force", "--volumes", e.container) })
	e.host = "tcp://" + run(t, "docker", "port", e.container, "2376/tcp")
	require.Eventually(t, func() bool {
		return exec.Command("docker", "--host", "unix://"+e.socket, "version").Run() == nil
	}, 30*time.Second, 50*time.Millisecond, "the engine does not answer")
	for _, image := range images {
		run(t, "sh", "-c", "docker save "+image+" | docker --host unix://"+e.socket+" load")
	}
	return e
}

// over makes a job use the engine by TLS.
func (e *otherEngine) over(job *common.Job) {
	job.Runner.Docker.Host, job.Runner.Docker.TLSCertPath, job.Runner.Docker.TLSVerify = e.host, e.certs, true
}

// run runs a command and returns what it printed, without the white space around it.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	output, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", name, args, output)
	return strings.TrimSpace(string(output))
}

// makeCertificates fills two directories with certificates of one authority, as Docker wants them.
func makeCertificates(t *testing.T, client, server string) {
	t.Helper()
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	authorityText, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	require.NoError(t, err)
	for serial, dir := range []string{client, server} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		text, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
			SerialNumber: big.NewInt(int64(serial) + 2), Subject: pkix.Name{CommonName: filepath.Base(dir)},
			NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		}, authority, key.Public(), authorityKey)
		require.NoError(t, err)
		private, err := x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(dir, 0o700))
		for name, block := range map[string]*pem.Block{
			"ca.pem":   {Type: "CERTIFICATE", Bytes: authorityText},
			"cert.pem": {Type: "CERTIFICATE", Bytes: text},
			"key.pem":  {Type: "PRIVATE KEY", Bytes: private},
		} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600))
		}
	}
}

func TestAJobRunsOnAYoungerEngineOverTLS(t *testing.T) {
	other := startEngine(t, "500m", "busybox:latest", "redis-service:local")
	r := newTrial(t, "busybox:latest", func(job *common.Job) {
		other.over(job)
		job.Runner.Docker.MacAddress = "02:42:ac:11:00:99"
		job.Runner.Docker.Volumes = []string{"/cache"}
		job.Strategy = plan.StrategyEmpty
		job.Spec.Services = []spec.Image{{
			Name: "redis-service:local", Alias: "store",
		}}
	})
	r.prepare()
	require.False(t, versions.LessThan(r.executor.(*executor).server.APIVersion, "1.44"),
		"API %s", r.executor.(*executor).server.APIVersion)
	require.NoError(t, r.stage(plan.Plan{
		Stage: "get_sources", Sources: &plan.Sources{Strategy: plan.StrategyEmpty, Submodules: plan.Submodules{Strategy: plan.SubmoduleNone}},
	}), r.log.String())
	require.NoError(t, r.script(t.Context(), framed(
		"cat /sys/class/net/eth0/address; echo PING | nc -w 1 store 6379; touch /cache/kept")), r.log.String())
	require.NotContains(t, r.log.String(), "didn't start properly")
	require.Contains(t, r.log.String(), "02:42:ac:11:00:99")
	require.Contains(t, r.log.String(), "+PONG")
	r.cleanup()
	require.Empty(t, run(t, "docker", "--host", "unix://"+other.socket, "ps", "--all", "--quiet"))
}

func TestAnEngineWhoseCertificateIsNotTrustedIsAFaultThatIsNamed(t *testing.T) {
	other := startEngine(t, "100m")
	foreign := t.TempDir()
	makeCertificates(t, foreign, t.TempDir())
	for name, c := range map[string]struct {
		certs string
		says  string
	}{
		"of another authority": {certs: foreign, says: "certificate signed by unknown authority"},
		"missing":              {certs: filepath.Join(foreign, "nowhere"), says: "ca.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTrial(t, "busybox:latest", func(job *common.Job) {
				other.over(job)
				job.Runner.Docker.TLSCertPath = c.certs
			})
			_, err := r.executor.Connect(t.Context())
			require.ErrorContains(t, err, c.says)
			r.cleanup()
		})
	}
}

// TestAFullDiskOfAnInstanceLosesItsOldestCaches lets the caches of three projects fill a disk.
func TestAFullDiskOfAnInstanceLosesItsOldestCaches(t *testing.T) {
	other := startEngine(t, "300m", "busybox:latest")
	env := &loopback{id: "i-full", socket: other.socket}
	engine, err := docker.New(docker.Options{Host: "unix://" + other.socket})
	require.NoError(t, err)
	defer engine.Close()
	_, err = engine.Server(t.Context())
	require.NoError(t, err)

	provider := newTrial(t, "busybox:latest", nil).provider
	// caches are the volumes that are kept, in the order in which they were made.
	caches := func() []string {
		found, err := engine.VolumeList(t.Context(), blueprint.LabelManaged+"=true")
		require.NoError(t, err)
		slices.SortFunc(found, func(a, b *volume.Volume) int { return strings.Compare(a.CreatedAt, b.CreatedAt) })
		var names []string
		for _, one := range found {
			if one.Labels[blueprint.LabelReusable] == "true" {
				names = append(names, one.Name)
			}
		}
		return names
	}
	job := func(project int64, fill string) {
		r := newTrial(t, "busybox:latest", func(job *common.Job) {
			job.Spec.Info.ProjectID = project
			job.Strategy = plan.StrategyEmpty
			job.Runner.Docker.Volumes = []string{"/cache"}
		})
		r.provider, r.executor = provider, provider.NewExecutor(r.job, env)
		r.prepare()
		require.NoError(t, r.stage(plan.Plan{
			Stage: "get_sources", Sources: &plan.Sources{Strategy: plan.StrategyEmpty, Submodules: plan.Submodules{Strategy: plan.SubmoduleNone}},
		}), r.log.String())
		// The disk is looked at now and then only.
		machine := r.executor.(*executor).machine
		machine.mu.Lock()
		machine.looked = time.Time{}
		machine.mu.Unlock()
		require.NoError(t, r.script(t.Context(), framed("head -c "+fill+" /dev/zero >/cache/data")), r.log.String())
		r.cleanup()
	}
	job(1, "80m")
	first := caches()
	require.NotEmpty(t, first)
	job(2, "60m")
	require.Subset(t, caches(), first, "there is room yet")
	job(3, "80m")
	left := caches()
	require.NotEmpty(t, left)
	for _, name := range first {
		require.NotContains(t, left, name, "the first project's caches were unused for longest")
	}
}
