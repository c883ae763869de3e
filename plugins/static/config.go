package static

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"golang.org/x/crypto/ssh"
)

const (
	defaultName         = "static"
	defaultResetTimeout = 5 * time.Minute
	defaultProbeTimeout = 5 * time.Second

	// keyLimit bounds a private key file, in bytes.
	keyLimit = 64 << 10
)

// namePattern is what names of groups and hosts are made of: both stand in logs, the group's in a path too.
var namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// Config is the plugin's part of the runner's configuration.
type Config struct {
	// Name identifies the group on the manager. Two plugins at work at the same time need two names and no
	// host in common. Empty selects "static".
	Name string `json:"name"`
	// Instances are the hosts.
	Instances Hosts `json:"instances"`
	// ResetCommand is run on a host when it is released; a host's own wins. Empty resets nothing.
	ResetCommand string `json:"reset_command"`
	// ResetTimeout bounds one run of the reset command, connecting included; empty selects "5m".
	ResetTimeout string `json:"reset_timeout"`
	// ProbeTimeout bounds one look at whether a host answers; empty selects "5s".
	ProbeTimeout string `json:"probe_timeout"`
	// UseExternalAddr has the plugin itself, to probe and to reset, use external addresses. It is to be set
	// as use_external_addr in connector_config is.
	UseExternalAddr bool `json:"use_external_addr"`
	// StateFile remembers which hosts are in use; empty selects one in the user's configuration folder.
	StateFile string `json:"state_file"`
}

// Host is one host. What is empty is taken from connector_config.
type Host struct {
	// Name is the id of the instance. ID is another word for it.
	Name string `json:"name"`
	ID   string `json:"id"`
	// Addr is short for InternalAddr where there is one address only. Addresses may have a port.
	Addr         string `json:"addr"`
	InternalAddr string `json:"internal_addr"`
	ExternalAddr string `json:"external_addr"`

	OS           string            `json:"os"`
	Arch         string            `json:"arch"`
	Protocol     provider.Protocol `json:"protocol"`
	ProtocolPort int               `json:"protocol_port"`
	// Port is another word for ProtocolPort.
	Port     int    `json:"port"`
	Username string `json:"username"`
	Password string `json:"password"`
	// KeyPath is a file with a private key in PEM form. It is read once.
	KeyPath   string `json:"key_path"`
	Keepalive string `json:"keepalive"`
	Timeout   string `json:"timeout"`
	// HostKeys are the SSH host keys that the host may present, as lines of authorized_keys. Without any the
	// key of the first connection is trusted.
	HostKeys []string `json:"host_keys"`
	// ResetCommand wins over that of the group.
	ResetCommand string `json:"reset_command"`
}

// Hosts is a list of hosts. Its JSON form is a list, or an object whose keys are the names.
type Hosts []Host

// UnmarshalJSON takes either form, and no key that no host has.
func (h *Hosts) UnmarshalJSON(data []byte) error {
	decode := func(into any) error {
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(into); err != nil {
			return fmt.Errorf("plugin_config instances: %w", err)
		}
		return nil
	}
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		var list []Host
		if err := decode(&list); err != nil {
			return err
		}
		*h = list
		return nil
	}
	var byName map[string]Host
	if err := decode(&byName); err != nil {
		return err
	}
	*h = nil
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		one := byName[name]
		if one.Name == "" && one.ID == "" {
			one.Name = name
		}
		*h = append(*h, one)
	}
	return nil
}

// fleet is a checked configuration.
type fleet struct {
	name         string
	hosts        []host
	resetTimeout time.Duration
	probeTimeout time.Duration
	external     bool
	stateFile    string
}

// host is a checked host.
type host struct {
	info  provider.ConnectInfo
	probe string // host:port
	reset string
}

// fleet checks the configuration and reads the key files. An error names each bad key.
func (c Config) fleet(settings provider.Settings) (fleet, error) {
	f := fleet{name: c.Name, external: c.UseExternalAddr, stateFile: c.StateFile}
	var errs []error
	if f.name == "" {
		f.name = defaultName
	}
	if !namePattern.MatchString(f.name) {
		errs = append(errs, fmt.Errorf("plugin_config name: %.130q must start with a letter or digit and go on with those or _ . -", f.name))
	}
	var err error
	if f.resetTimeout, err = duration("reset_timeout", c.ResetTimeout, defaultResetTimeout); err != nil {
		errs = append(errs, err)
	}
	if f.probeTimeout, err = duration("probe_timeout", c.ProbeTimeout, defaultProbeTimeout); err != nil {
		errs = append(errs, err)
	}
	if f.stateFile == "" {
		folder, err := os.UserConfigDir()
		if err != nil {
			errs = append(errs, fmt.Errorf("plugin_config state_file: must be set, as there is no default place for it: %w", err))
		}
		f.stateFile = filepath.Join(folder, "fleeting", "static", f.name+".json")
	}
	if len(c.Instances) == 0 {
		errs = append(errs, errors.New("plugin_config instances: must list at least one host"))
	}
	names := map[string]bool{}
	places := map[string]string{}
	for i, one := range c.Instances {
		checked, err := one.check(c, settings)
		if err != nil {
			errs = append(errs, fmt.Errorf("plugin_config instances: host %d (%q): %w", i+1, one.name(), err))
			continue
		}
		if names[checked.info.ID] {
			errs = append(errs, fmt.Errorf("plugin_config instances: two hosts have the name %q", checked.info.ID))
		}
		if other := places[checked.probe]; other != "" {
			errs = append(errs, fmt.Errorf("plugin_config instances: %q and %q are one host, %s", other, checked.info.ID, checked.probe))
		}
		names[checked.info.ID] = true
		places[checked.probe] = checked.info.ID
		f.hosts = append(f.hosts, checked)
	}
	return f, errors.Join(errs...)
}

