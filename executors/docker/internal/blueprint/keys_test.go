package blueprint

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

// keyCase sets one key of [runners.docker].
type keyCase struct {
	key  string
	text string
	// change prepares the job, for keys that matter in some cases only.
	change func(in *Input)
}

func onNetwork(in *Input) { in.Job.Flags = withFlags(featureflags.NetworkPerBuild) }

func withService(in *Input) { in.Job.Spec.Services = []spec.Image{{Name: "redis:7"}} }

func withProfile(in *Input) {
	in.ReadFile = func(string) ([]byte, error) { return []byte("{ \"defaultAction\": \"SCMP_ACT_ALLOW\" }\n"), nil }
}

func withoutJobImage(in *Input) { in.Job.Spec.Image = nil }

var keyCases = []keyCase{
	{"hostname", `hostname = "box"`, nil},
	{"image", `image = "debian:$NAME"`, withoutJobImage},
	{"runtime", `runtime = "runsc"`, withService},
	{"memory", `memory = "512m"`, nil},
	{"memory_swap", `memory_swap = "1g"`, nil},
	{"memory_reservation", `memory_reservation = "256m"`, nil},
	{"cgroup_parent", `cgroup_parent = "group"`, nil},
	{"cpuset_cpus", `cpuset_cpus = "0,1"`, nil},
	{"cpuset_mems", `cpuset_mems = "0"`, nil},
	{"cpus", `cpus = "1.5"`, nil},
	{"cpu_shares", `cpu_shares = 512`, nil},
	{"dns", `dns = ["192.0.2.1"]`, withService},
	{"dns_search", `dns_search = ["example.com"]`, withService},
	{"privileged", `privileged = true`, withService},
	{"services_privileged", "privileged = true\nservices_privileged = false", withService},
	{"disable_entrypoint_overwrite", `disable_entrypoint_overwrite = true`, func(in *Input) {
		in.Job.Spec.Image.Entrypoint = []string{"/init"}
	}},
	{"user", `user = "app"`, nil},
	{"allowed_users", `allowed_users = ["app"]`, func(in *Input) { in.Job.Spec.Image.ExecutorOpts.Docker.User = "app" }},
	{"group_add", `group_add = ["docker"]`, nil},
	{"userns_mode", `userns_mode = "host"`, withService},
	{"cap_add", `cap_add = ["NET_ADMIN"]`, nil},
	{"cap_drop", `cap_drop = ["SETPCAP"]`, nil},
	{"oom_kill_disable", `oom_kill_disable = true`, nil},
	{"oom_score_adjust", `oom_score_adjust = 500`, nil},
	{"security_opt", `security_opt = ["seccomp=/etc/profile.json", "apparmor=unconfined"]`, withProfile},
	{"services_security_opt", `services_security_opt = ["seccomp=unconfined"]`, withService},
	{"devices", `devices = ["/dev/kvm", "/dev/a:/dev/b:r"]`, nil},
	{"device_cgroup_rules", `device_cgroup_rules = ["c 81:* rmw"]`, nil},
	{"services_devices", "[docker.services_devices]\n\"redis:*\" = [\"/dev/kvm\"]\n\"other\" = [\"/dev/fuse\"]", withService},
	{"gpus", `gpus = "all"`, nil},
	{"service_gpus", `service_gpus = "\"device=0,1\",driver=nvidia"`, withService},
	{"disable_cache", "disable_cache = true\nvolumes = [\"/cache\"]", nil},
	{"volumes", `volumes = ["/cache", "relative", "name:/data", "/host:/$NAME:ro,z"]`, withService},
	{"volume_keep", `volume_keep = true`, nil},
	{"volume_driver", `volume_driver = "rexray"`, nil},
	{"volume_driver_ops", "volume_driver_ops = { size = \"10g\" }", nil},
	{"cache_dir", "cache_dir = \"/srv/cache\"\nvolumes = [\"/cache\"]", nil},
	{"volumes_from", `volumes_from = ["other:ro"]`, nil},
	{"tmpfs", "[docker.tmpfs]\n\"/run\" = \"rw,noexec\"", nil},
	{"services_tmpfs", "[docker.services_tmpfs]\n\"/var/lib/redis\" = \"rw\"", withService},
	{"shm_size", `shm_size = 300000`, withService},
	{"extra_hosts", `extra_hosts = ["other:192.0.2.9"]`, withService},
	{"network_mode", `network_mode = "mynet"`, func(in *Input) { onNetwork(in); withService(in) }},
	{"pid_mode", `pid_mode = "host"`, nil},
	{"ipcmode", `ipcmode = "host"`, nil},
	{"mac_address", `mac_address = "92:d0:c6:0a:29:33"`, nil},
	{"links", `links = ["db:database"]`, nil},
	{"enable_ipv6", `enable_ipv6 = true`, onNetwork},
	{"network_mtu", `network_mtu = 1400`, onNetwork},
	{"services_limit", `services_limit = 1`, withService},
	{"service_memory", `service_memory = "1g"`, withService},
	{"service_memory_swap", `service_memory_swap = "-1"`, withService},
	{"service_memory_reservation", `service_memory_reservation = "512m"`, withService},
	{"service_cgroup_parent", `service_cgroup_parent = "services"`, withService},
	{"service_cpuset_cpus", `service_cpuset_cpus = "2"`, withService},
	{"service_cpus", `service_cpus = "0.5"`, withService},
	{"service_cpu_shares", `service_cpu_shares = 128`, withService},
	{"service_slot_cgroup_template", `service_slot_cgroup_template = "services/$slot"`, func(in *Input) {
		withService(in)
		in.Slot, in.Job.Runner.UseSlotCgroups = 2, true
	}},
	{"services", "[[docker.services]]\nname = \"postgres:$NAME\"\nalias = \"db, base\"\ncommand = [\"run\"]\nentrypoint = [\"/init\"]\nenvironment = [\"A=$NAME\"]", nil},
	{"allowed_images", `allowed_images = ["ruby:*"]`, nil},
	{"allowed_services", `allowed_services = ["redis:*"]`, withService},
	{"allowed_privileged_images", "privileged = true\nallowed_privileged_images = [\"other:*\"]", withService},
	{"allowed_privileged_services", "privileged = true\nallowed_privileged_services = [\"other:*\"]", withService},
	{"pull_policy", `pull_policy = ["always", "if-not-present"]`, withService},
	{"allowed_pull_policies", "pull_policy = [\"always\", \"never\"]\nallowed_pull_policies = [\"never\"]", nil},
	{"isolation", `isolation = "default"`, withService},
	{"sysctls", "[docker.sysctls]\n\"net.ipv4.ip_forward\" = \"1\"", nil},
	{"ulimit", "[docker.ulimit]\nnofile = \"1024:2048\"\nnproc = \"64\"", nil},
	{"helper_image", `helper_image = "my/helper:$NAME"`, nil},
	{"helper_image_flavor", `helper_image_flavor = "ubuntu"`, nil},
	{"container_labels", "[docker.container_labels]\n\"team\" = \"$NAME\"", withService},
	{"log_options", "[docker.log_options]\nlabels = \"team\"", withService},
}

