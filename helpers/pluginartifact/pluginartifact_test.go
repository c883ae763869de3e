package pluginartifact_test

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/require"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/oci"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/pluginartifact"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/plugindir"
)

var (
	linuxAMD64   = pluginartifact.Platform{OS: "linux", Arch: "amd64"}
	linuxARM64   = pluginartifact.Platform{OS: "linux", Arch: "arm64"}
	windowsAMD64 = pluginartifact.Platform{OS: "windows", Arch: "amd64"}
	darwinARM64  = pluginartifact.Platform{OS: "darwin", Arch: "arm64"}
)

// program is the header of a program for a platform, and a text by which it is known again.
func program(p pluginartifact.Platform, text string) []byte {
	header := make([]byte, 256)
	machine := map[string]uint16{"amd64": 62, "arm64": 183}[p.Arch]
	switch p.OS {
	case "linux":
		copy(header, "\x7fELF\x02\x01\x01")
		binary.LittleEndian.PutUint16(header[18:], machine)
	case "windows":
		copy(header, "MZ")
		binary.LittleEndian.PutUint32(header[0x3c:], 0x80)
		copy(header[0x80:], "PE\x00\x00")
		binary.LittleEndian.PutUint16(header[0x84:], map[string]uint16{"amd64": 0x8664, "arm64": 0xaa64}[p.Arch])
	case "darwin":
		binary.LittleEndian.PutUint32(header, 0xfeedfacf)
		binary.LittleEndian.PutUint32(header[4:], map[string]uint32{"amd64": 0x01000007, "arm64": 0x0100000c}[p.Arch])
	}
	return append(header, text...)
}

// layout is an OCI layout with what is published in it.
type layout struct {
	t     *testing.T
	dir   string
	store *oci.Store
}

func newLayout(t *testing.T) *layout {
	t.Helper()
	dir := t.TempDir()
	store, err := oci.New(dir)
	require.NoError(t, err)
	return &layout{t, dir, store}
}

func (l *layout) publish(prefix, version string, platforms ...pluginartifact.Platform) []string {
	l.t.Helper()
	release := pluginartifact.Release{Name: "fleeting-plugin-x", Version: version, Binaries: map[pluginartifact.Platform]string{}}
	for _, p := range platforms {
		file := filepath.Join(l.t.TempDir(), "program")
		require.NoError(l.t, os.WriteFile(file, program(p, version), 0o700))
		release.Binaries[p] = file
	}
	tags, err := pluginartifact.Publish(l.t.Context(), l.store, prefix, release)
	require.NoError(l.t, err)
	return tags
}

// manifest publishes one layer as it is, under a tag.
func (l *layout) manifest(tag string, layer []byte, annotations map[string]string) ocispec.Descriptor {
	l.t.Helper()
	blob := l.push(ocispec.MediaTypeImageLayer, layer)
	blob.Annotations = annotations
	body, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: l.push(ocispec.MediaTypeEmptyJSON, []byte("{}")), Layers: []ocispec.Descriptor{blob},
	})
	require.NoError(l.t, err)
	manifest := l.push(ocispec.MediaTypeImageManifest, body)
	require.NoError(l.t, l.store.Tag(l.t.Context(), manifest, tag))
	return blob
}

func (l *layout) push(mediaType string, body []byte) ocispec.Descriptor {
	l.t.Helper()
	d := content.NewDescriptorFromBytes(mediaType, body)
	if there, err := l.store.Exists(l.t.Context(), d); err == nil && there {
		return d
	}
	require.NoError(l.t, l.store.Push(l.t.Context(), d, bytes.NewReader(body)))
	return d
}

// install installs from the layout.
func (l *layout) install(name string, p pluginartifact.Platform, dir string) (pluginartifact.Installed, error) {
	l.t.Helper()
	source, err := pluginartifact.Layout(l.t.Context(), l.dir, true)
	require.NoError(l.t, err)
	ref, err := plugindir.Parse(name)
	require.NoError(l.t, err)
	return source.Install(l.t.Context(), ref, p, dir)
}

// item is an entry of a layer.
type item struct {
	name, content string
	kind          byte
	link          string
}

