package common

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/shells"
)

const (
	defaultUploadTimeout         = time.Hour
	defaultResponseHeaderTimeout = 10 * time.Minute
)

// newPlan is a plan without work.
func (b *Build) newPlan(stage string) *plan.Plan {
	p := &plan.Plan{
		Stage:         stage,
		ProjectDir:    b.job.ProjectDir,
		TmpDir:        b.job.TmpDir,
		KeepUmask:     b.job.Flags.IsOn(featureflags.DisableUmask),
		Server:        plan.Server{URL: b.job.Runner.URL},
		TransferMeter: b.job.Settings.TransferMeterFrequency,
	}
	for _, v := range b.job.Variables.Unique() {
		p.Variables = append(p.Variables, plan.Variable{Key: v.Key, Value: v.Value, File: v.File})
	}
	for _, v := range b.options.TLSVariables {
		switch v.Key {
		case "CI_SERVER_TLS_CA_FILE":
			p.Server.CAFile = v.Key
		case "CI_SERVER_TLS_CERT_FILE":
			p.Server.CertFile = v.Key
		case "CI_SERVER_TLS_KEY_FILE":
			p.Server.KeyFile = v.Key
		}
	}
	return p
}

func (b *Build) clearWorktreePlan() *plan.Plan {
	p := b.newPlan(stageClearWorktree)
	p.ClearWorktree = &plan.ClearWorktree{}
	return p
}

// sourcesPlan is the work of get_sources.
func (b *Build) sourcesPlan() *plan.Plan {
	job, git := b.job, b.job.Spec.Git
	flags := job.Flags
	remote := gitRemote(job.Runner.CloneURL, job.Variables.Get("CI_PROJECT_PATH"), git.RepoURL, job.Spec.Token)
	if flags.IsOn(featureflags.GitURLsWithoutTokens) {
		remote = remote.withoutToken()
	}
	s := &plan.Sources{
		Strategy:                 job.Strategy,
		RemoteURL:                remote.plain,
		RemoteURLWithCredentials: remote.full,
		InsteadOf:                remote.aliases(b.baseURL(), job, flags.IsOn(featureflags.GitURLsWithoutTokens)),
		Refspecs:                 git.Refspecs,
		Depth:                    git.Depth,
		Sha:                      git.Sha,
		Ref:                      git.Ref,
		ObjectFormat:             git.ObjectFormat,
		Checkout:                 job.Settings.GitCheckout,
		UserAgent:                fmt.Sprintf("%s %s %s/%s", b.options.Version.Name, b.options.Version.Version, b.options.Version.OS, b.options.Version.Arch),
		CleanFlags:               job.Settings.GitCleanFlags,
		FetchFlags:               job.Settings.GitFetchFlags,
		CloneFlags:               job.Settings.GitCloneFlags,
		NativeClone:              flags.IsOn(featureflags.GitNativeClone),
		LFSSkipSmudge:            job.Settings.LFSSkipSmudge,
		SafeDirectory:            job.Runner.SafeDirectoryCheckout == nil || *job.Runner.SafeDirectoryCheckout,
		CleanGitConfig:           b.cleanGitConfig(),
		BundleURIs:               flags.IsOn(featureflags.GitBundleURIs),
		ProactiveAuth:            flags.IsOn(featureflags.GitProactiveAuth),
		TokenlessURLs:            flags.IsOn(featureflags.GitURLsWithoutTokens),
		CredentialHosts:          remote.hosts(),
		Submodules:               plan.Submodules{Strategy: plan.SubmoduleNone},
	}
	if flags.IsOn(featureflags.GitalyCorrelationID) {
		s.CorrelationID = b.options.CorrelationID
	}
	if job.Strategy == plan.StrategyFetch || job.Strategy == plan.StrategyClone {
		s.Submodules = plan.Submodules{
			Strategy:    job.Settings.SubmoduleStrategy,
			Paths:       job.Settings.SubmodulePaths,
			Depth:       job.Settings.SubmoduleDepth,
			UpdateFlags: job.Settings.SubmoduleUpdateFlags,
		}
		s.PreHooks = b.hooks("pre_clone_script", single(job.Runner.PreGetSourcesScript), job.Spec.Hook(spec.HookPreGetSources))
		s.PostHooks = b.hooks("post_clone_script", job.Spec.Hook(spec.HookPostGetSources), single(job.Runner.PostGetSourcesScript))
	}
	p := b.newPlan(stageGetSources)
	p.Sources = s
	return p
}

// hasHooks says whether get_sources runs scripts of the user's.
func (b *Build) hasHooks() bool {
	if b.job.Strategy == plan.StrategyEmpty {
		return false
	}
	runner, job := b.job.Runner, b.job.Spec
	return runner.PreGetSourcesScript != "" || runner.PostGetSourcesScript != "" ||
		len(job.Hook(spec.HookPreGetSources)) > 0 || len(job.Hook(spec.HookPostGetSources)) > 0
}

