package connector

import (
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

func TestAddressOf(t *testing.T) {
	const internal, external = "10.0.0.1", "198.51.100.1"

	tests := map[string]struct {
		internal, external string
		useExternal        bool
		protocol           provider.Protocol
		os                 string
		port               int
		want               string
		wantErr            string
	}{
		"internal by default":                {internal: internal, external: external, want: "10.0.0.1:22"},
		"external on demand":                 {internal: internal, external: external, useExternal: true, want: "198.51.100.1:22"},
		"internal as the only one":           {internal: internal, useExternal: true, want: "10.0.0.1:22"},
		"external as the only one":           {external: external, want: "198.51.100.1:22"},
		"configured port":                    {internal: internal, port: 2222, want: "10.0.0.1:2222"},
		"port of the address wins":           {internal: internal + ":2200", port: 2222, want: "10.0.0.1:2200"},
		"host name":                          {internal: "vm-1.example.com", want: "vm-1.example.com:22"},
		"host name with port":                {internal: "vm-1.example.com:23", want: "vm-1.example.com:23"},
		"IPv6 literal":                       {internal: "2001:db8::1", want: "[2001:db8::1]:22"},
		"IPv6 literal in brackets":           {internal: "[2001:db8::1]", want: "[2001:db8::1]:22"},
		"IPv6 literal with port":             {internal: "[2001:db8::1]:23", want: "[2001:db8::1]:23"},
		"IPv6 literal with zone":             {internal: "fe80::1%eth0", want: "[fe80::1%eth0]:22"},
		"empty port":                         {internal: "vm-1:", want: "vm-1:22"},
		"winrm":                              {internal: internal, protocol: provider.ProtocolWinRM, want: "10.0.0.1:5985"},
		"winrm over https":                   {internal: internal, protocol: provider.ProtocolWinRMHttps, want: "10.0.0.1:5986"},
		"windows without protocol":           {internal: internal, os: "windows", want: "10.0.0.1:5985"},
		"unknown protocol means ssh":         {internal: internal, protocol: "telnet", want: "10.0.0.1:22"},
		"no address":                         {wantErr: "has no address"},
		"no host":                            {internal: ":22", wantErr: "invalid address"},
		"port that is no number":             {internal: "vm-1:ssh", wantErr: `invalid port "ssh"`},
		"port out of range":                  {internal: internal, port: 65536, wantErr: `invalid port "65536"`},
		"negative port":                      {internal: internal, port: -1, wantErr: `invalid port "-1"`},
		"line break":                         {internal: "vm-1\nX", wantErr: "invalid address"},
		"url":                                {internal: "http://vm-1/", wantErr: "invalid port"},
		"longer than any host name":          {internal: strings.Repeat("a", 600), wantErr: "invalid address"},
		"port zero":                          {internal: "vm-1:0", wantErr: `invalid port "0"`},
		"user before the host is not a host": {internal: "root@vm-1", wantErr: "invalid address"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			info := provider.ConnectInfo{ID: "i-1", InternalAddr: tt.internal, ExternalAddr: tt.external}
			info.Protocol, info.ProtocolPort, info.OS = tt.protocol, tt.port, tt.os

			got, err := addressOf(info, tt.useExternal)
			if tt.wantErr != "" {
				require.ErrorContains(t, err, tt.wantErr)
				require.ErrorContains(t, err, `instance "i-1"`)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func FuzzAddressOf(f *testing.F) {
	f.Add("fe80::1%eth0", 22)
	for _, addr := range []string{"10.0.0.1", "vm:22", "[::1]:22", "::1", "[", "]:1", "a:b:c", "%:1"} {
		f.Add(addr, 0)
	}
	f.Fuzz(func(t *testing.T, addr string, port int) {
		info := provider.ConnectInfo{InternalAddr: addr}
		info.ProtocolPort = port
		got, err := addressOf(info, false)
		if err != nil {
			require.Less(t, len(err.Error()), 1000)
			return
		}
		host, number, err := net.SplitHostPort(got)
		require.NoError(t, err)
		require.NotEmpty(t, host)
		_, err = net.LookupPort("tcp", number)
		require.NoError(t, err)
	})
}
