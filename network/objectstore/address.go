package objectstore

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// checkAddress refuses what is not host or host:port.
func checkAddress(key, address string) error {
	u, err := url.Parse("//" + address)
	bare := err == nil && strings.Contains(u.Hostname(), ":") && !strings.HasPrefix(address, "[")
	if err != nil || bare || u.Host != address || u.Hostname() == "" || strings.HasSuffix(address, ":") || strings.ContainsAny(address, " \t\\") {
		return fmt.Errorf("config %s %q must be a host or host:port, without a scheme and a path", key, address)
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("config %s %q has the port %s: use 1 to 65535", key, address, port)
		}
	}
	return nil
}

// canonicalAddress drops the port that the scheme implies: clients do so too, and a signature covers
// the Host header that they send.
func canonicalAddress(scheme, address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil || port != map[string]string{"https": "443", "http": "80"}[scheme] {
		return address
	}
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// escapePath escapes everything in an object's name but letters, digits, -._~ and the slash.
func escapePath(name string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-._~/", c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}