// hooks returns the scripts for those lists of commands that are not empty. The helper exports the
// variables; the scripts run where it starts them.
func (b *Build) hooks(name string, lists ...[]string) []string {
	var out []string
	for _, commands := range lists {
		if len(commands) == 0 {
			continue
		}
		out = append(out, shells.Bash(shells.Script{
			Trace:          b.job.Settings.DebugTrace,
			CheckExitCodes: b.job.Flags.IsOn(featureflags.BashExitCodeCheck),
			Sections:       b.scriptSections(),
			Blocks:         []shells.Block{{Name: name, Commands: commands}},
		}))
	}
	return out
}

func (b *Build) cleanGitConfig() bool {
	if b.job.Runner.CleanGitConfig != nil {
		return *b.job.Runner.CleanGitConfig
	}
	return b.job.Strategy != plan.StrategyNone
}

// baseURL is where submodules of this GitLab are fetched from.
func (b *Build) baseURL() string {
	if strings.Contains(b.job.Runner.CloneURL, "://") {
		return strings.TrimRight(b.job.Runner.CloneURL, "/")
	}
	return strings.TrimRight(b.job.Runner.URL, "/")
}

func (b *Build) downloadPlan() *plan.Plan {
	p := b.newPlan(stageDownload)
	for _, d := range b.job.Spec.Dependencies {
		if d.ArtifactsFile.Filename == "" {
			continue
		}
		p.DownloadArtifacts = append(p.DownloadArtifacts, plan.ArtifactDownload{
			Name: d.Name, JobID: d.ID, Token: d.Token,
			DirectDownload: b.job.Flags.IsOn(featureflags.DirectDownload),
		})
	}
	if p.DownloadArtifacts == nil {
		return nil
	}
	return p
}

func (b *Build) uploadPlan(success bool) *plan.Plan {
	upload, header := defaultUploadTimeout, defaultResponseHeaderTimeout
	if c := b.job.Runner.Artifact; c != nil {
		if c.UploadTimeout != nil {
			upload = *c.UploadTimeout
		}
		if c.ResponseHeaderTimeout != nil {
			header = *c.ResponseHeaderTimeout
		}
	}
	stage := stageUpload
	if !success {
		stage = stageUploadOnFailure
	}
	p := b.newPlan(stage)
	for _, a := range b.job.Spec.Artifacts {
		if !a.When.Matches(success) || len(a.Paths) == 0 && len(a.Exclude) == 0 && !a.Untracked {
			continue
		}
		p.UploadArtifacts = append(p.UploadArtifacts, plan.ArtifactUpload{
			JobID: b.job.Spec.ID, Token: b.job.Spec.Token,
			Name: a.Name, Paths: a.Paths, Exclude: a.Exclude, Untracked: a.Untracked,
			ExpireIn: a.ExpireIn, Type: a.Type, Format: a.Format,
			CompressionLevel:             b.job.Settings.ArtifactCompressionLevel,
			TimeoutSeconds:               int(upload.Seconds()),
			ResponseHeaderTimeoutSeconds: int(header.Seconds()),
			LogResponses:                 b.job.Settings.DebugTrace,
			Provenance:                   b.provenance(a.Format),
		})
	}
	if p.UploadArtifacts == nil {
		return nil
	}
	return p
}

// provenance is what is told about the origin of artifacts, if the job asks for it. Only a zip archive can hold it.
func (b *Build) provenance(format string) *plan.Provenance {
	if !b.job.Settings.ArtifactsMetadata || format != "zip" {
		return nil
	}
	var names []string
	for _, v := range b.job.Variables.Unique() {
		names = append(names, v.Key)
	}
	slices.Sort(names)
	return &plan.Provenance{
		RunnerID: b.job.Runner.ID, RunnerName: b.job.Runner.Name, RunnerRevision: b.options.Version.Revision,
		Executor: b.job.Runner.Executor, JobName: b.job.Spec.Info.Name,
		RepoURL:    strings.TrimSuffix(plainURL(b.job.Spec.Git.RepoURL), ".git"),
		RepoDigest: b.job.Spec.Git.Sha,
		StartedAt:  b.started.UTC(), EndedAt: time.Now().UTC(), Parameters: names,
	}
}

// plainURL is an address without credentials.
func plainURL(address string) string {
	parsed, err := url.Parse(address)
	if err != nil {
		return ""
	}
	parsed.User = nil
	return parsed.String()
}

func (b *Build) cleanupPlan() *plan.Plan {
	remote := gitRemote(b.job.Runner.CloneURL, b.job.Variables.Get("CI_PROJECT_PATH"), b.job.Spec.Git.RepoURL, b.job.Spec.Token)
	p := b.newPlan(stageCleanup)
	p.Cleanup = &plan.Cleanup{
		Strategy:        b.job.Strategy,
		Submodules:      b.job.Settings.SubmoduleStrategy,
		CleanGitConfig:  b.cleanGitConfig(),
		Worktree:        b.job.Flags.IsOn(featureflags.JobCleanup),
		CleanFlags:      b.job.Settings.GitCleanFlags,
		CredentialHosts: remote.hosts(),
	}
	return p
}