func tarOf(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, i := range items {
		header := &tar.Header{Name: i.name, Mode: 0o4777, Size: int64(len(i.content)), Typeflag: i.kind, Linkname: i.link}
		if i.kind == 0 {
			header.Typeflag = tar.TypeReg
		}
		require.NoError(t, w.WriteHeader(header))
		_, err := io.WriteString(w, i.content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// requireEmpty requires that a failed installation left nothing behind.
func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	require.Empty(t, entries)
}

func TestInstallTakesTheHighestVersionThatSatisfiesTheConstraint(t *testing.T) {
	l := newLayout(t)
	for _, version := range []string{"1.2.3", "1.10.0", "2.0.0", "2.1.0-rc.1"} {
		l.publish("x:", version, linuxAMD64, linuxARM64)
	}
	dir := t.TempDir()
	t.Setenv("FLEETING_PLUGIN_PATH", dir)
	for name, want := range map[string]string{
		"x": "2.0.0", "x:latest": "2.0.0", "x:1": "1.10.0", "x:1.2": "1.2.3", "x:1.2.3": "1.2.3", "x:2.1.0-rc.1": "2.1.0-rc.1",
	} {
		installed, err := l.install(name, linuxAMD64, dir)
		require.NoError(t, err, name)
		require.Equal(t, want, installed.Version, name)
		body, err := os.ReadFile(installed.Path)
		require.NoError(t, err)
		require.Equal(t, program(linuxAMD64, want), body)
		info, err := os.Stat(installed.Path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o755), info.Mode())
		if plugindir.Executable() == "plugin" && name != "x" && name != "x:latest" {
			found, err := plugindir.Find(name)
			require.NoError(t, err)
			require.Equal(t, installed.Path, found)
		}
	}
}

func TestWhatIsNotThereIsAnsweredWithWhatIs(t *testing.T) {
	l := newLayout(t)
	l.publish("x:", "1.2.3", linuxAMD64, linuxARM64)
	l.publish("x:", "1.3.0", linuxAMD64, linuxARM64)
	for name, test := range map[string]struct {
		plugin string
		p      pluginartifact.Platform
		is     error
		says   []string
	}{
		"a version":  {"x:7", linuxAMD64, pluginartifact.ErrNoVersion, []string{"1.3.0, 1.2.3"}},
		"a plugin":   {"y", linuxAMD64, pluginartifact.ErrNoVersion, []string{"x:1.2.3", "plugins/y:latest"}},
		"a platform": {"x", darwinARM64, pluginartifact.ErrNoPlatform, []string{"darwin/arm64 is wanted", "linux/amd64, linux/arm64"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := l.install(test.plugin, test.p, dir)
			require.ErrorIs(t, err, test.is)
			for _, text := range test.says {
				require.ErrorContains(t, err, text)
			}
			requireEmpty(t, dir)
		})
	}
}

func TestReleasesOfEveryPlatformCanBeInstalled(t *testing.T) {
	l := newLayout(t)
	l.publish("x:", "1.0.0", linuxAMD64, linuxARM64, windowsAMD64, darwinARM64)
	for p, file := range map[pluginartifact.Platform]string{linuxAMD64: "plugin", linuxARM64: "plugin", windowsAMD64: "plugin.exe", darwinARM64: "plugin"} {
		installed, err := l.install("x", p, t.TempDir())
		require.NoError(t, err)
		require.Equal(t, file, filepath.Base(installed.Path))
		body, err := os.ReadFile(installed.Path)
		require.NoError(t, err)
		require.Equal(t, program(p, "1.0.0"), body)
	}
}

func TestWhatIsInstalledIsNotFetchedAgain(t *testing.T) {
	l := newLayout(t)
	l.publish("", "1.0.0", linuxAMD64)
	dir := t.TempDir()
	first, err := l.install("x", linuxAMD64, dir)
	require.NoError(t, err)
	require.False(t, first.Already)
	require.NoError(t, os.WriteFile(first.Path, []byte("kept"), 0o755))
	second, err := l.install("x", linuxAMD64, dir)
	require.NoError(t, err)
	require.True(t, second.Already)
	require.Equal(t, first.Path, second.Path)
	body, err := os.ReadFile(first.Path)
	require.NoError(t, err)
	require.Equal(t, "kept", string(body))
}

func TestAnIncompleteVersionIsReplaced(t *testing.T) {
	l := newLayout(t)
	l.publish("", "1.0.0", linuxAMD64)
	dir := t.TempDir()
	ref, err := plugindir.Parse("x")
	require.NoError(t, err)
	version, err := ref.VersionPath(dir, "1.0.0")
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(version, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(version, "half"), nil, 0o644))
	installed, err := l.install("x", linuxAMD64, dir)
	require.NoError(t, err)
	require.FileExists(t, installed.Path)
	require.NoFileExists(t, filepath.Join(version, "half"))
}

