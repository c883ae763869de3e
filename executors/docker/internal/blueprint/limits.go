package blueprint

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-units"
)

// size reads a text such as "512m" as bytes.
func size(key, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	bytes, err := units.RAMInBytes(text)
	if err != nil {
		return 0, configurationError("%s: %q is not a size such as \"512m\": %w", key, text, err)
	}
	return bytes, nil
}

// swap reads a size; -1 stands for no limit.
func swap(key, text string) (int64, error) {
	if text == "-1" {
		return -1, nil
	}
	return size(key, text)
}

// nanoCPUs reads a number of processors.
func nanoCPUs(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	cpus, ok := new(big.Rat).SetString(text)
	if !ok {
		return 0, configurationError("failed to parse %v as a rational number", text)
	}
	nano := cpus.Mul(cpus, big.NewRat(1e9, 1))
	if !nano.IsInt() || !nano.Num().IsInt64() {
		return 0, configurationError("cpus: %s has more digits than an engine takes", text)
	}
	return nano.Num().Int64(), nil
}

func ulimits(limits map[string]string) ([]*container.Ulimit, error) {
	var list []*container.Ulimit
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		soft, hard, two := strings.Cut(limits[name], ":")
		softValue, err := strconv.ParseInt(soft, 10, 64)
		if err != nil {
			return nil, configurationError("ulimit %s: invalid soft limit value: %s", name, soft)
		}
		hardValue := softValue
		if two {
			if hardValue, err = strconv.ParseInt(hard, 10, 64); err != nil {
				return nil, configurationError("ulimit %s: invalid hard limit value: %s", name, hard)
			}
		}
		list = append(list, &container.Ulimit{Name: name, Soft: softValue, Hard: hardValue})
	}
	return list, nil
}

// devices reads entries of the form host[:container[:permissions]].
func devices(key string, entries []string) ([]container.DeviceMapping, error) {
	var list []container.DeviceMapping
	for _, entry := range entries {
		parts := strings.Split(entry, ":")
		if len(parts) > 3 || parts[0] == "" {
			return nil, configurationError("%s: %q is not of the form host[:container[:permissions]]", key, entry)
		}
		device := container.DeviceMapping{PathOnHost: parts[0], PathInContainer: parts[0], CgroupPermissions: "rwm"}
		if len(parts) > 1 && parts[1] != "" {
			device.PathInContainer = parts[1]
		}
		if len(parts) > 2 && parts[2] != "" {
			device.CgroupPermissions = parts[2]
		}
		list = append(list, device)
	}
	return list, nil
}

// gpus reads the syntax of the docker command's --gpus: "all", a count, or a list of key=value with
// the keys count, device, driver, capabilities and options.
func gpus(key, text string) ([]container.DeviceRequest, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, nil
	}
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return nil, configurationError("%s: %q: %w", key, text, err)
	}
	request := container.DeviceRequest{Capabilities: [][]string{{"gpu"}}}
	counted := false
	for _, field := range fields {
		name, value, pair := strings.Cut(field, "=")
		if !pair {
			name, value = "count", field
		}
		switch name {
		case "count":
			counted = true
			if request.Count, err = gpuCount(value); err != nil {
				return nil, configurationError("%s: %w", key, err)
			}
		case "device":
			request.DeviceIDs = strings.Split(value, ",")
		case "driver":
			request.Driver = value
		case "capabilities":
			request.Capabilities = [][]string{append(strings.Split(value, ","), "gpu")}
		case "options":
			request.Options = map[string]string{}
			for option := range strings.SplitSeq(value, ",") {
				k, v, _ := strings.Cut(option, "=")
				request.Options[k] = v
			}
		default:
			return nil, configurationError("%s: unexpected key %q in %q", key, name, text)
		}
	}
	if !counted && len(request.DeviceIDs) == 0 {
		request.Count = 1
	}
	return []container.DeviceRequest{request}, nil
}

func gpuCount(text string) (int, error) {
	if text == "all" {
		return -1, nil
	}
	count, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%q is neither a number of GPUs nor \"all\"", text)
	}
	return count, nil
}

// securityOptions puts the content of seccomp profiles in the place of their paths.
func securityOptions(key string, entries []string, readFile func(string) ([]byte, error)) ([]string, error) {
	var options []string
	for _, entry := range entries {
		profile, found := strings.CutPrefix(entry, "seccomp=")
		if !found {
			profile, found = strings.CutPrefix(entry, "seccomp:")
		}
		if !found || profile == "unconfined" || profile == "builtin" || strings.HasPrefix(profile, "{") {
			options = append(options, entry)
			continue
		}
		content, err := readFile(profile)
		if err != nil {
			return nil, configurationError("%s: reading seccomp profile: %w", key, err)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, content); err != nil {
			return nil, configurationError("%s: seccomp profile %s: %w", key, profile, err)
		}
		options = append(options, "seccomp="+compact.String())
	}
	return options, nil
}

func isolation(text string) (container.Isolation, error) {
	switch mode := container.Isolation(text); mode {
	case "", container.IsolationDefault, container.IsolationProcess, container.IsolationHyperV:
		return mode, nil
	default:
		return "", configurationError("isolation: %q is not one of default, process, hyperv", text)
	}
}

// logConfig is that of all containers: the driver is the one that an engine can read back.
func logConfig(options map[string]string) (container.LogConfig, error) {
	var unknown []string
	for _, key := range slices.Sorted(maps.Keys(options)) {
		if key != "env" && key != "labels" {
			unknown = append(unknown, key)
		}
	}
	if unknown != nil {
		return container.LogConfig{}, configurationError(
			"creating docker log configuration: invalid log options: only %q are allowed, but found: %q", []string{"env", "labels"}, unknown)
	}
	return container.LogConfig{Type: "json-file", Config: options}, nil
}
