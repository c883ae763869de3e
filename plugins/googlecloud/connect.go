package googlecloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
	"google.golang.org/api/compute/v1"
)

const (
	defaultUser        = "runner"
	defaultWindowsUser = "runner"

	keysItem = "ssh-keys"
	// keyLife is how long an instance accepts a key, and keyMargin how long before the end it gets a new one.
	keyLife   = 24 * time.Hour
	keyMargin = time.Hour
	// metadataTries is how often a change of metadata is tried when somebody else changes them too.
	metadataTries = 5
)

// ConnectInfo returns how to reach an instance, and lets the runner in: by a key in the instance's metadata, or by
// a password that its agent makes on Windows.
func (g *InstanceGroup) ConnectInfo(ctx context.Context, instance string) (provider.ConnectInfo, error) {
	zone, err := g.zoneOf(ctx, instance)
	if err != nil {
		return provider.ConnectInfo{}, err
	}
	found, err := g.calls.instance(ctx, zone, instance)
	if err != nil {
		return provider.ConnectInfo{}, fmt.Errorf("describing instance %q: %w", instance, err)
	}
	if found.Status != "RUNNING" {
		return provider.ConnectInfo{}, fmt.Errorf("instance %q cannot be connected to: it is %s", instance, found.Status)
	}
	info := provider.ConnectInfo{ConnectorConfig: g.settings.ConnectorConfig, ID: instance}
	if len(found.NetworkInterfaces) > 0 {
		info.InternalAddr = found.NetworkInterfaces[0].NetworkIP
		if access := found.NetworkInterfaces[0].AccessConfigs; len(access) > 0 {
			info.ExternalAddr = access[0].NatIP
		}
	}
	if info.OS == "" {
		info.OS = systemOf(found)
	}
	if info.Arch == "" {
		info.Arch = archOf(found)
	}
	windows := strings.EqualFold(info.OS, "windows")
	if info.Protocol == "" {
		info.Protocol = provider.ProtocolSSH
		if windows {
			info.Protocol = provider.ProtocolWinRMHttps
		}
	}
	if info.Username == "" {
		info.Username = defaultUser
		if windows {
			info.Username = defaultWindowsUser
		}
	}
	switch {
	case info.UseStaticCredentials:
		return info, nil
	case windows:
		if info.Password == "" {
			info.Password, err = g.windowsPassword(ctx, zone, instance, info.Username)
		}
		return info, err
	default:
		info.Key = g.key.Private
		return info, g.letIn(ctx, zone, found, info.Username)
	}
}

// letIn puts the key into the metadata of the instance, where its agent finds it.
func (g *InstanceGroup) letIn(ctx context.Context, zone string, found *compute.Instance, user string) error {
	now, instance := g.now(), found.Name
	g.mu.Lock()
	let := g.let[instance]
	g.mu.Unlock()
	if let.machine == found.Id && let.until.Sub(now) > keyMargin {
		return nil
	}
	expires := now.Add(keyLife)
	line, err := keyLine(user, g.key.Public, expires)
	if err != nil {
		return err
	}
	err = g.changeMetadata(ctx, zone, instance, func(items []*compute.MetadataItems) []*compute.MetadataItems {
		return withKey(items, user, g.key.Public, line)
	})
	if err != nil {
		return fmt.Errorf("putting the ssh key of user %q into the metadata of instance %q: %w; allow compute.instances.setMetadata, or set use_static_credentials and key_path in connector_config", user, instance, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.let[instance] = admission{machine: found.Id, until: expires}
	return nil
}

// keyLine is a key in the form that agents take, with an end.
func keyLine(user, public string, expires time.Time) (string, error) {
	limits, err := json.Marshal(map[string]string{"userName": user, "expireOn": expires.UTC().Format("2006-01-02T15:04:05+0000")})
	if err != nil {
		return "", fmt.Errorf("encoding the limits of an ssh key: %w", err)
	}
	return fmt.Sprintf("%s:%s google-ssh %s", user, public, limits), nil
}

// withKey adds a line to the keys and takes out a former one of the same key.
func withKey(items []*compute.MetadataItems, user, public, line string) []*compute.MetadataItems {
	out := slices.Clone(items)
	for i, item := range out {
		if item.Key != keysItem || item.Value == nil {
			continue
		}
		lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(*item.Value), "\n"), func(one string) bool {
			return one == "" || strings.HasPrefix(one, user+":"+public+" ")
		})
		value := strings.Join(append(lines, line), "\n")
		out[i] = &compute.MetadataItems{Key: keysItem, Value: &value}
		return out
	}
	return append(out, &compute.MetadataItems{Key: keysItem, Value: &line})
}

// changeMetadata changes the metadata of an instance. If somebody else changed them meanwhile, it is tried again
// on what they are now.
func (g *InstanceGroup) changeMetadata(ctx context.Context, zone, instance string, change func([]*compute.MetadataItems) []*compute.MetadataItems) error {
	var last error
	for range metadataTries {
		found, err := g.calls.instance(ctx, zone, instance)
		if err != nil {
			return err
		}
		metadata := &compute.Metadata{}
		if found.Metadata != nil {
			metadata.Fingerprint, metadata.Items = found.Metadata.Fingerprint, found.Metadata.Items
		}
		metadata.Items = change(metadata.Items)
		last = g.calls.setMetadata(ctx, zone, instance, metadata)
		if !isStatus(last, http.StatusPreconditionFailed) {
			return last
		}
	}
	return errors.Join(errors.New("somebody else keeps changing them"), last)
}

func systemOf(instance *compute.Instance) string {
	for _, disk := range instance.Disks {
		for _, license := range disk.Licenses {
			if disk.Boot && strings.Contains(license, "windows") {
				return "windows"
			}
		}
	}
	return "linux"
}

// archOf translates to Go's words.
func archOf(instance *compute.Instance) string {
	for _, disk := range instance.Disks {
		if disk.Boot && disk.Architecture == "ARM64" {
			return "arm64"
		}
	}
	return "amd64"
}