func TestInstallationsAtTheSameTimeDoNotDisturbEachOther(t *testing.T) {
	l := newLayout(t)
	l.publish("", "1.0.0", linuxAMD64)
	dir := t.TempDir()
	errs := make([]error, 8)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { _, errs[i] = l.install("x", linuxAMD64, dir) })
	}
	all.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing temporary stays")
}

func TestAChangedLayerIsRefused(t *testing.T) {
	l := newLayout(t)
	good := tarOf(t, item{name: "plugin", content: string(program(linuxAMD64, "good"))})
	blob := l.manifest("1.0.0", good, map[string]string{"com.gitlab.fleeting.layer": "1.0.0"})
	bad := bytes.Replace(good, []byte("good"), []byte("evil"), 1)
	file := filepath.Join(l.dir, "blobs", "sha256", blob.Digest.Encoded())
	require.NoError(t, os.Chmod(file, 0o600))
	require.NoError(t, os.WriteFile(file, bad, 0o600))
	dir := t.TempDir()
	_, err := l.install("x:1.0.0", linuxAMD64, dir)
	require.ErrorContains(t, err, "not the one that the manifest names")
	requireEmpty(t, dir)
}

func TestLayersThatAreNoPluginAreRefused(t *testing.T) {
	marked := map[string]string{"com.gitlab.fleeting.layer": "1.0.0"}
	good := string(program(linuxAMD64, ""))
	for name, test := range map[string]struct {
		layer       []byte
		annotations map[string]string
		says        string
	}{
		"no annotation":       {tarOf(t, item{name: "plugin", content: good}), nil, "no layer has the annotation"},
		"no version":          {tarOf(t, item{name: "plugin", content: good}), map[string]string{"com.gitlab.fleeting.layer": "../../x"}, "no version"},
		"another version":     {tarOf(t, item{name: "plugin", content: good}), map[string]string{"com.gitlab.fleeting.layer": "2.0.0"}, "would not be found"},
		"another name":        {tarOf(t, item{name: "etc/passwd", content: "x"}), marked, "names of plugin files begin with plugin"},
		"a way out":           {tarOf(t, item{name: "plugin/../../../x", content: "x"}), marked, "leads elsewhere"},
		"a way out of Files":  {tarOf(t, item{name: "Files/plugin/../x", content: "x"}), marked, "leads elsewhere"},
		"an absolute name":    {tarOf(t, item{name: "/plugin", content: "x"}), marked, "begin with plugin"},
		"a link only":         {tarOf(t, item{name: "plugin", kind: tar.TypeSymlink, link: "/bin/sh"}), marked, "no file plugin"},
		"the same file twice": {tarOf(t, item{name: "plugin", content: good}, item{name: "plugin", content: good}), marked, "exists"},
		"no program":          {tarOf(t, item{name: "plugin", content: "#!/bin/sh\n"}), marked, "no program for linux"},
		"another machine":     {tarOf(t, item{name: "plugin", content: string(program(linuxARM64, ""))}), marked, "it is for arm64, not for amd64"},
		"another system":      {tarOf(t, item{name: "plugin", content: string(program(windowsAMD64, ""))}), marked, "no program for linux"},
		"no archive":          {bytes.Repeat([]byte("x"), 2048), marked, "reading the layer"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLayout(t)
			l.manifest("1.0.0", test.layer, test.annotations)
			dir := filepath.Join(t.TempDir(), "plugins")
			_, err := l.install("x:1.0.0", linuxAMD64, dir)
			require.ErrorContains(t, err, test.says)
			requireEmpty(t, dir)
			_, err = os.Stat(filepath.Join(dir, "..", "x"))
			require.ErrorIs(t, err, os.ErrNotExist)
		})
	}
}

