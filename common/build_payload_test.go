package common_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/common/plan"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

func TestInputsReachTheScriptOnlyIfTheFlagIsOn(t *testing.T) {
	for flag, want := range map[string]string{"true": "make prod", "false": "make ${{ job.inputs.env }}"} {
		m, tr := newMachine(), &trace{}
		job := with(fullJob(), "FF_ENABLE_JOB_INPUTS_INTERPOLATION", flag)
		job.Steps[0].Script = []string{"make ${{ job.inputs.env }}"}
		job.Inputs = []spec.Input{{Key: "env", Value: spec.InputValue{Type: "string", Content: json.RawMessage(`"prod"`)}}}
		require.NoError(t, newBuild(job, m, tr).Run(context.Background()).Err)
		require.Contains(t, m.scripts["step_script"], "\n"+want+"\n")
	}
}

func TestATemplateWithoutSenseFailsTheJobBeforeAnythingIsMade(t *testing.T) {
	m, tr := newMachine(), &trace{}
	job := fullJob()
	job.Cache[0].Key = "${{ job.inputs.nobody }}"
	job.Inputs = []spec.Input{{Key: "env", Value: spec.InputValue{Type: "string", Content: json.RawMessage(`"prod"`)}}}
	result := newBuild(job, m, tr).Run(context.Background())
	require.Equal(t, common.RunnerConfigurationError, result.Reason)
	require.Empty(t, m.done())
	require.Contains(t, tr.String(), `failed to interpolate job inputs: cache[0].key: ${{ job.inputs.nobody }}: there is no input "nobody"; the job has env`)
}

func TestUnsupportedOptionsAreNamed(t *testing.T) {
	for options, want := range map[string]string{
		`{"docker":{"colour":"blue","user":"x"}}`: `Unsupported "image" options [colour] for "docker executor"; supported options are [platform user]`,
		`{"kubernetes":{"colour":"blue"}}`:        `Unsupported "image" options [colour] for "kubernetes executor"; supported options are [user]`,
		`{"podman":{}}`:                           `Unsupported "image" options [podman] for "executor_opts"; supported options are [docker kubernetes]`,
	} {
		job := fullJob()
		job.Image = &spec.Image{Name: "x"}
		require.NoError(t, json.Unmarshal([]byte(options), &job.Image.ExecutorOpts))
		result := newBuild(job, newMachine(), &trace{}).Run(context.Background())
		require.EqualError(t, result.Err, want)
		require.Equal(t, 3, result.ExitCode)
	}
}

func TestTheHeaderTellsOfAPolicy(t *testing.T) {
	yes, no := true, false
	for allowed, want := range map[*bool]string{
		nil:  "policy variables take precedence over user-defined variables",
		&yes: "user-defined variables are allowed, except: A, B", &no: "user-defined variables are ignored, except: A, B",
	} {
		job, tr := fullJob(), &trace{}
		job.Policy = spec.PolicyOptions{ExecutionPolicyJob: true, Name: "scan all", VariablesOverrideAllowed: allowed}
		if allowed != nil {
			job.Policy.VariablesOverrideException = []string{"A", "B"}
		}
		newBuild(job, newMachine(), tr).Run(context.Background())
		require.Contains(t, tr.String(), "\x1b[0K  policy: scan all\x1b[0;m\n\x1b[0K  "+want+"\x1b[0;m\n")
	}
}

func TestTheProjectsDirectory(t *testing.T) {
	for path, want := range map[string]string{
		"$CI_BUILDS_DIR/a/../b": "/builds/b", "/builds/c": "/builds/c",
		"/builds": "", "$CI_BUILDS_DIR/../etc": "", "/buildsx": "", "relative": "",
	} {
		m := newMachine()
		result := newBuild(with(fullJob(), "GIT_CLONE_PATH", path), m, &trace{}).Run(context.Background())
		if want == "" {
			require.Equal(t, common.RunnerConfigurationError, result.Reason, path)
			continue
		}
		require.NoError(t, result.Err, path)
		require.Equal(t, want, m.plans["get_sources"].ProjectDir)
		require.Equal(t, want+".tmp", m.plans["get_sources"].TmpDir)
	}
}

func TestValuesThatAreOnlyKnownOnTheMachineAreMaskedToo(t *testing.T) {
	m, tr := newMachine(), &trace{}
	m.on["step_script"] = func(_ context.Context, s common.Stage) error {
		_, err := fmt.Fprintln(s.Stdout, "in /builds/grp/app/hidden and hunter2hunter2 with glcbt-job")
		return err
	}
	m.on["after_script"] = func(context.Context, common.Stage) error {
		return fmt.Errorf("no file /builds/grp/app/hidden/x")
	}
	job := fullJob()
	job.Variables = append(job.Variables, spec.Variable{Key: "PLACE", Value: "$CI_PROJECT_DIR/hidden", Masked: true})
	require.NoError(t, newBuild(job, m, tr).Run(context.Background()).Err)
	require.Contains(t, tr.String(), "in [MASKED] and [MASKED] with [MASKED]\n")
	require.Contains(t, tr.String(), "unaffected: no file [MASKED]/x")
}

