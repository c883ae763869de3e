package images

import (
	"net/url"
	"strings"
)

// hub is the canonical domain of the registry that short names belong to, hubLegacy another name of it
// that stands in old credential files.
const (
	hub       = "docker.io"
	hubLegacy = "index.docker.io"
)

// repositoryPath is the path by which credentials for an image are looked up: domain, then repository,
// without tag and digest.
func repositoryPath(image string) string {
	name, _, _ := strings.Cut(image, "@")
	slash := strings.LastIndex(name, "/")
	if colon := strings.LastIndex(name, ":"); colon > slash {
		name = name[:colon]
	}
	first, rest, found := strings.Cut(name, "/")
	if !found || !strings.ContainsAny(first, ".:") && first != "localhost" && strings.ToLower(first) == first {
		return hub + "/" + name
	}
	return canonicalHost(first) + "/" + rest
}

// registryPath is the form of an entry of a credential file: a URL is its host, anything else keeps its
// path.
func registryPath(entry string) string {
	for _, scheme := range []string{"http://", "https://"} {
		if strings.HasPrefix(entry, scheme) {
			if parsed, err := url.Parse(entry); err == nil {
				return canonicalHost(parsed.Host)
			}
			entry = strings.TrimPrefix(entry, scheme)
		}
	}
	entry = strings.TrimRight(entry, "/")
	host, rest, found := strings.Cut(entry, "/")
	if !found {
		return canonicalHost(host)
	}
	if colon := strings.LastIndex(rest, ":"); colon >= 0 {
		rest = rest[:colon]
	}
	return canonicalHost(host) + "/" + rest
}

func canonicalHost(host string) string {
	host = strings.ToLower(host)
	if host == hubLegacy {
		return hub
	}
	return host
}

// parents returns a path and its parents, the longest first.
func parents(path string) []string {
	list := []string{path}
	for {
		cut := strings.LastIndex(path, "/")
		if cut < 0 {
			return list
		}
		path = path[:cut]
		list = append(list, path)
	}
}
