package config

import "fmt"

// Docker is [runners.docker]. Sizes such as Memory are texts like "512m"; they are parsed when a
// container is planned.
type Docker struct {
	Host        string `toml:"host,omitempty"`
	TLSCertPath string `toml:"tls_cert_path,omitempty"`
	TLSVerify   bool   `toml:"tls_verify"`

	Hostname                   string   `toml:"hostname,omitempty"`
	Image                      string   `toml:"image"`
	Runtime                    string   `toml:"runtime,omitempty"`
	Memory                     string   `toml:"memory,omitempty"`
	MemorySwap                 string   `toml:"memory_swap,omitempty"`
	MemoryReservation          string   `toml:"memory_reservation,omitempty"`
	CgroupParent               string   `toml:"cgroup_parent,omitempty"`
	CpusetCpus                 string   `toml:"cpuset_cpus,omitempty"`
	CpusetMems                 string   `toml:"cpuset_mems,omitempty"`
	Cpus                       string   `toml:"cpus,omitempty"`
	CPUShares                  int64    `toml:"cpu_shares,omitzero"`
	DNS                        []string `toml:"dns,omitempty"`
	DNSSearch                  []string `toml:"dns_search,omitempty"`
	Privileged                 bool     `toml:"privileged"`
	ServicesPrivileged         *bool    `toml:"services_privileged,omitempty"`
	DisableEntrypointOverwrite bool     `toml:"disable_entrypoint_overwrite"`
	User                       string   `toml:"user,omitempty"`
	AllowedUsers               []string `toml:"allowed_users,omitempty"`
	GroupAdd                   []string `toml:"group_add,omitempty"`
	UsernsMode                 string   `toml:"userns_mode,omitempty"`
	CapAdd                     []string `toml:"cap_add,omitempty"`
	CapDrop                    []string `toml:"cap_drop,omitempty"`
	OomKillDisable             bool     `toml:"oom_kill_disable"`
	OomScoreAdjust             int      `toml:"oom_score_adjust,omitzero"`
	SecurityOpt                []string `toml:"security_opt,omitempty"`
	ServicesSecurityOpt        []string `toml:"services_security_opt,omitempty"`

	Devices           []string            `toml:"devices,omitempty"`
	DeviceCgroupRules []string            `toml:"device_cgroup_rules,omitempty"`
	ServicesDevices   map[string][]string `toml:"services_devices,omitempty"`
	Gpus              string              `toml:"gpus,omitempty"`
	ServiceGpus       string              `toml:"service_gpus,omitempty"`

	DisableCache    bool              `toml:"disable_cache"`
	Volumes         []string          `toml:"volumes,omitempty"`
	VolumeKeep      bool              `toml:"volume_keep,omitempty"`
	VolumeDriver    string            `toml:"volume_driver,omitempty"`
	VolumeDriverOps map[string]string `toml:"volume_driver_ops,omitempty"`
	CacheDir        string            `toml:"cache_dir,omitempty"`
	VolumesFrom     []string          `toml:"volumes_from,omitempty"`
	Tmpfs           map[string]string `toml:"tmpfs,omitempty"`
	ServicesTmpfs   map[string]string `toml:"services_tmpfs,omitempty"`
	ShmSize         int64             `toml:"shm_size"`

	ExtraHosts  []string `toml:"extra_hosts,omitempty"`
	NetworkMode string   `toml:"network_mode,omitempty"`
	PidMode     string   `toml:"pid_mode,omitempty"`
	IpcMode     string   `toml:"ipcmode,omitempty"`
	MacAddress  string   `toml:"mac_address,omitempty"`
	Links       []string `toml:"links,omitempty"`
	EnableIPv6  bool     `toml:"enable_ipv6,omitempty"`
	NetworkMTU  int      `toml:"network_mtu"`

	ServicesLimit             *int      `toml:"services_limit,omitempty"`
	ServiceMemory             string    `toml:"service_memory,omitempty"`
	ServiceMemorySwap         string    `toml:"service_memory_swap,omitempty"`
	ServiceMemoryReservation  string    `toml:"service_memory_reservation,omitempty"`
	ServiceCgroupParent       string    `toml:"service_cgroup_parent,omitempty"`
	ServiceCpusetCpus         string    `toml:"service_cpuset_cpus,omitempty"`
	ServiceCpus               string    `toml:"service_cpus,omitempty"`
	ServiceCPUShares          int64     `toml:"service_cpu_shares,omitzero"`
	ServiceSlotCgroupTemplate string    `toml:"service_slot_cgroup_template,omitempty"`
	WaitForServicesTimeout    int       `toml:"wait_for_services_timeout,omitzero"`
	Services                  []Service `toml:"services,omitempty"`

	AllowedImages             []string      `toml:"allowed_images,omitempty"`
	AllowedServices           []string      `toml:"allowed_services,omitempty"`
	AllowedPrivilegedImages   []string      `toml:"allowed_privileged_images,omitempty"`
	AllowedPrivilegedServices []string      `toml:"allowed_privileged_services,omitempty"`
	PullPolicy                StringOrArray `toml:"pull_policy,omitempty"`
	AllowedPullPolicies       []string      `toml:"allowed_pull_policies,omitempty"`

	Isolation         string            `toml:"isolation,omitempty"`
	Sysctls           map[string]string `toml:"sysctls,omitempty"`
	Ulimit            map[string]string `toml:"ulimit,omitempty"`
	HelperImage       string            `toml:"helper_image,omitempty"`
	HelperImageFlavor string            `toml:"helper_image_flavor,omitempty"`
	ContainerLabels   map[string]string `toml:"container_labels,omitempty"`
	LogOptions        map[string]string `toml:"log_options,omitempty"`
}

// Service is one [[runners.docker.services]] entry.
type Service struct {
	Name            string   `toml:"name"`
	Alias           string   `toml:"alias,omitempty"`
	Command         []string `toml:"command,omitempty"`
	Entrypoint      []string `toml:"entrypoint,omitempty"`
	Environment     []string `toml:"environment,omitempty"`
	SuspendDataPath string   `toml:"suspend_data_path,omitempty"`
}

// StringOrArray is a key that takes one text or a list of texts.
type StringOrArray []string

// UnmarshalTOML accepts both forms.
func (s *StringOrArray) UnmarshalTOML(value any) error {
	switch v := value.(type) {
	case string:
		*s = StringOrArray{v}
	case []any:
		list := make(StringOrArray, 0, len(v))
		for _, element := range v {
			text, ok := element.(string)
			if !ok {
				return fmt.Errorf("expected a string or a list of strings, found a %T in the list", element)
			}
			list = append(list, text)
		}
		*s = list
	default:
		return fmt.Errorf("expected a string or a list of strings, found a %T", value)
	}
	return nil
}
