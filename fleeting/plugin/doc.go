// Package plugin is what the main function of a fleeting plugin calls: Main for a complete command,
// Serve for serving alone. A plugin served by it ends when its host ends, however that happens, and its
// log lines, those written with the logger given to Init and those to the standard streams, reach the
// host's log. Plugins import it; the library's host side does not.
package plugin
