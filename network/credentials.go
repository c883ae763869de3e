package network

import "gitlab.com/gitlab-org/gitlab-runner/common/config"

// Credentials are what a server is reached with. Empty TLS files select those of the certificate
// directory.
type Credentials struct {
	URL         string
	Token       string
	TLSCAFile   string
	TLSCertFile string
	TLSKeyFile  string
}

// CredentialsOf returns the credentials of a runner entry.
func CredentialsOf(r *config.Runner) Credentials {
	return Credentials{
		URL: r.URL, Token: r.Token,
		TLSCAFile: r.TLSCAFile, TLSCertFile: r.TLSCertFile, TLSKeyFile: r.TLSKeyFile,
	}
}

// JobCredentials identify a job, by its own token, to the server at URL.
type JobCredentials struct {
	ID          int64
	Token       string
	URL         string
	TLSCAFile   string
	TLSCertFile string
	TLSKeyFile  string
}

func (j JobCredentials) credentials() Credentials {
	return Credentials{
		URL: j.URL, Token: j.Token,
		TLSCAFile: j.TLSCAFile, TLSCertFile: j.TLSCertFile, TLSKeyFile: j.TLSKeyFile,
	}
}