func TestLayersOfEveryFormAreTaken(t *testing.T) {
	good := string(program(linuxAMD64, "good"))
	compressed := func(b []byte) []byte {
		var out bytes.Buffer
		w, err := zstd.NewWriter(&out)
		require.NoError(t, err)
		_, err = w.Write(b)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		return out.Bytes()
	}
	for name, layer := range map[string][]byte{
		"plain":          tarOf(t, item{name: "plugin", content: good}),
		"with a dot":     tarOf(t, item{name: "./plugin", content: good}),
		"zstd":           compressed(tarOf(t, item{name: "plugin", content: good})),
		"in a directory": tarOf(t, item{name: "plugin/", kind: tar.TypeDir}, item{name: "plugin/plugin", content: good}, item{name: "plugin/doc/plugin.md", content: "x"}),
		"of Windows":     tarOf(t, item{name: "Hives/", kind: tar.TypeDir}, item{name: "Files/plugin", content: good}),
	} {
		t.Run(name, func(t *testing.T) {
			l := newLayout(t)
			l.manifest("1.0.0", layer, map[string]string{"com.gitlab.fleeting.layer": "1.0.0"})
			installed, err := l.install("x:1.0.0", linuxAMD64, t.TempDir())
			require.NoError(t, err)
			info, err := os.Stat(installed.Path)
			require.NoError(t, err)
			require.Zero(t, info.Mode()&(os.ModeSetuid|0o022), "a publisher gives no more than the right to execute")
		})
	}
}

func TestALayoutMayBeATarArchive(t *testing.T) {
	l := newLayout(t)
	l.publish("registry.gitlab.com/gitlab-org/fleeting/plugins/x:", "1.0.0", linuxAMD64)
	file := filepath.Join(t.TempDir(), "plugins.tar")
	out, err := os.Create(file)
	require.NoError(t, err)
	w := tar.NewWriter(out)
	require.NoError(t, w.AddFS(os.DirFS(l.dir)))
	require.NoError(t, w.Close())
	require.NoError(t, out.Close())
	source, err := pluginartifact.Layout(t.Context(), file, false)
	require.NoError(t, err)
	ref, err := plugindir.Parse("x:1")
	require.NoError(t, err)
	_, err = source.Install(t.Context(), ref, linuxAMD64, t.TempDir())
	require.NoError(t, err)

	_, err = pluginartifact.Layout(t.Context(), t.TempDir(), false)
	require.ErrorContains(t, err, "is no OCI layout")
}

func TestTagsFloatForwardOnly(t *testing.T) {
	l := newLayout(t)
	for _, step := range []struct {
		version string
		tags    []string
	}{
		{"1.2.0", []string{"1.2.0", "1.2", "1", "latest"}},
		{"2.0.0", []string{"2.0.0", "2.0", "2", "latest"}},
		{"1.2.1", []string{"1.2.1", "1.2", "1"}},
		{"1.1.9", []string{"1.1.9", "1.1"}},
		{"3.0.0-rc.1", []string{"3.0.0-rc.1"}},
		{"2.0.0", []string{"2.0.0", "2.0", "2", "latest"}},
	} {
		require.Equal(t, step.tags, l.publish("x:", step.version, linuxAMD64), step.version)
	}
}

func TestAReleaseOfTheWrongPlatformIsRefused(t *testing.T) {
	l := newLayout(t)
	file := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(file, program(linuxARM64, ""), 0o700))
	_, err := pluginartifact.Publish(t.Context(), l.store, "", pluginartifact.Release{
		Name: "x", Version: "1.0.0", Binaries: map[pluginartifact.Platform]string{linuxAMD64: file},
	})
	require.ErrorIs(t, err, pluginartifact.ErrNotExecutable)
	_, err = pluginartifact.Publish(t.Context(), l.store, "", pluginartifact.Release{Name: "x", Version: "1.0"})
	require.ErrorContains(t, err, "no version")
}

func TestLoginsAreKeptForTheOwnerOnly(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	logins, err := pluginartifact.Logins()
	require.NoError(t, err)
	err = pluginartifact.Login(t.Context(), logins, "127.0.0.1:1", "somebody", "very-secret")
	require.Error(t, err)
	require.False(t, strings.Contains(err.Error(), "very-secret"))
	require.NoFileExists(t, filepath.Join(dir, "config.json"))
	require.Error(t, pluginartifact.Login(t.Context(), logins, "a b", "somebody", "very-secret"))
}
