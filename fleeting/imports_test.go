package fleeting_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "gitlab.com/gitlab-org/fleeting/fleeting"

// TestPackagesKnowOnlyWhatTheyMay keeps the arrows between the packages of this module pointing one
// way. Tests are free.
func TestPackagesKnowOnlyWhatTheyMay(t *testing.T) {
	allowed := map[string][]string{
		".":                   {"provider", "metrics", "internal/pool", "internal/pluginhost", "internal/wire"},
		"provider":            {},
		"metrics":             {},
		"connector":           {"provider"},
		"connector/mocks":     {"connector"},
		"internal/pool":       {"provider"},
		"internal/wire":       {"provider"},
		"internal/pluginhost": {"provider", "internal/wire"},
		"plugin":              {"provider", "internal/wire"},
		"plugin/simulated":    {"provider"},
		"integration":         {".", "provider", "connector"},
		"integration/internal/fleeting-plugin-loopback":          {"provider", "plugin"},
		"plugin/fleeting-plugin-dummy":                           {"provider"},
		"plugin/fleeting-plugin-dummy/cmd/fleeting-plugin-dummy": {"plugin", "plugin/fleeting-plugin-dummy"},
	}
	found := map[string]bool{}
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && file == filepath.Join("metrics", "prometheus") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		pkg := filepath.ToSlash(filepath.Dir(file))
		found[pkg] = true
		known, ok := allowed[pkg]
		require.True(t, ok, "say what the new package %s may import", pkg)
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		require.NoError(t, err)
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			require.NoError(t, err)
			if rest, ours := strings.CutPrefix(imported, module); ours {
				require.True(t, slices.Contains(known, path.Clean("./"+rest)), "%s must not import %s", file, imported)
			}
		}
		return nil
	})
	require.NoError(t, err)
	require.Len(t, found, len(allowed), "a package is gone")
}
