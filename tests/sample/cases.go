package sample

import (
	"regexp"

	"gitlab.com/gitlab-org/gitlab-runner/tests/coordinator"
)

// The images that the jobs run in; scripts/images makes them.
const (
	BusyboxImage    = "busybox:latest"
	DebianImage     = "debian-job:local"
	EntrypointImage = "entrypoint-job:local"
)

// maskedValue must never show up in a log.
const maskedValue = "s3cr3t-Sample-Value-0123"

// Case is one job of the pipeline with what must come of it.
type Case struct {
	Spec      coordinator.JobSpec // Dependencies are named by DependsOn
	DependsOn []string
	Want      Outcome
}

// Outcome is what must come of a job.
type Outcome struct {
	State         coordinator.State
	FailureReason string
	ExitCode      int
	Log           []string            // texts that the log must contain, as a reader sees it
	LogForms      []*regexp.Regexp    // patterns that the log must match
	NotInLog      []string            // texts that the log must not contain, neither raw nor as a reader sees it
	Artifacts     map[string][]string // by artifact type, files that the uploaded archive must contain
}

// Stages are the stages of the pipeline, in order.
func Stages() []string { return []string{"build", "test"} }

// Cases is the pipeline: every call gives a fresh table, which may be changed. pullPolicy becomes the pull policy that
// the jobs ask for; without one the runner's own applies.
func Cases(pullPolicy ...string) []Case {
	image := func(name string) coordinator.Image {
		return coordinator.Image{Name: name, PullPolicy: pullPolicy}
	}
	cache := []coordinator.CacheSpec{{Key: "sample-$CI_PIPELINE_ID", Paths: []string{".cache/"}}}
	greeting := []coordinator.Variable{{Key: "GREETING", Value: "Good day"}}
	const succeeded = "Job succeeded"

	return []Case{
		{
			Spec: coordinator.JobSpec{
				Name: "build", Stage: "build", Image: image(BusyboxImage), Variables: greeting,
				BeforeScript: []string{`echo "before_script of $CI_PROJECT_NAME at $CI_COMMIT_REF_NAME"`},
				Script:       []string{"./build.sh"},
				Artifacts: []coordinator.ArtifactSpec{{
					Name: "greeter-$CI_COMMIT_REF_SLUG", Paths: []string{"dist/"}, ExpireIn: "1 hour", Type: "archive", Format: "zip", When: "on_success",
				}},
			},
			Want: Outcome{
				State:     coordinator.StateSuccess,
				Log:       []string{"before_script of greeter at main", "$ ./build.sh", "built greeter 0.2.0", succeeded},
				Artifacts: map[string][]string{"archive": {"dist/greeter", "dist/greeter.sha256"}},
			},
		},
		{
			Spec: coordinator.JobSpec{
				Name: "fill cache", Stage: "build", Image: image(BusyboxImage), Script: []string{"./warm.sh"}, Cache: cache,
			},
			Want: Outcome{State: coordinator.StateSuccess, Log: []string{"cache: miss", succeeded}},
		},
		{
			Spec: coordinator.JobSpec{
				Name: "use artifact", Stage: "test", Image: image(BusyboxImage), Variables: greeting,
				Script: []string{"(cd dist && sha256sum -c greeter.sha256)", "./test.sh dist/greeter"},
			},
			DependsOn: []string{"build"},
			Want: Outcome{
				State: coordinator.StateSuccess,
				Log: []string{
					"Downloading artifacts for build", "greeter: OK", "ok 3 - tells its version", "3 of 3 tests passed", succeeded,
				},
			},
		},
		{
			Spec: coordinator.JobSpec{
				Name: "use cache", Stage: "test", Image: image(BusyboxImage), Script: []string{"./warm.sh"}, Cache: cache,
			},
			// The cache of another instance is out of reach unless it is a distributed one.
			Want: Outcome{State: coordinator.StateSuccess, LogForms: []*regexp.Regexp{cacheLine}, Log: []string{succeeded}},
		},
		{
			Spec: coordinator.JobSpec{
				Name: "before and after", Stage: "test", Image: image(DebianImage),
				Variables: []coordinator.Variable{{Key: "SETTINGS", Value: "colour: \"blue\"\n", File: true}},
				BeforeScript: []string{
					`words=(one two three)`,
					`echo "bash is ${BASH_VERSION:+there}, ${#words[@]} words"`,
				},
				Script: []string{
					"kept=yes\necho \"several lines,\" \\\n  \"words: ${words[2]}\"",
					`echo "settings: $(cat "$SETTINGS")"`,
				},
				AfterScript: []string{`echo "after_script: job is $CI_JOB_STATUS, kept is ${kept:-lost}"`},
			},
			Want: Outcome{
				State: coordinator.StateSuccess,
				Log: []string{
					"bash is there, 3 words", "several lines, words: three", `settings: colour: "blue"`,
					"after_script: job is success, kept is lost", succeeded,
				},
			},
		},
		{
			Spec: coordinator.JobSpec{
				Name: "masked", Stage: "test", Image: image(BusyboxImage),
				Variables: []coordinator.Variable{{Key: "DEPLOY_TOKEN", Value: maskedValue, Masked: true}},
				Script: []string{
					`echo "deploy token is $DEPLOY_TOKEN."`,
					`printf 'in two writes %s' "${DEPLOY_TOKEN%Value-0123}"; sleep 1; printf '%s.\n' "${DEPLOY_TOKEN#s3cr3t-Sample-}"`,
					`echo "job token is $CI_JOB_TOKEN."`,
				},
			},
			Want: Outcome{
				State:    coordinator.StateSuccess,
				Log:      []string{"deploy token is [MASKED].", "in two writes [MASKED].", "job token is [MASKED].", succeeded},
				NotInLog: []string{maskedValue},
			},
		},
		{
			Spec: coordinator.JobSpec{
				Name: "exit 3", Stage: "test", Image: image(BusyboxImage), AllowFailure: true,
				Script:      []string{"mkdir -p report", "echo bad >report/result", "exit 3", `echo "never reached"`},
				AfterScript: []string{`echo "after_script: job is $CI_JOB_STATUS"`},
				Artifacts: []coordinator.ArtifactSpec{
					{Name: "report", Paths: []string{"report/"}, Type: "archive", Format: "zip", When: "on_failure"},
				},
			},
			Want: Outcome{
				State: coordinator.StateFailed, FailureReason: "script_failure", ExitCode: 3,
				Log:       []string{"after_script: job is failed", "ERROR: Job failed: exit code 3"},
				NotInLog:  []string{"never reached", succeeded},
				Artifacts: map[string][]string{"archive": {"report/result"}},
			},
		},
		{
			Spec: coordinator.JobSpec{
				Name: "entry point", Stage: "test", Image: image(EntrypointImage),
				Script: []string{`echo "script below entry point: ${FROM_ENTRYPOINT:-no}"`},
			},
			Want: Outcome{
				State: coordinator.StateSuccess,
				Log:   []string{"entrypoint: to standard output", "script below entry point: yes", succeeded},
			},
		},
		{
			Spec: coordinator.JobSpec{
				Name: "service", Stage: "test", Image: image(BusyboxImage),
				Services: []coordinator.Service{{
					Image: image(BusyboxImage), Alias: "greetings",
					Command: []string{"sh", "-c", "mkdir -p /www && echo Good day from the service >/www/index.html && exec httpd -f -p 8080 -h /www"},
				}},
				Script: []string{"for try in 1 2 3 4 5 6 7 8 9 10; do wget -q -O - http://greetings:8080/ && break; sleep 1; done"},
			},
			Want: Outcome{State: coordinator.StateSuccess, Log: []string{"Good day from the service", succeeded}},
		},
	}
}

var cacheLine = regexp.MustCompile(`(?m)^cache: (hit, filled by job \d+|miss)$`)
