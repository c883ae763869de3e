package pluginartifact

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/plugindir"
)

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"layers":[{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":1,"annotations":{"com.gitlab.fleeting.layer":"1.2.3"}}]}`))
	f.Add([]byte(`{"layers":[{"annotations":{"com.gitlab.fleeting.layer":"../x"}}]}`))
	f.Add([]byte(`{"manifests":[{"platform":{"os":"linux","architecture":"amd64"}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, l, err := parseManifest(body); err == nil {
			require.True(t, plugindir.IsVersion(l.version))
			require.NotContains(t, l.version, "/")
			require.LessOrEqual(t, l.Size, int64(maxLayer))
			require.NoError(t, l.Digest.Validate())
		}
		if d, err := chooseManifest(body, Platform{"linux", "amd64"}); err == nil {
			require.Equal(t, "amd64", d.Platform.Architecture)
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01aaaaaaaaaaa\x3e\x00"))
	f.Add(append([]byte("MZ"), bytes.Repeat([]byte{0xff}, 100)...))
	f.Add([]byte{0xcf, 0xfa, 0xed, 0xfe, 7, 0, 0, 1})
	f.Fuzz(func(t *testing.T, header []byte) {
		accepted := 0
		for _, system := range []string{"linux", "windows", "darwin"} {
			for _, arch := range []string{"amd64", "arm64"} {
				if checkHeader(header, Platform{system, arch}) == nil {
					accepted++
				}
			}
		}
		require.LessOrEqual(t, accepted, 1, "a program is for one platform")
	})
}

func FuzzExtract(f *testing.F) {
	f.Add([]byte("\x1f\x8b"))
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	f.Add(append([]byte("plugin"), make([]byte, 1024)...))
	f.Fuzz(func(t *testing.T, layer []byte) {
		if len(layer) > 1<<20 {
			return
		}
		parent := t.TempDir()
		into := filepath.Join(parent, "into")
		require.NoError(t, os.Mkdir(into, 0o755))
		_ = extract(bytes.NewReader(layer), into)
		entries, err := os.ReadDir(parent)
		require.NoError(t, err)
		require.Len(t, entries, 1, "nothing is written elsewhere")
	})
}

func FuzzFileName(f *testing.F) {
	for _, name := range []string{"plugin", "plugin/plugin", "Files/plugin.exe", "plugin/../x", `plugin\..\x`, "plugin//x", "plugin/.."} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if local, err := fileName(name); err == nil {
			require.True(t, filepath.IsLocal(local), local)
		}
	})
}