func TestCacheKeys(t *testing.T) {
	type want struct{ names, warnings []string }
	tests := map[string]struct {
		key, fallback string
		hashed        bool
		want          want
	}{
		"the job and its branch stand in, as they are": {want: want{names: []string{"unit/feature-$HOME"}}},
		"a file variable is its path":                  {key: "k-$FILE", want: want{names: []string{"k-/builds/grp/app.tmp/FILE"}}},
		"a fallback":                                   {key: "k", fallback: "f", want: want{names: []string{"k", "f"}}},
		"a protected fallback":                         {key: "k", fallback: "f-protected. ", want: want{names: []string{"k"}, warnings: []string{`CACHE_FALLBACK_KEY "f-protected. " is not allowed: it ends in -protected`}}},
		"a fallback that becomes a protected one":      {key: "k", fallback: "f-protected/.", want: want{names: []string{"k"}, warnings: []string{`CACHE_FALLBACK_KEY "f-protected/." is not allowed: it ends in -protected`}}},
		"a hashed fallback keeps its characters":       {key: "k", fallback: "f-protected/.", hashed: true, want: want{names: []string{"k", "f-protected/."}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			job := with(fullJob(), "CACHE_FALLBACK_KEY", test.fallback, "FF_HASH_CACHE_KEYS", fmt.Sprint(test.hashed))
			job.Git.Ref = "feature-$HOME"
			job.Variables = append(job.Variables, spec.Variable{Key: "FILE", Value: "content", File: true})
			job.Cache[0].Key = test.key
			require.NoError(t, newBuild(job, m, &trace{}).Run(context.Background()).Err)
			restore := m.plans["restore_cache"].RestoreCaches[0]
			var names []string
			for _, key := range restore.Keys {
				names = append(names, key.Name)
			}
			require.Equal(t, test.want, want{names, restore.Warnings})
		})
	}
}

func TestAnUnknownCachePolicyIsTheJobsMistake(t *testing.T) {
	m := newMachine()
	job := fullJob()
	job.Cache[0].Policy = "perhaps"
	result := newBuild(job, m, &trace{}).Run(context.Background())
	require.Equal(t, common.RunnerConfigurationError, result.Reason)
	require.NotContains(t, m.done(), "step_script")
}

func TestAddressesOfTheRepository(t *testing.T) {
	const bare, full = "https://gitlab.example.com", "https://gitlab-ci-token:glcbt-job@gitlab.example.com"
	ssh := []string{"GIT_SUBMODULE_FORCE_HTTPS", "true", "CI_SERVER_HOST", "gitlab.example.com"}
	tests := map[string]struct {
		variables []string
		clone     string
		remote    string
		aliases   []plan.Alias
	}{
		"with a token": {remote: full + "/grp/app.git", aliases: []plan.Alias{
			{Replacement: full + "/grp/app.git", Original: bare + "/grp/app.git"}, {Replacement: full, Original: bare},
		}},
		"of submodules by SSH": {variables: ssh, remote: full + "/grp/app.git", aliases: []plan.Alias{
			{Replacement: full + "/grp/app.git", Original: bare + "/grp/app.git"}, {Replacement: full, Original: bare},
			{Replacement: full + "/", Original: "git@gitlab.example.com:"}, {Replacement: full, Original: "ssh://git@gitlab.example.com"},
		}},
		"without a token": {
			variables: append(ssh, "FF_GIT_URLS_WITHOUT_TOKENS", "true"),
			remote:    "https://gitlab-ci-token@gitlab.example.com/grp/app.git",
			aliases: []plan.Alias{
				{Replacement: bare + "/", Original: "git@gitlab.example.com:"}, {Replacement: bare, Original: "ssh://git@gitlab.example.com"},
			},
		},
		"of an SSH clone": {clone: "ssh://git.internal/", variables: []string{"CI_PROJECT_PATH", "grp/app"}, remote: "ssh://git@git.internal/grp/app.git"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			b := newBuildOf(with(fullJob(), test.variables...), m, &trace{}, func(o *common.BuildOptions) { o.Runner.CloneURL = test.clone })
			require.NoError(t, b.Run(context.Background()).Err)
			sources := m.plans["get_sources"].Sources
			require.Equal(t, test.remote, sources.RemoteURLWithCredentials)
			require.Equal(t, test.aliases, sources.InsteadOf)
		})
	}
}

func TestThePowerShellOfTheMachineGetsItsLanguage(t *testing.T) {
	for shell, want := range map[string]string{"bash": "#!/usr/bin/env bash\n", "pwsh": "#!/usr/bin/env pwsh\n& {", "powershell": "& {\n["} {
		m := newMachine()
		m.shell = shell
		require.NoError(t, newBuild(fullJob(), m, &trace{}).Run(context.Background()).Err)
		require.Contains(t, m.scripts["step_script"][:40], want)
		require.Contains(t, m.scripts["after_script"][:40], want)
	}
}

