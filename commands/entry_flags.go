package commands

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// entryFlag is a flag that sets one key of a runner entry. Values are applied only if the flag or its
// environment variable is there.
type entryFlag struct {
	flag  cli.Flag
	name  string
	apply func(c *cli.Command, r *config.Runner) error
}

// entryFlags are the flags of a runner entry, as register and run-single have them.
func entryFlags() []entryFlag {
	docker := func(r *config.Runner) *config.Docker { return r.Docker }
	flags := []entryFlag{
		text("limit", "RUNNER_LIMIT", "run at most `N` jobs of this runner at once", func(r *config.Runner) any { return &r.Limit }),
		text("output-limit", "RUNNER_OUTPUT_LIMIT", "keep at most `KIB` of a job's log", func(r *config.Runner) any { return &r.OutputLimit }),
		text("request-concurrency", "RUNNER_REQUEST_CONCURRENCY", "make at most `N` job requests at once", func(r *config.Runner) any { return &r.RequestConcurrency }),
		text("strict-check-interval", "RUNNER_STRICT_CHECK_INTERVAL", "make one job request per interval", func(r *config.Runner) any { return &r.StrictCheckInterval }),
		text("unhealthy-requests-limit", "RUNNER_UNHEALTHY_REQUESTS_LIMIT", "park the runner after `N` refused requests", func(r *config.Runner) any { return &r.UnhealthyRequestsLimit }),
		text("unhealthy-interval", "", "park the runner for `DURATION`", func(r *config.Runner) any { return &r.UnhealthyInterval }),
		text("job-status-final-update-retry-limit", "RUNNER_job_status_final_update_retry_limit", "try the last update of a job `N` times", func(r *config.Runner) any { return &r.JobStatusFinalUpdateRetryLimit }),
		text("tls-ca-file", "CI_SERVER_TLS_CA_FILE", "trust the certificates in `FILE`", func(r *config.Runner) any { return &r.TLSCAFile }),
		text("tls-cert-file", "CI_SERVER_TLS_CERT_FILE", "show the certificate in `FILE`", func(r *config.Runner) any { return &r.TLSCertFile }),
		text("tls-key-file", "CI_SERVER_TLS_KEY_FILE", "the key of the certificate is in `FILE`", func(r *config.Runner) any { return &r.TLSKeyFile }),
		text("builds-dir", "RUNNER_BUILDS_DIR", "keep projects in `DIR`", func(r *config.Runner) any { return &r.BuildsDir }),
		text("cache-dir", "RUNNER_CACHE_DIR", "keep caches in `DIR`", func(r *config.Runner) any { return &r.CacheDir }),
		text("clone-url", "CLONE_URL", "fetch sources from `URL`", func(r *config.Runner) any { return &r.CloneURL }),
		text("env", "RUNNER_ENV", "give jobs the variable `KEY=VALUE`", func(r *config.Runner) any { return &r.Environment }),
		text("pre-get-sources-script", "RUNNER_PRE_GET_SOURCES_SCRIPT", "run `SCRIPT` before the sources are fetched", func(r *config.Runner) any { return &r.PreGetSourcesScript }),
		text("post-get-sources-script", "RUNNER_POST_GET_SOURCES_SCRIPT", "run `SCRIPT` after the sources were fetched", func(r *config.Runner) any { return &r.PostGetSourcesScript }),
		text("pre-build-script", "RUNNER_PRE_BUILD_SCRIPT", "run `SCRIPT` before the job's", func(r *config.Runner) any { return &r.PreBuildScript }),
		text("post-build-script", "RUNNER_POST_BUILD_SCRIPT", "run `SCRIPT` after the job's", func(r *config.Runner) any { return &r.PostBuildScript }),
		text("prepare-timeout", "RUNNER_PREPARE_TIMEOUT", "give the preparation `DURATION`", func(r *config.Runner) any { return &r.PrepareTimeout }),
		text("get-sources-timeout", "RUNNER_GET_SOURCES_TIMEOUT", "give the fetching of sources `DURATION`", func(r *config.Runner) any { return &r.GetSourcesTimeout }),
		text("debug-trace-disabled", "RUNNER_DEBUG_TRACE_DISABLED", "refuse CI_DEBUG_TRACE", func(r *config.Runner) any { return &r.DebugTraceDisabled }),
		text("safe-directory-checkout", "RUNNER_SAFE_DIRECTORY_CHECKOUT", "tell git that the project is safe", func(r *config.Runner) any { return &r.SafeDirectoryCheckout }),
		text("clean-git-config", "RUNNER_CLEAN_GIT_CONFIG", "remove git's configuration before and after jobs", func(r *config.Runner) any { return &r.CleanGitConfig }),
		text("shell", "RUNNER_SHELL", "write scripts for `SHELL`", func(r *config.Runner) any { return &r.Shell }),
		text("feature-flags", "FEATURE_FLAGS", "set a feature flag: `NAME:true`", func(r *config.Runner) any { return &r.FeatureFlags }),
		text("use-slot-cgroups", "RUNNER_USE_SLOT_CGROUPS", "give each slot a cgroup", func(r *config.Runner) any { return &r.UseSlotCgroups }),
		text("slot-cgroup-template", "RUNNER_SLOT_CGROUP_TEMPLATE", "name slots' cgroups by `TEMPLATE`", func(r *config.Runner) any { return &r.SlotCgroupTemplate }),
	}
	for _, f := range []struct {
		name, env, usage string
		target           func(d *config.Docker) any
	}{
		{"host", "DOCKER_HOST", "the engine's `ENDPOINT`", func(d *config.Docker) any { return &d.Host }},
		{"cert-path", "DOCKER_CERT_PATH", "`DIR` with ca.pem, cert.pem and key.pem", func(d *config.Docker) any { return &d.TLSCertPath }},
		{"tlsverify", "DOCKER_TLS_VERIFY", "use TLS and verify the engine", func(d *config.Docker) any { return &d.TLSVerify }},
		{"hostname", "DOCKER_HOSTNAME", "containers' `HOSTNAME`", func(d *config.Docker) any { return &d.Hostname }},
		{"image", "DOCKER_IMAGE", "default `IMAGE` of jobs", func(d *config.Docker) any { return &d.Image }},
		{"runtime", "DOCKER_RUNTIME", "containers' `RUNTIME`", func(d *config.Docker) any { return &d.Runtime }},
		{"memory", "DOCKER_MEMORY", "memory limit: `SIZE`", func(d *config.Docker) any { return &d.Memory }},
		{"memory-swap", "DOCKER_MEMORY_SWAP", "limit of memory and swap: `SIZE`", func(d *config.Docker) any { return &d.MemorySwap }},
		{"memory-reservation", "DOCKER_MEMORY_RESERVATION", "soft memory limit: `SIZE`", func(d *config.Docker) any { return &d.MemoryReservation }},
		{"cgroup-parent", "DOCKER_CGROUP_PARENT", "parent `CGROUP`", func(d *config.Docker) any { return &d.CgroupParent }},
		{"cpuset-cpus", "DOCKER_CPUSET_CPUS", "`CPUS` to run on", func(d *config.Docker) any { return &d.CpusetCpus }},
		{"cpuset-mems", "DOCKER_CPUSET_MEMS", "memory `NODES` to use", func(d *config.Docker) any { return &d.CpusetMems }},
		{"cpus", "DOCKER_CPUS", "`NUMBER` of CPUs", func(d *config.Docker) any { return &d.Cpus }},
		{"cpu-shares", "DOCKER_CPU_SHARES", "CPU `SHARES`", func(d *config.Docker) any { return &d.CPUShares }},
		{"dns", "DOCKER_DNS", "DNS server `ADDRESS`", func(d *config.Docker) any { return &d.DNS }},
		{"dns-search", "DOCKER_DNS_SEARCH", "DNS search `DOMAIN`", func(d *config.Docker) any { return &d.DNSSearch }},
		{"privileged", "DOCKER_PRIVILEGED", "run containers privileged", func(d *config.Docker) any { return &d.Privileged }},
		{"services_privileged", "DOCKER_SERVICES_PRIVILEGED", "run services privileged", func(d *config.Docker) any { return &d.ServicesPrivileged }},
		{"disable-entrypoint-overwrite", "DOCKER_DISABLE_ENTRYPOINT_OVERWRITE", "ignore entrypoints of jobs", func(d *config.Docker) any { return &d.DisableEntrypointOverwrite }},
		{"user", "DOCKER_USER", "run scripts as `USER`", func(d *config.Docker) any { return &d.User }},
		{"allowed_users", "DOCKER_ALLOWED_USERS", "allow `USER`", func(d *config.Docker) any { return &d.AllowedUsers }},
		{"group-add", "DOCKER_GROUP_ADD", "add `GROUP`", func(d *config.Docker) any { return &d.GroupAdd }},
		{"userns", "DOCKER_USERNS_MODE", "user namespace `MODE`", func(d *config.Docker) any { return &d.UsernsMode }},
		{"cap-add", "DOCKER_CAP_ADD", "add `CAPABILITY`", func(d *config.Docker) any { return &d.CapAdd }},
		{"cap-drop", "DOCKER_CAP_DROP", "drop `CAPABILITY`", func(d *config.Docker) any { return &d.CapDrop }},
		{"oom-kill-disable", "DOCKER_OOM_KILL_DISABLE", "do not kill when memory runs out", func(d *config.Docker) any { return &d.OomKillDisable }},
		{"oom-score-adjust", "DOCKER_OOM_SCORE_ADJUST", "adjust the OOM score by `N`", func(d *config.Docker) any { return &d.OomScoreAdjust }},
		{"security-opt", "DOCKER_SECURITY_OPT", "security `OPTION`", func(d *config.Docker) any { return &d.SecurityOpt }},
		{"services-security-opt", "DOCKER_SERVICES_SECURITY_OPT", "security `OPTION` of services", func(d *config.Docker) any { return &d.ServicesSecurityOpt }},
		{"devices", "DOCKER_DEVICES", "pass `DEVICE`", func(d *config.Docker) any { return &d.Devices }},
		{"device-cgroup-rules", "DOCKER_DEVICE_CGROUP_RULES", "device cgroup `RULE`", func(d *config.Docker) any { return &d.DeviceCgroupRules }},
		{"gpus", "DOCKER_GPUS", "pass `GPUS`", func(d *config.Docker) any { return &d.Gpus }},
		{"service_gpus", "DOCKER_SERVICE_GPUS", "pass `GPUS` to services", func(d *config.Docker) any { return &d.ServiceGpus }},
		{"disable-cache", "DOCKER_DISABLE_CACHE", "keep no cache volumes", func(d *config.Docker) any { return &d.DisableCache }},
		{"volumes", "DOCKER_VOLUMES", "mount `VOLUME`", func(d *config.Docker) any { return &d.Volumes }},
		{"volume-keep", "DOCKER_VOLUME_KEEP", "keep anonymous volumes", func(d *config.Docker) any { return &d.VolumeKeep }},
		{"volume-driver", "DOCKER_VOLUME_DRIVER", "volume `DRIVER`", func(d *config.Docker) any { return &d.VolumeDriver }},
		{"volume-driver-ops", "DOCKER_VOLUME_DRIVER_OPS", "volume driver option: `KEY:VALUE`", func(d *config.Docker) any { return &d.VolumeDriverOps }},
		{"cache-dir", "DOCKER_CACHE_DIR", "keep cache volumes in the host's `DIR`", func(d *config.Docker) any { return &d.CacheDir }},
		{"extra-hosts", "DOCKER_EXTRA_HOSTS", "add `NAME:IP` to the hosts", func(d *config.Docker) any { return &d.ExtraHosts }},
		{"volumes-from", "DOCKER_VOLUMES_FROM", "use the volumes of `CONTAINER`", func(d *config.Docker) any { return &d.VolumesFrom }},
		{"network-mode", "DOCKER_NETWORK_MODE", "network `MODE`", func(d *config.Docker) any { return &d.NetworkMode }},
		{"pid-mode", "DOCKER_PID_MODE", "PID `MODE`", func(d *config.Docker) any { return &d.PidMode }},
		{"ipcmode", "DOCKER_IPC_MODE", "IPC `MODE`", func(d *config.Docker) any { return &d.IpcMode }},
		{"mac-address", "DOCKER_MAC_ADDRESS", "MAC `ADDRESS`", func(d *config.Docker) any { return &d.MacAddress }},
		{"links", "DOCKER_LINKS", "link to `CONTAINER`", func(d *config.Docker) any { return &d.Links }},
		{"services-limit", "DOCKER_SERVICES_LIMIT", "allow `N` services", func(d *config.Docker) any { return &d.ServicesLimit }},
		{"service-memory", "DOCKER_SERVICE_MEMORY", "memory limit of services: `SIZE`", func(d *config.Docker) any { return &d.ServiceMemory }},
		{"service-memory-swap", "DOCKER_SERVICE_MEMORY_SWAP", "limit of services' memory and swap: `SIZE`", func(d *config.Docker) any { return &d.ServiceMemorySwap }},
		{"service-memory-reservation", "DOCKER_SERVICE_MEMORY_RESERVATION", "soft memory limit of services: `SIZE`", func(d *config.Docker) any { return &d.ServiceMemoryReservation }},
		{"service-cgroup-parent", "DOCKER_SERVICE_CGROUP_PARENT", "parent `CGROUP` of services", func(d *config.Docker) any { return &d.ServiceCgroupParent }},
		{"service-slot-cgroup-template", "DOCKER_SERVICE_SLOT_CGROUP_TEMPLATE", "name the cgroups of services' slots by `TEMPLATE`", func(d *config.Docker) any { return &d.ServiceSlotCgroupTemplate }},
		{"service-cpuset-cpus", "DOCKER_SERVICE_CPUSET_CPUS", "`CPUS` for services", func(d *config.Docker) any { return &d.ServiceCpusetCpus }},
		{"service-cpus", "DOCKER_SERVICE_CPUS", "`NUMBER` of CPUs of a service", func(d *config.Docker) any { return &d.ServiceCpus }},
		{"service-cpu-shares", "DOCKER_SERVICE_CPU_SHARES", "CPU `SHARES` of a service", func(d *config.Docker) any { return &d.ServiceCPUShares }},
		{"wait-for-services-timeout", "DOCKER_WAIT_FOR_SERVICES_TIMEOUT", "wait `SECONDS` for services", func(d *config.Docker) any { return &d.WaitForServicesTimeout }},
		{"allowed-images", "DOCKER_ALLOWED_IMAGES", "allow images like `PATTERN`", func(d *config.Docker) any { return &d.AllowedImages }},
		{"allowed-services", "DOCKER_ALLOWED_SERVICES", "allow services like `PATTERN`", func(d *config.Docker) any { return &d.AllowedServices }},
		{"allowed-privileged-images", "DOCKER_ALLOWED_PRIVILEGED_IMAGES", "allow images like `PATTERN` to be privileged", func(d *config.Docker) any { return &d.AllowedPrivilegedImages }},
		{"allowed-privileged-services", "DOCKER_ALLOWED_PRIVILEGED_SERVICES", "allow services like `PATTERN` to be privileged", func(d *config.Docker) any { return &d.AllowedPrivilegedServices }},
		{"pull-policy", "DOCKER_PULL_POLICY", "pull `POLICY`: always, if-not-present, never", func(d *config.Docker) any { return &d.PullPolicy }},
		{"allowed-pull-policies", "DOCKER_ALLOWED_PULL_POLICIES", "allow pull `POLICY`", func(d *config.Docker) any { return &d.AllowedPullPolicies }},
		{"isolation", "DOCKER_ISOLATION", "`ISOLATION` of Windows containers", func(d *config.Docker) any { return &d.Isolation }},
		{"shm-size", "DOCKER_SHM_SIZE", "shared memory of `BYTES`", func(d *config.Docker) any { return &d.ShmSize }},
		{"tmpfs", "DOCKER_TMPFS", "mount a tmpfs: `PATH:OPTIONS`", func(d *config.Docker) any { return &d.Tmpfs }},
		{"services-tmpfs", "DOCKER_SERVICES_TMPFS", "mount a tmpfs in services: `PATH:OPTIONS`", func(d *config.Docker) any { return &d.ServicesTmpfs }},
		{"sysctls", "DOCKER_SYSCTLS", "set a sysctl: `KEY:VALUE`", func(d *config.Docker) any { return &d.Sysctls }},
		{"ulimit", "DOCKER_ULIMIT", "set a ulimit: `NAME:SOFT[:HARD]`", func(d *config.Docker) any { return &d.Ulimit }},
		{"helper-image", "DOCKER_HELPER_IMAGE", "`IMAGE` of the helper", func(d *config.Docker) any { return &d.HelperImage }},
		{"helper-image-flavor", "DOCKER_HELPER_IMAGE_FLAVOR", "`FLAVOR` of the helper's image", func(d *config.Docker) any { return &d.HelperImageFlavor }},
		{"container-labels", "", "label containers: `KEY:VALUE`", func(d *config.Docker) any { return &d.ContainerLabels }},
		{"enable-ipv6", "", "IPv6 in networks of jobs", func(d *config.Docker) any { return &d.EnableIPv6 }},
		{"network-mtu", "", "`MTU` of networks of jobs", func(d *config.Docker) any { return &d.NetworkMTU }},
		{"log-options", "DOCKER_LOG_OPTIONS", "log option: `KEY:VALUE`", func(d *config.Docker) any { return &d.LogOptions }},
	} {
		target := f.target
		flags = append(flags, text("docker-"+f.name, f.env, "docker: "+f.usage, func(r *config.Runner) any { return target(docker(r)) }))
	}
	return flags
}