// restoreCachePlan is nil if no cache is to be restored.
func (b *Build) restoreCachePlan(ctx context.Context) (*plan.Plan, error) {
	p := b.newPlan(stageRestoreCache)
	for _, c := range b.job.Spec.Cache {
		if len(c.Paths) == 0 && !c.Untracked {
			continue
		}
		restore, err := b.cacheRestore(ctx, c)
		if err != nil {
			return nil, err
		}
		p.RestoreCaches = append(p.RestoreCaches, restore)
	}
	if p.RestoreCaches == nil {
		return nil, nil
	}
	return p, nil
}

// saveCachePlan is nil if no cache is to be saved after this outcome.
func (b *Build) saveCachePlan(ctx context.Context, success bool, upload uploadObject) (*plan.Plan, error) {
	stage := stageCache
	if !success {
		stage = stageCacheOnFailure
	}
	p := b.newPlan(stage)
	for _, c := range b.job.Spec.Cache {
		if !c.When.Matches(success) || len(c.Paths) == 0 && !c.Untracked {
			continue
		}
		save, err := b.cacheSave(ctx, c, upload)
		if err != nil {
			return nil, err
		}
		p.SaveCaches = append(p.SaveCaches, save)
	}
	if p.SaveCaches == nil {
		return nil, nil
	}
	return p, nil
}

// remoteURL is a repository's address with and without credentials.
type remoteURL struct {
	full, plain string
	parsed      *url.URL
	token       string
}

// gitRemote is the address of the project's repository: the one received, or that of the same project
// below cloneURL.
func gitRemote(cloneURL, projectPath, repoURL, token string) remoteURL {
	address := repoURL
	if cloneURL != "" {
		if base, err := url.Parse(cloneURL); err == nil {
			base.Path = strings.TrimRight(base.Path, "/") + "/" + projectPath + ".git"
			if base.Scheme == "http" || base.Scheme == "https" {
				base.User = url.UserPassword("gitlab-ci-token", token)
			}
			address = base.String()
		}
	}
	parsed, err := url.Parse(address)
	if err != nil {
		return remoteURL{full: address, plain: address, token: token}
	}
	if parsed.Scheme == "ssh" && parsed.User == nil {
		parsed.User = url.User("git")
		address = parsed.String()
	}
	plain := *parsed
	if plain.Scheme == "http" || plain.Scheme == "https" {
		plain.User = nil
	}
	return remoteURL{full: address, plain: plain.String(), parsed: parsed, token: token}
}

// withoutToken is the address for a git that gets the token from a credential helper.
func (r remoteURL) withoutToken() remoteURL {
	if r.parsed == nil || r.parsed.User == nil || r.parsed.Scheme != "http" && r.parsed.Scheme != "https" {
		return r
	}
	named := *r.parsed
	named.User = url.User(r.parsed.User.Username())
	r.full, r.parsed = named.String(), &named
	return r
}

// aliases make git use credentials for everything of this GitLab, submodules by relative and, if asked
// for, SSH addresses included.
//
// Without a token in addresses only SSH addresses are replaced.
func (r remoteURL) aliases(base string, job *Job, tokenless bool) []plan.Alias {
	var out []plan.Alias
	seen := map[plan.Alias]bool{}
	add := func(replacement, original string) {
		alias := plan.Alias{Replacement: replacement, Original: original}
		if replacement == original || seen[alias] {
			return
		}
		seen[alias] = true
		out = append(out, alias)
	}
	if !tokenless {
		add(r.full, r.plain)
	}
	parsedBase, err := url.Parse(base)
	if err != nil || parsedBase.Scheme != "http" && parsedBase.Scheme != "https" {
		return out
	}
	authenticated := *parsedBase
	if !tokenless {
		authenticated.User = url.UserPassword("gitlab-ci-token", r.token)
	}
	add(authenticated.String(), base)
	if job.Settings.SubmoduleForceHTTPS {
		host := job.Variables.Get("CI_SERVER_SHELL_SSH_HOST")
		if host == "" {
			host = job.Variables.Get("CI_SERVER_HOST")
		}
		switch port := job.Variables.Get("CI_SERVER_SHELL_SSH_PORT"); port {
		case "", "22":
			add(authenticated.String()+"/", "git@"+host+":")
			add(authenticated.String(), "ssh://git@"+host)
		default:
			add(authenticated.String(), "ssh://git@"+host+":"+port)
		}
	}
	if !tokenless && r.parsed != nil && (r.parsed.Scheme == "http" || r.parsed.Scheme == "https") {
		root := url.URL{Scheme: r.parsed.Scheme, Host: r.parsed.Host}
		rootWithUser := root
		rootWithUser.User = r.parsed.User
		add(rootWithUser.String(), root.String())
	}
	return out
}

// hosts are those at which user credential helpers must forget the job's token.
func (r remoteURL) hosts() []string {
	if r.parsed == nil || r.parsed.Host == "" {
		return nil
	}
	root := url.URL{Scheme: r.parsed.Scheme, Host: r.parsed.Host}
	return []string{root.String()}
}
