// Command release-plugins builds every fleeting plugin of this repository for every platform and
// publishes them as the artifacts that `gitlab-runner fleeting install` takes: into an OCI layout, and to
// a registry if one is named.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"oras.land/oras-go/v2/content/oci"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/pluginartifact"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/plugindir"
)

// maxBinary is the size that no plugin may exceed, in bytes.
const maxBinary = 40_000_000

type options struct {
	version, ldflags, platforms, plugins string
	// module is the folder of the plugins' module, out that of the layout.
	module, out string
	// registry is where to publish, such as registry.example.com/group/plugins; empty for nowhere.
	registry string
}

func main() {
	var o options
	flag.StringVar(&o.version, "version", "", "the `version` of the plugins, such as 1.2.3")
	flag.StringVar(&o.ldflags, "ldflags", "-s -w", "`flags` for the linker")
	flag.StringVar(&o.platforms, "platforms", "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64,windows/amd64,windows/arm64", "build for these `platforms`")
	flag.StringVar(&o.plugins, "plugins", "", "release these `plugins` only, such as docker,aws")
	flag.StringVar(&o.module, "module", "plugins", "the `folder` of the plugins' module")
	flag.StringVar(&o.out, "out", "out/release/plugins", "write the OCI layout to this `folder`")
	flag.StringVar(&o.registry, "registry", "", "publish to the repositories below `registry/path`, too")
	flag.Parse()
	if err := release(context.Background(), o); err != nil {
		fmt.Fprintln(os.Stderr, "release-plugins:", err)
		os.Exit(1)
	}
}

func release(ctx context.Context, o options) error {
	platforms, err := parsePlatforms(o.platforms)
	if err != nil {
		return err
	}
	programs, err := programsIn(filepath.Join(o.module, "cmd"), o.plugins)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	layout, err := oci.New(o.out)
	if err != nil {
		return fmt.Errorf("opening the OCI layout %s: %w", o.out, err)
	}
	built, err := os.MkdirTemp("", "release-plugins-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(built)
	for _, program := range programs {
		artifact := pluginartifact.Release{Name: program, Version: o.version, Binaries: map[pluginartifact.Platform]string{}}
		for _, p := range platforms {
			if artifact.Binaries[p], err = build(ctx, o, program, p, built); err != nil {
				return err
			}
		}
		if err := publish(ctx, o, layout, artifact); err != nil {
			return err
		}
	}
	return nil
}

// publish writes an artifact into the layout under the name that gitlab-runner gives the plugin when no
// registry is named, and to the registry.
func publish(ctx context.Context, o options, layout *oci.Store, artifact pluginartifact.Release) error {
	ref, err := plugindir.Parse(plugindir.NameOf(artifact.Name))
	if err != nil {
		return err
	}
	prefix := ref.Registry + "/" + ref.Repository
	tags, err := pluginartifact.Publish(ctx, layout, prefix+":", artifact)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s in %s\n", prefix, strings.Join(tags, ", "), o.out)
	if o.registry == "" {
		return nil
	}
	logins, err := pluginartifact.Logins()
	if err != nil {
		return err
	}
	name := o.registry + "/" + plugindir.NameOf(artifact.Name)
	repository, err := pluginartifact.Repository(name, logins)
	if err != nil {
		return err
	}
	if tags, err = pluginartifact.Publish(ctx, repository, "", artifact); err != nil {
		return err
	}
	fmt.Printf("%s: %s\n", name, strings.Join(tags, ", "))
	return nil
}

// build builds a program and returns its path.
func build(ctx context.Context, o options, program string, p pluginartifact.Platform, dir string) (string, error) {
	file := filepath.Join(dir, program+"-"+p.OS+"-"+p.Arch)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", o.ldflags, "-o", file, "./cmd/"+program)
	cmd.Dir = o.module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.OS, "GOARCH="+p.Arch)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("building %s for %s: %w", program, p, err)
	}
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	fmt.Printf("%s for %s: %.1f MB\n", program, p, float64(info.Size())/1e6)
	return file, checkSize(program, p, info.Size())
}

func checkSize(program string, p pluginartifact.Platform, size int64) error {
	if size > maxBinary {
		return fmt.Errorf("%s for %s has %d bytes: at most %d are allowed", program, p, size, maxBinary)
	}
	return nil
}

// programsIn are the plugins of a folder, or those of them that are named. A plugin whose program stands
// there under a second name is released once.
func programsIn(dir, only string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "fleeting-plugin-*"))
	if err != nil {
		return nil, err
	}
	programs := map[string]string{}
	for _, path := range paths {
		program := filepath.Base(path)
		name := plugindir.NameOf(program)
		if programs[name] == "" || strings.HasSuffix(program, "-"+name) {
			programs[name] = program
		}
	}
	var wanted []string
	for name := range strings.SplitSeq(only, ",") {
		if name != "" && programs[name] == "" {
			return nil, fmt.Errorf("there is no plugin %q in %s", name, dir)
		}
		if name != "" {
			wanted = append(wanted, programs[name])
		}
	}
	if only == "" {
		for _, program := range programs {
			wanted = append(wanted, program)
		}
	}
	if len(wanted) == 0 {
		return nil, fmt.Errorf("there are no plugins in %s", dir)
	}
	slices.Sort(wanted)
	return wanted, nil
}

func parsePlatforms(list string) ([]pluginartifact.Platform, error) {
	var platforms []pluginartifact.Platform
	for text := range strings.SplitSeq(list, ",") {
		system, arch, ok := strings.Cut(text, "/")
		if !ok || system == "" || arch == "" {
			return nil, fmt.Errorf("platform %q is not of the form os/arch, such as linux/amd64", text)
		}
		platforms = append(platforms, pluginartifact.Platform{OS: system, Arch: arch})
	}
	return platforms, nil
}