// elsewhere are the keys that say how to reach the engine and how long to wait; the executor reads them.
var elsewhere = map[string]bool{
	"host": true, "tls_cert_path": true, "tls_verify": true, "wait_for_services_timeout": true,
}

func TestEveryKeyHasItsEffectOnThePlan(t *testing.T) {
	tested := map[string]bool{}
	var out strings.Builder
	for _, c := range keyCases {
		tested[c.key] = true
		base := testInput(t, "")
		changed := testInput(t, "[docker]\n"+c.text)
		if c.change != nil {
			c.change(&base)
			c.change(&changed)
		}
		before, err := Compile(base)
		require.NoError(t, err, c.key)
		after, err := Compile(changed)
		require.NoError(t, err, c.key)
		fmt.Fprintf(&out, "== %s\n%s\n", c.key, difference(lines(t, before), lines(t, after)))
	}
	compareGolden(t, "keys.golden", out.String())

	keys := reflect.TypeFor[config.Docker]()
	for i := range keys.NumField() {
		key, _, _ := strings.Cut(keys.Field(i).Tag.Get("toml"), ",")
		require.True(t, tested[key] || elsewhere[key], "no test shows the effect of %q", key)
	}
}

func TestFaultsOfTheConfigurationAreNamed(t *testing.T) {
	cases := map[string]struct {
		text   string
		change func(in *Input)
		want   string
	}{
		"memory":              {`memory = "much"`, nil, `memory: "much" is not a size such as "512m"`},
		"cpus":                {`cpus = "half"`, nil, "failed to parse half as a rational number"},
		"dns":                 {`dns = ["resolver"]`, nil, `invalid DNS server address "resolver"`},
		"mac":                 {`mac_address = "zz"`, nil, `invalid MAC address "zz"`},
		"isolation":           {`isolation = "full"`, nil, `"full" is not one of default, process, hyperv`},
		"ulimit soft":         {"[docker.ulimit]\nnofile = \"x\"", nil, "invalid soft limit value: x"},
		"ulimit hard":         {"[docker.ulimit]\nnofile = \"1:x\"", nil, "invalid hard limit value: x"},
		"devices":             {`devices = ["a:b:c:d"]`, nil, `"a:b:c:d" is not of the form`},
		"gpus":                {`gpus = "color=red"`, nil, `unexpected key "color"`},
		"seccomp missing":     {`security_opt = ["seccomp=/none"]`, nil, "reading seccomp profile: open /none"},
		"seccomp not JSON":    {`security_opt = ["seccomp=/none"]`, func(in *Input) { in.ReadFile = func(string) ([]byte, error) { return []byte("no"), nil } }, "seccomp profile /none"},
		"log options":         {"[docker.log_options]\nmax-size = \"1m\"", nil, `creating docker log configuration: invalid log options: only ["env" "labels"] are allowed, but found: ["max-size"]`},
		"volume grammar":      {`volumes = ["a:b:c:d"]`, nil, `invalid volume specification: "a:b:c:d"`},
		"volume twice":        {`volumes = ["/a", "/b:/a"]`, nil, `volume for container path "/a" is already defined`},
		"volume root":         {`volumes = ["/x:/"]`, nil, "cannot be a volume"},
		"volume of nothing":   {`volumes = ["$NOTHING"]`, nil, `invalid volume specification: "$NOTHING"`},
		"too many services":   {`services_limit = 0`, withService, "too many services requested: 1, only 0 allowed"},
		"image refused":       {`allowed_images = ["alpine:*"]`, nil, "disallowed image"},
		"service refused":     {`allowed_services = ["other"]`, withService, "disallowed image"},
		"user refused":        {`allowed_users = ["app"]`, func(in *Input) { in.Job.Spec.Image.ExecutorOpts.Docker.User = "root" }, `user "root" is not an allowed user: [app]`},
		"no image":            {`image = ""`, withoutJobImage, "no Docker image specified to run the build in"},
		"policy unknown":      {`pull_policy = "often"`, nil, `unsupported pull_policy config: "often"`},
		"allowed policy":      {`allowed_pull_policies = ["often"]`, nil, `unsupported allowed_pull_policies config: "often"`},
		"policy not allowed":  {`pull_policy = "always"`, func(in *Input) { in.Job.Spec.Image.PullPolicies = []string{"never"} }, `invalid pull policy for image "ruby:3": pull_policy ([never]) defined in GitLab pipeline config is not one of the allowed_pull_policies ([always])`},
		"service name":        {"", func(in *Input) { in.Job.Spec.Services = []spec.Image{{Name: "Not A Name"}} }, `invalid service image name: "Not A Name"`},
		"platform":            {"", func(in *Input) { in.Job.Spec.Image.ExecutorOpts.Docker.Platform = "a/b/c/d" }, `platform "a/b/c/d"`},
		"shell":               {"", func(in *Input) { in.Job.Runner.Shell = "cmd" }, "docker doesn't support shells that require script file"},
		"unsupported options": {"", func(in *Input) { in.Job.Spec.Image.ExecutorOpts.Unsupported = []string{"docker.color"} }, "docker.color"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := testInput(t, "[docker]\n"+c.text)
			if c.change != nil {
				c.change(&in)
			}
			_, err := Compile(in)
			require.ErrorContains(t, err, c.want)
		})
	}
}

func TestARefusedImageIsExplained(t *testing.T) {
	_, err := Compile(testInput(t, `docker.allowed_images = ["alpine:*", "debian:*"]`))
	var refused *RefusedImageError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, `The "ruby:3" image is not present on list of allowed images:
- alpine:*
- debian:*
Please check runner's allowed_images configuration: `+allowedImagesHelp, refused.Explanation())
}

func TestOldEnginesGetNoMacAddress(t *testing.T) {
	in := testInput(t, `docker.mac_address = "92:d0:c6:0a:29:33"`)
	in.Engine.APIVersion = "1.41"
	made, err := Compile(in)
	require.NoError(t, err)
	require.Nil(t, made.Build.Network)
	require.Len(t, made.Warnings, 1)
}

func TestSeccompProfilesComeFromThisMachine(t *testing.T) {
	in := testInput(t, `docker.security_opt = ["seccomp=`+t.TempDir()+`/p.json"]`)
	in.ReadFile = os.ReadFile
	_, err := Compile(in)
	require.ErrorIs(t, err, os.ErrNotExist)
}