// bucket signs nothing: an object's name is its URL.
type bucket struct{}

func (bucket) Download(_ context.Context, name string, _ time.Duration) (plan.Remote, error) {
	return plan.Remote{URL: name}, nil
}

func (bucket) Upload(_ context.Context, name, key string, _ time.Duration) (plan.Remote, error) {
	return plan.Remote{URL: name, Headers: map[string][]string{"key": {key}}}, nil
}

func TestACacheIsLookedForUnderTheOtherFormOfItsKeyToo(t *testing.T) {
	const hash = "8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a" // of k
	plain, hashed := "/cache/grp/app/k/cache.zip", "/cache/grp/app/"+hash+"/cache.zip"
	const plainObject, hashedObject = "runner/abcdefghi/project/7/k", "runner/abcdefghi/project/7/82/" + hash
	for _, on := range []bool{false, true} {
		m := newMachine()
		job := with(fullJob(), "FF_HASH_CACHE_KEYS", fmt.Sprint(on))
		build := newBuildOf(job, m, &trace{}, func(o *common.BuildOptions) {
			o.RemoteCache, o.Runner.Cache = bucket{}, &config.Cache{}
		})
		require.NoError(t, build.Run(context.Background()).Err)
		restored, saved := m.plans["restore_cache"].RestoreCaches[0].Keys[0], m.plans["archive_cache"].SaveCaches[0].Key
		want := plan.CacheKey{
			Name: "k", File: plain, Remote: &plan.Remote{URL: plainObject},
			AlternateFile: hashed, AlternateRemote: &plan.Remote{URL: hashedObject},
		}
		if on {
			want.File, want.AlternateFile = hashed, plain
			want.Remote, want.AlternateRemote = want.AlternateRemote, want.Remote
		}
		require.Equal(t, want, restored)
		// It is saved under one name only.
		want.AlternateRemote = nil
		want.Remote.Headers = map[string][]string{"key": {"k"}}
		require.Equal(t, want, saved)
	}
}

func TestTheTransferMeterIsAPartOfThePlan(t *testing.T) {
	m := newMachine()
	require.NoError(t, newBuild(with(fullJob(), "TRANSFER_METER_FREQUENCY", "5s"), m, &trace{}).Run(context.Background()).Err)
	require.Equal(t, 5*time.Second, m.plans["upload_artifacts_on_success"].TransferMeter)
	require.Equal(t, 5*time.Second, m.plans["restore_cache"].TransferMeter)
}

func (bucket) UploadInParts(_ context.Context, name, _ string, _ time.Duration) (plan.Remote, func(context.Context) error, error) {
	return plan.Remote{URL: name, Parts: &plan.Parts{Size: 1}}, func(context.Context) error { return nil }, nil
}

// partsBucket counts the uploads in parts that are open.
type partsBucket struct {
	bucket
	begun, ended *int
}

func (b partsBucket) UploadInParts(ctx context.Context, name, key string, ttl time.Duration) (plan.Remote, func(context.Context) error, error) {
	*b.begun++
	remote, _, err := b.bucket.UploadInParts(ctx, name, key, ttl)
	return remote, func(ctx context.Context) error { *b.ended++; return ctx.Err() }, err
}

func TestACacheTooLargeForOneUploadIsSavedInParts(t *testing.T) {
	for name, c := range map[string]struct {
		codes []int
		runs  int
		ended bool
	}{
		"small":               {codes: []int{0}, runs: 1},
		"large":               {codes: []int{plan.ExitNeedsParts, 0}, runs: 2},
		"large, and it fails": {codes: []int{plan.ExitNeedsParts, 1}, runs: 2, ended: true},
		"never content":       {codes: []int{plan.ExitNeedsParts, plan.ExitNeedsParts}, runs: 2, ended: true},
		"another failure":     {codes: []int{1}, runs: 1, ended: true},
	} {
		t.Run(name, func(t *testing.T) {
			m, begun, ended, runs := newMachine(), 0, 0, 0
			m.on["archive_cache"] = func(_ context.Context, s common.Stage) error {
				require.Equal(t, runs > 0, s.Plan.SaveCaches[0].Key.Remote.Parts != nil)
				require.Equal(t, begun, ended+runs, "parts are kept while they are uploaded")
				code := c.codes[runs]
				runs++
				if code == 0 {
					return nil
				}
				return common.ExitError(code)
			}
			build := newBuildOf(fullJob(), m, &trace{}, func(o *common.BuildOptions) {
				o.RemoteCache, o.Runner.Cache = partsBucket{begun: &begun, ended: &ended}, &config.Cache{}
			})
			err := build.Run(context.Background()).Err
			require.Equal(t, c.ended, err != nil, "%v", err)
			require.Equal(t, c.runs, runs)
			require.Equal(t, c.runs-1, begun)
			require.Equal(t, begun, ended)
		})
	}
}
