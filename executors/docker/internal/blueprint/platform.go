package blueprint

import (
	"fmt"
	"regexp"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var platformPart = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// parsePlatform reads os[/arch[/variant]] or a bare architecture, which gets the engine's operating
// system. It returns a warning when that had to be guessed.
func parsePlatform(text, engineOS string) (*ocispec.Platform, string, error) {
	if text == "" {
		return nil, "", nil
	}
	parts := strings.Split(strings.ToLower(text), "/")
	for _, part := range parts {
		if !platformPart.MatchString(part) {
			return nil, "", configurationError("platform %q is not of the form os[/arch[/variant]]", text)
		}
	}
	warning := ""
	if len(parts) == 1 && parts[0] != "linux" && parts[0] != windows && parts[0] != "freebsd" {
		system := engineOS
		if system != "linux" && system != windows {
			system = "linux"
			warning = fmt.Sprintf("platform %q names no operating system: linux is assumed", text)
		}
		parts = append([]string{system}, parts...)
	}
	platform := &ocispec.Platform{OS: parts[0]}
	switch len(parts) {
	case 1:
	case 2:
		platform.Architecture, platform.Variant = architecture(parts[1])
	case 3:
		platform.Architecture, _ = architecture(parts[1])
		platform.Variant = parts[2]
	default:
		return nil, "", configurationError("platform %q is not of the form os[/arch[/variant]]", text)
	}
	return platform, warning, nil
}

// architecture returns the usual name and the variant of an architecture.
func architecture(name string) (string, string) {
	switch name {
	case "x86_64", "x86-64":
		return "amd64", ""
	case "aarch64":
		return "arm64", ""
	case "armhf":
		return "arm", "v7"
	case "armel":
		return "arm", "v6"
	case "i386", "i686":
		return "386", ""
	default:
		return name, ""
	}
}