// name is what the host is called, which is its address if it has no name.
func (h Host) name() string {
	for _, name := range []string{h.Name, h.ID, h.Addr, h.InternalAddr, h.ExternalAddr} {
		if name != "" {
			return name
		}
	}
	return ""
}

func (h Host) check(c Config, settings provider.Settings) (host, error) {
	info := provider.ConnectInfo{
		ConnectorConfig: settings.ConnectorConfig,
		ID:              h.name(),
		InternalAddr:    first(h.InternalAddr, h.Addr),
		ExternalAddr:    h.ExternalAddr,
		HostKeys:        h.HostKeys,
	}
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if h.Name != "" && h.ID != "" && h.Name != h.ID {
		bad("id", "%q is not name, %q; one of them is enough", h.ID, h.Name)
	}
	if (h.Name != "" || h.ID != "") && !namePattern.MatchString(info.ID) {
		bad("name", "must start with a letter or digit and go on with those or _ . -")
	}
	if h.Addr != "" && h.InternalAddr != "" && h.Addr != h.InternalAddr {
		bad("addr", "%q is not internal_addr, %q; one of them is enough", h.Addr, h.InternalAddr)
	}
	if h.Port != 0 && h.ProtocolPort != 0 && h.Port != h.ProtocolPort {
		bad("port", "%d is not protocol_port, %d; one of them is enough", h.Port, h.ProtocolPort)
	}
	info.OS = first(h.OS, info.OS, "linux")
	info.Arch = first(h.Arch, info.Arch)
	info.Username = first(h.Username, info.Username)
	info.Password = first(h.Password, info.Password)
	info.Protocol = first(h.Protocol, info.Protocol, defaultProtocol(info.OS))
	if _, known := provider.DefaultProtocolPorts[info.Protocol]; !known {
		bad("protocol", "%q is not one of ssh, winrm, winrm+https", info.Protocol)
	}
	info.ProtocolPort = first(h.ProtocolPort, h.Port, info.ProtocolPort, provider.DefaultProtocolPorts[info.Protocol])
	if info.ProtocolPort < 0 || info.ProtocolPort > 65535 {
		bad("protocol_port", "%d is no port", info.ProtocolPort)
	}
	var err error
	if info.Timeout, err = duration("timeout", h.Timeout, info.Timeout); err != nil {
		errs = append(errs, err)
	}
	if info.Keepalive, err = duration("keepalive", h.Keepalive, info.Keepalive); err != nil {
		errs = append(errs, err)
	}
	if h.KeyPath != "" {
		if info.Key, err = readKey(h.KeyPath); err != nil {
			bad("key_path", "%v", err)
		}
	}
	if info.Username == "" {
		bad("username", "must be set here or in connector_config")
	}
	if err == nil && info.Password == "" && len(info.Key) == 0 {
		bad("key_path", "a key or a password must be set here or in connector_config, as this plugin makes no credentials")
	}
	for _, key := range h.HostKeys {
		if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key)); err != nil {
			bad("host_keys", "%.40q is not a line such as \"ssh-ed25519 AAAA...\": %v", key, err)
		}
	}
	checked := host{info: info, reset: first(h.ResetCommand, c.ResetCommand)}
	if checked.probe, err = place(info, c.UseExternalAddr); err != nil {
		errs = append(errs, err)
	}
	return checked, errors.Join(errs...)
}

// place is where the host is reached, as host:port.
func place(info provider.ConnectInfo, external bool) (string, error) {
	addr := first(info.InternalAddr, info.ExternalAddr)
	if external {
		addr = first(info.ExternalAddr, info.InternalAddr)
	}
	if addr == "" {
		return "", errors.New("internal_addr: the host has no address; set internal_addr or external_addr")
	}
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr, nil
	}
	return net.JoinHostPort(string(bytes.Trim([]byte(addr), "[]")), strconv.Itoa(info.ProtocolPort)), nil
}

func defaultProtocol(system string) provider.Protocol {
	if system == "windows" {
		return provider.ProtocolWinRM
	}
	return provider.ProtocolSSH
}

func readKey(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	key, err := io.ReadAll(io.LimitReader(file, keyLimit+1))
	if err != nil {
		return nil, err
	}
	if len(key) > keyLimit {
		return nil, fmt.Errorf("%s is too large for a private key", path)
	}
	if _, err := ssh.ParsePrivateKey(key); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func duration(key, text string, otherwise time.Duration) (time.Duration, error) {
	if text == "" {
		return otherwise, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s: %q is not a duration such as 30s or 5m", key, text)
	}
	return d, nil
}

// first returns the first value that is not empty.
func first[T comparable](values ...T) T {
	var none T
	for _, v := range values {
		if v != none {
			return v
		}
	}
	return none
}
