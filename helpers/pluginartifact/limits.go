package pluginartifact

import "golang.org/x/mod/semver"

// What is read from a source is bounded.
const (
	maxManifest = 4 << 20   // bytes of an index, a manifest or a configuration
	maxLayer    = 512 << 20 // bytes of a layer as it is transferred
	maxContent  = 1 << 30   // bytes of a layer's files together
	maxFiles    = 1000      // files in a layer
	maxTagPages = 100
)

// layerAnnotation marks the layer with the executable; its value is the version.
const layerAnnotation = "com.gitlab.fleeting.layer"

// compareVersions orders texts by version; what is no version is lower than all.
func compareVersions(a, b string) int { return semver.Compare("v"+a, "v"+b) }