// text makes a flag whose value is read according to the type of the key it sets.
func text(name, env, usage string, target func(r *config.Runner) any) entryFlag {
	var sources cli.ValueSourceChain
	if env != "" {
		sources = cli.EnvVars(env)
	}
	var flag cli.Flag
	switch target(&config.Runner{Docker: &config.Docker{}}).(type) {
	case *bool, **bool:
		flag = &cli.BoolFlag{Name: name, Usage: usage, Sources: sources, HideDefault: true}
	case *[]string, *config.StringOrArray, *map[string]string, *map[string]bool:
		flag = &cli.StringSliceFlag{Name: name, Usage: usage, Sources: sources}
	default:
		flag = &cli.StringFlag{Name: name, Usage: usage, Sources: sources}
	}
	return entryFlag{flag: flag, name: name, apply: func(c *cli.Command, r *config.Runner) error {
		if !c.IsSet(name) {
			return nil
		}
		if err := set(target(r), c, name); err != nil {
			return fmt.Errorf("--%s: %w", name, err)
		}
		return nil
	}}
}

// set stores a flag's value in a key.
func set(target any, c *cli.Command, name string) error {
	switch key := target.(type) {
	case *string:
		*key = c.String(name)
	case *bool:
		*key = c.Bool(name)
	case **bool:
		value := c.Bool(name)
		*key = &value
	case *int, *int64, **int:
		value, err := strconv.ParseInt(c.String(name), 10, 64)
		if err != nil {
			return fmt.Errorf("%q is no whole number", c.String(name))
		}
		setInteger(key, value)
	case **time.Duration:
		value, err := time.ParseDuration(c.String(name))
		if err != nil {
			return fmt.Errorf("%q is no duration: write it like 90s or 1h30m", c.String(name))
		}
		*key = &value
	case *[]string:
		*key = c.StringSlice(name)
	case *config.StringOrArray:
		*key = strings.Split(strings.Join(c.StringSlice(name), ","), ",")
	case *map[string]string:
		return setPairs(key, c.StringSlice(name), func(value string) (string, error) { return value, nil })
	case *map[string]bool:
		return setPairs(key, c.StringSlice(name), strconv.ParseBool)
	}
	return nil
}

func setInteger(target any, value int64) {
	switch key := target.(type) {
	case *int:
		*key = int(value)
	case *int64:
		*key = value
	case **int:
		number := int(value)
		*key = &number
	}
}

func setPairs[T any](target *map[string]T, pairs []string, parse func(string) (T, error)) error {
	*target = map[string]T{}
	for _, pair := range pairs {
		key, text, ok := strings.Cut(pair, ":")
		if !ok {
			return fmt.Errorf("%q is no pair: write it like KEY:VALUE", pair)
		}
		value, err := parse(text)
		if err != nil {
			return fmt.Errorf("%q: %w", pair, err)
		}
		(*target)[key] = value
	}
	return nil
}
