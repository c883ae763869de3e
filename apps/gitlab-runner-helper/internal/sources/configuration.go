package sources

import (
	"net/url"
	"path/filepath"

	"gitlab.com/gitlab-org/gitlab-runner/apps/gitlab-runner-helper/internal/git"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
)

// Names in the directory for temporary files. The first three are known to users.
const (
	externalConfig = ".gitlab-runner.ext.conf"
	seedConfig     = ".glr.gconf"
	templateDir    = "git-template"
	maskingFile    = "masking.db"
)

const allBranches = "+refs/heads/*:refs/remotes/origin/*"

// externalMode lets every user of the job's image use the repository: git refuses to work at all if it
// cannot read a file that its configuration includes.
const externalMode = 0o644

// tokenHelper gives git the job's token. It is a shell command, run by git with the operation's name.
const tokenHelper = `!f() { if [ "$1" = get ]; then printf 'password=%s\n' "$CI_JOB_TOKEN"; fi; }; f`

// configure writes the configuration that stands outside of the work tree, and makes the processes to
// come use it.
func (g *getter) configure() error {
	set := func(key, value string) error { return g.Environment.Set(key, value) }
	external := g.Workspace.Tmp(externalConfig)
	if err := set("GLR_EXT_GIT_CONFIG_PATH", external); err != nil {
		return err
	}
	content, err := g.external()
	if err != nil {
		return err
	}
	if err := g.Workspace.WriteTmp(externalConfig, content, externalMode); err != nil {
		return err
	}
	settings := g.tlsSettings()
	if g.plan.SafeDirectory {
		settings = append(settings, git.Trust(g.Workspace.ProjectDir)...)
	}
	if err := g.git.Configure(settings...); err != nil {
		return err
	}
	if !g.plan.TokenlessURLs {
		return nil
	}
	if err := g.writeSeed(); err != nil {
		return err
	}
	return set("GIT_CONFIG_GLOBAL", g.Workspace.Tmp(seedConfig))
}

// external is the configuration with the credentials.
func (g *getter) external() ([]byte, error) {
	var c git.Config
	withoutSources := g.plan.Strategy == plan.StrategyNone || g.plan.Strategy == plan.StrategyEmpty
	if !withoutSources {
		if id := g.plan.CorrelationID; id != "" {
			g.Console.Notice("Gitaly correlation ID: %s", id)
			c.Add("http", "", "extraHeader", "X-Gitaly-Correlation-ID: "+id)
		}
		if g.plan.BundleURIs {
			c.Add("transfer", "", "bundleURI", "true")
		}
		for _, s := range g.tlsSettings() {
			host, key := splitHTTPSetting(s.Key)
			c.Add("http", host, key, s.Value)
		}
		for _, alias := range g.aliases() {
			c.Add("url", alias.Replacement, "insteadOf", alias.Original)
		}
	}
	if g.plan.TokenlessURLs {
		for _, host := range g.plan.CredentialHosts {
			// The empty entry makes git forget the helpers of other files.
			c.Add("credential", host, "helper", "")
			c.Add("credential", host, "helper", tokenHelper)
			c.Add("credential", host, "username", "gitlab-ci-token")
		}
	}
	return c.Bytes()
}

func (g *getter) aliases() []plan.Alias {
	own := plan.Alias{Replacement: g.plan.RemoteURLWithCredentials, Original: g.plan.RemoteURL}
	var all []plan.Alias
	seen := map[plan.Alias]bool{}
	for _, alias := range append([]plan.Alias{own}, g.plan.InsteadOf...) {
		if alias.Replacement == "" || alias.Original == "" || alias.Replacement == alias.Original || seen[alias] {
			continue
		}
		seen[alias] = true
		all = append(all, alias)
	}
	return all
}

// tlsSettings are the certificates to use with the GitLab instance.
func (g *getter) tlsSettings() []git.Setting {
	server, err := url.Parse(g.Server.URL)
	if err != nil || server.Host == "" {
		return nil
	}
	var settings []git.Setting
	for _, s := range [][2]string{
		{"sslCAInfo", g.Server.CAFile}, {"sslCert", g.Server.CertFile}, {"sslKey", g.Server.KeyFile},
	} {
		if s[1] != "" {
			settings = append(settings, git.Setting{
				Key: "http." + server.Scheme + "://" + server.Host + "." + s[0], Value: g.Workspace.Tmp(s[1]),
			})
		}
	}
	return settings
}

// splitHTTPSetting returns the URL and the last part of http.<url>.<key>.
func splitHTTPSetting(name string) (host, key string) {
	ext := filepath.Ext(name)
	return name[len("http.") : len(name)-len(ext)], ext[1:]
}

// writeSeed writes a global configuration that includes the user's and the external one.
func (g *getter) writeSeed() error {
	var c git.Config
	if g.Environment.Get("HOME") != "" {
		// Git reads both, in this order, and does not mind if they are missing.
		c.Add("include", "", "path", "~/.config/git/config")
		c.Add("include", "", "path", "~/.gitconfig")
	}
	c.Add("include", "", "path", g.Workspace.Tmp(externalConfig))
	content, err := c.Bytes()
	if err != nil {
		return err
	}
	return g.Workspace.WriteTmp(seedConfig, content, externalMode)
}

// prepareTmp writes the template of new repositories.
func (g *getter) prepareTmp() error {
	if err := g.Workspace.RemoveTmp(templateDir); err != nil {
		return err
	}
	var c git.Config
	c.Add("init", "", "defaultBranch", "none")
	c.Add("fetch", "", "recurseSubmodules", "false")
	c.Add("credential", "", "interactive", "never")
	c.Add("gc", "", "autoDetach", "false")
	if !g.native {
		c.Add("remote", "origin", "url", g.plan.RemoteURL)
		c.Add("remote", "origin", "fetch", allBranches)
	}
	c.Add("include", "", "path", g.Workspace.Tmp(externalConfig))
	content, err := c.Bytes()
	if err != nil {
		return err
	}
	return g.Workspace.WriteTmp(filepath.Join(templateDir, "config"), content, externalMode)
}
