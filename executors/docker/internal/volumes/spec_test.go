package volumes

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	cases := []struct {
		os, text string
		want     Spec
		ok       bool
	}{
		{"linux", "/cache", Spec{Destination: "/cache"}, true},
		{"linux", "cache", Spec{Destination: "cache"}, true},
		{"linux", "/cache:ro", Spec{Destination: "/cache", Options: "ro"}, true},
		{"linux", "$DIR/cache:ro", Spec{Destination: "$DIR/cache", Options: "ro"}, true},
		{"linux", "/host:/data", Spec{Source: "/host", Destination: "/data"}, true},
		{"linux", "name:/data:rw,z", Spec{Source: "name", Destination: "/data", Options: "rw,z"}, true},
		{"linux", "/host:/data:ro:rshared", Spec{Source: "/host", Destination: "/data", Options: "ro,rshared"}, true},
		{"linux", "/host:/data:ro,Z,rprivate", Spec{Source: "/host", Destination: "/data", Options: "ro,Z,rprivate"}, true},
		{"linux", "/host:/data:O", Spec{Source: "/host", Destination: "/data", Options: "O"}, true},
		{"linux", "data:ro", Spec{Source: "data", Destination: "ro"}, true},
		{"linux", "", Spec{}, false},
		{"linux", ":", Spec{}, false},
		{"linux", "/a:/b:never", Spec{}, false},
		{"linux", "/a:/b:/c:/d", Spec{}, false},
		{"windows", `C:\cache`, Spec{Destination: `C:\cache`}, true},
		{"windows", `D:`, Spec{Destination: `D:`}, true},
		{"windows", `c:\host:c:\data:ro`, Spec{Source: `c:\host`, Destination: `c:\data`, Options: "ro"}, true},
		{"windows", `name:c:\data`, Spec{Source: "name", Destination: `c:\data`}, true},
		{"windows", `\\.\pipe\docker_engine:\\.\pipe\docker_engine`, Spec{Source: `\\.\pipe\docker_engine`, Destination: `\\.\pipe\docker_engine`}, true},
		{"windows", `/unix`, Spec{}, false},
		{"windows", `c:\a:c:\b:z`, Spec{}, false},
	}
	for _, c := range cases {
		got, err := Parse(c.os, c.text)
		if !c.ok {
			require.EqualError(t, err, fmt.Sprintf("invalid volume specification: %q", c.text))
			continue
		}
		require.NoError(t, err, c.text)
		require.Equal(t, c.want, got, c.text)
	}
}

func TestPathsFollowTheSystemOfTheContainers(t *testing.T) {
	require.Equal(t, "/builds/p/sub", Absolute("linux", "/builds/p", "sub"))
	require.Equal(t, "/sub", Absolute("linux", "/builds/p", "/sub"))
	require.Equal(t, `C:\builds\p\sub`, Absolute("windows", `C:\builds\p`, "sub"))
	require.Equal(t, `c:\sub`, Absolute("windows", `C:\builds\p`, `c:\sub`))

	require.True(t, IsRoot("linux", "//"))
	require.True(t, IsRoot("linux", "/a/.."))
	require.False(t, IsRoot("linux", "/a"))
	require.True(t, IsRoot("windows", `C:\`))
	require.False(t, IsRoot("windows", `D:\`))

	require.True(t, Within("linux", "/builds/a", "/builds"))
	require.True(t, Within("linux", "/builds", "/builds/"))
	require.False(t, Within("linux", "/buildsx", "/builds"))
	require.True(t, Within("windows", `C:\Builds\a`, `c:\builds`))
}

func TestHashIsWhatVolumesOnEnginesAreNamedBy(t *testing.T) {
	require.Equal(t, "c33bcaa1fd2c77edfc3893b41966cea8", Hash("/builds"))
	require.Equal(t, "3c3f060a0374fc8bc39395164f415a70", Hash("/cache"))
}

func FuzzParseReadsWhatItWrites(f *testing.F) {
	f.Add("/a:/b:ro,z")
	f.Add(`c:\a:c:\b`)
	f.Fuzz(func(t *testing.T, text string) {
		spec, err := Parse("linux", text)
		if err != nil || spec.Source == "" {
			return
		}
		again, err := Parse("linux", spec.Bind())
		require.NoError(t, err)
		require.Equal(t, spec, again)
	})
}
