package pipeline_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/pipeline"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
	"gitlab.com/gitlab-org/gitlab-runner/common/variables"
)

var update = flag.Bool("update", false, "write the golden files")

// project are the files of a project, by path.
type project map[string]string

func (p project) options() pipeline.Options {
	return pipeline.Options{
		File: pipeline.DefaultFile,
		Read: func(name string) ([]byte, error) {
			if text, ok := p[name]; ok {
				return []byte(text), nil
			}
			return nil, fs.ErrNotExist
		},
		Exists: func(pattern string) (bool, error) {
			for name := range p {
				if found, err := doublestar.Match(pattern, name); found || err != nil {
					return found, err
				}
			}
			return false, nil
		},
		Predefined: variables.List{
			{Key: "CI_COMMIT_BRANCH", Value: "main"}, {Key: "CI_COMMIT_REF_NAME", Value: "main"}, {Key: "CI_PIPELINE_SOURCE", Value: "push"},
		},
		Ref: "main",
	}
}

func compile(text string) (*pipeline.Pipeline, error) {
	return pipeline.Compile(project{pipeline.DefaultFile: text}.options())
}

// shown is a job as the golden files have it.
type shown struct {
	Name         string
	Base         string `json:",omitempty"`
	Stage        string
	When         pipeline.When
	AllowFailure bool            `json:",omitempty"`
	AllowCodes   []int           `json:",omitempty"`
	Retry        string          `json:",omitempty"`
	Timeout      string          `json:",omitempty"`
	Staged       bool            `json:",omitempty"`
	Needs        []string        `json:",omitempty"`
	Unsupported  []string        `json:",omitempty"`
	Variables    []string        `json:",omitempty"`
	Image        *spec.Image     `json:",omitempty"`
	Services     []spec.Image    `json:",omitempty"`
	Steps        []spec.Step     `json:",omitempty"`
	Hooks        []spec.Hook     `json:",omitempty"`
	Artifacts    []spec.Artifact `json:",omitempty"`
	Cache        []spec.Cache    `json:",omitempty"`
}

func show(j *pipeline.Job) shown {
	out := shown{
		Name: j.Name, Stage: j.Stage, When: j.When, AllowFailure: j.AllowFailure, AllowCodes: j.AllowCodes,
		Staged: j.Staged, Unsupported: j.Unsupported, Image: j.Image, Services: j.Services, Steps: j.Steps, Hooks: j.Hooks,
		Artifacts: j.Artifacts, Cache: j.Cache,
	}
	if j.Base != j.Name {
		out.Base = j.Base
	}
	if j.Retry > 0 {
		out.Retry = fmt.Sprint(j.Retry, j.RetryWhen, j.RetryCodes)
	}
	if j.Timeout > 0 {
		out.Timeout = j.Timeout.String()
	}
	for _, need := range j.Needs {
		text := need.Job.Name
		if !need.Order {
			text += " (no order)"
		}
		if !need.Artifacts {
			text += " (no artifacts)"
		}
		out.Needs = append(out.Needs, text)
	}
	for _, v := range j.Variables {
		text := v.Key + "=" + v.Value
		if v.Raw {
			text += " (raw)"
		}
		out.Variables = append(out.Variables, text)
	}
	return out
}

func TestPipelinesAreWhatTheirFilesSay(t *testing.T) {
	for _, name := range []string{"graph", "rules", "inheritance", "content"} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join("testdata", name)
			files := project{"go.sum": "content", "main.go": "package main"}
			require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
				if err != nil || entry.IsDir() {
					return err
				}
				data, err := os.ReadFile(path)
				relative, _ := filepath.Rel(dir, path)
				files[filepath.ToSlash(relative)] = string(data)
				return err
			}))
			p, err := pipeline.Compile(files.options())
			require.NoError(t, err)
			view := struct {
				Name     string `json:",omitempty"`
				Stages   []string
				Excluded []string `json:",omitempty"`
				Warnings []string `json:",omitempty"`
				Jobs     []shown
			}{Name: p.Name, Stages: p.Stages, Excluded: p.Excluded, Warnings: p.Warnings}
			for _, job := range p.Jobs {
				view.Jobs = append(view.Jobs, show(job))
			}
			got, err := json.MarshalIndent(view, "", "  ")
			require.NoError(t, err)
			golden := filepath.Join("testdata", name+".golden.json")
			if *update {
				require.NoError(t, os.WriteFile(golden, append(got, '\n'), 0o644))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), string(got)+"\n")
		})
	}
}

func TestMistakesAreNamed(t *testing.T) {
	deep := "x: {script: a}\n"
	for i := range 20 {
		deep += fmt.Sprintf("j%d: {extends: j%d, script: a}\n", i, i+1)
	}
	for text, message := range map[string]string{
		"":                               ".gitlab-ci.yml has no jobs",
		"a: [":                           ".gitlab-ci.yml: line 1:",
		"[a]":                            "not a mapping of keywords and jobs",
		"a: {script: x}\na: {script: y}": `line 2: the key "a" is there twice`,
		"a: text":                        `a: is neither a keyword nor a job`,
		"a: {scripts: x}":                "a: scripts is not a keyword of jobs",
		"a: {stage: x, script: y}":       `a: stage: there is no stage "x"`,
		"a: {image: x}":                  "a: script is missing",
		"a: {script: []}":                "a: script is empty",
		"a: {script: {b: c}}":            "a: script: has to be a text or a list of texts",
		"a: {script: x, when: later}":    `a: when: "later" is not known`,
		"a: {script: x, needs: [b]}":     `a: needs: there is no job "b"`,
		"a: {script: x, needs: [a]}":     "a: needs: the job needs itself",
		"a: {script: x, needs: [b]}\nb: {script: x, needs: [a]}":   "needs go in a circle",
		"a: {script: x, stage: build, needs: [b]}\nb: {script: x}": `a: needs: "b" is of a later stage`,
		"a: {script: x, dependencies: [b]}\nb: {script: x}":        `a: dependencies: "b" is not of an earlier stage`,
		"a: {script: x, needs: [b]}\nb: {script: x, when: never}":  `a: needs: the rules of "b" keep it out`,
		"a: {script: x, extends: .b}":                              `a: extends: there is no job ".b"`,
		"a: {script: x, extends: b}\nb: {extends: a}":              "extends goes in a circle: a → b → a",
		deep + "j20: {extends: x}":                                 "extends is more than 11 deep",
		"a: {script: [!reference [b, script]]}":                    `a: script: !reference [b, script]: there is no "b"`,
		"a: {script: [!reference [a, script]]}":                    "goes in a circle",
		"a: {script: x, rules: [{if: '$A ==='}]}":                  "a: rules: rule 1: if:",
		"a: {script: x, rules: [{iff: $A}]}":                       "rule 1: iff is not known",
		"a: {script: x, rules: [{if: $A}], only: [main]}":          "rules cannot be used with only and except",
		"a: {script: x, parallel: 0}":                              "a: parallel: has to be between 1 and 200",
		"a: {script: x, parallel: {matrix: []}}":                   "a: parallel: matrix: is empty",
		"a: {script: x, retry: 3}":                                 "a: retry: max: has to be between 0 and 2",
		"a: {script: x, timeout: soon}":                            `a: timeout: "soon" is not a time`,
		"a: {script: x, allow_failure: maybe}":                     "a: allow_failure: has to be true or false",
		"a: {script: x, artifacts: {path: y}}":                     "a: artifacts: path: is not known",
		"a: {script: x, cache: {paths: {}}}":                       "a: cache: paths: has to be",
		"a: {script: x, services: [{alias: y}]}":                   "a: services: service 1: name is missing",
		"a: {script: x, variables: [b]}":                           "a: variables: has to be a mapping",
		"include: {remote: 'https://x'}\na: {script: x}":           "include:remote is not supported",
		"include: 'https://x/y.yml'\na: {script: x}":               "include:remote is not supported",
		"include: {template: x}":                                   "include:template is not supported",
		"include: ../x.yml":                                        "leaves the project",
		"include: 'ci/*.yml'":                                      "patterns are not supported",
		"include: .gitlab-ci.yml":                                  "includes itself",
		"include: missing.yml":                                     "reading missing.yml",
		"spec: {inputs: {}}\n---\na: {script: x}":                  "more than one document",
		"default: {script: x}\na: {script: x}":                     "default: script cannot stand here",
		"image: a\ndefault: {image: b}\nx: {script: x}":            "both in default and at the top",
		"workflow: {rules: [{if: $NO}]}\na: {script: x}":           "its rules say that there is no pipeline",
		"workflow: {rules: [{changes: [x]}]}\na: {script: x}":      "rules:changes is not supported",
	} {
		_, err := compile(text)
		require.ErrorContains(t, err, message, "%s", text)
	}
}

func TestAnchorsCannotBlowTheFileUp(t *testing.T) {
	text := "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 9; i++ {
		text += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	_, err := compile(text)
	require.ErrorContains(t, err, "more than 100000 values")

	text = "r0: [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 9; i++ {
		text += fmt.Sprintf("r%d: [%s]\n", i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("!reference [r%d], ", i-1), 10), ", "))
	}
	_, err = compile(text)
	require.ErrorContains(t, err, "more than 100000 values")
}

func TestOverridesWinOverEverything(t *testing.T) {
	o := project{pipeline.DefaultFile: "variables: {A: file}\na: {variables: {A: job}, rules: [{if: $A == 'mine'}], script: x}"}.options()
	p, err := pipeline.Compile(o)
	require.NoError(t, err)
	require.Empty(t, p.Jobs)
	o.Overrides = variables.List{{Key: "A", Value: "mine"}}
	p, err = pipeline.Compile(o)
	require.NoError(t, err)
	require.Equal(t, "mine", p.Jobs[0].Variables.Get("A"))
}

func TestTimeouts(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"3600": time.Hour, "1h": time.Hour, "1h 30m": 90 * time.Minute, "1 hour and 5 seconds": time.Hour + 5*time.Second,
		"10m30s": 10*time.Minute + 30*time.Second, "2 days, 1 hr": 49 * time.Hour, "1 week": 7 * 24 * time.Hour,
	} {
		p, err := compile("a: {script: x, timeout: " + text + "}")
		if strings.Contains(text, ",") {
			p, err = compile("a: {script: x, timeout: '" + text + "'}")
		}
		require.NoError(t, err, text)
		require.Equal(t, want, p.Jobs[0].Timeout, text)
	}
}

// TestNeedsAreAlwaysOfTheSameOrAnEarlierStage makes pipelines of jobs that need earlier ones.
func TestNeedsAreAlwaysOfTheSameOrAnEarlierStage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.IntRange(1, 8).Draw(t, "jobs")
		text := "stages: [s0, s1, s2]\n"
		stages := make([]int, count)
		parts := 0
		for i := range count {
			stages[i] = rapid.IntRange(0, 2).Draw(t, "stage")
			parallel := rapid.IntRange(1, 3).Draw(t, "parallel")
			parts += parallel
			text += fmt.Sprintf("j%d: {stage: s%d, script: x, parallel: %d", i, stages[i], parallel)
			var needs []string
			for other := range i {
				if stages[other] <= stages[i] && rapid.Bool().Draw(t, "needs") {
					needs = append(needs, fmt.Sprintf("j%d", other))
				}
			}
			if rapid.Bool().Draw(t, "staged") {
				text += ", needs: [" + strings.Join(needs, ", ") + "]"
			}
			text += "}\n"
		}
		p, err := compile(text)
		require.NoError(t, err, text)
		require.Len(t, p.Jobs, parts)
		names := map[string]bool{}
		for _, job := range p.Jobs {
			require.False(t, names[job.Name], job.Name)
			names[job.Name] = true
			for _, need := range job.Needs {
				own, other := slices.Index(p.Stages, job.Stage), slices.Index(p.Stages, need.Job.Stage)
				require.LessOrEqual(t, other, own)
				require.True(t, need.Order != job.Staged)
			}
		}
	})
}

func FuzzFilesAreReadOrRefused(f *testing.F) {
	for _, name := range []string{"graph", "rules", "inheritance", "content"} {
		data, err := os.ReadFile(filepath.Join("testdata", name, pipeline.DefaultFile))
		require.NoError(f, err)
		f.Add(string(data))
	}
	f.Add("a: &a {script: [*a]}")
	f.Add("x: {<<: [{a: b}, *c]}")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := compile(text)
		require.True(t, (p == nil) == (err != nil))
		if p == nil {
			return
		}
		for _, job := range p.Jobs {
			require.True(t, slices.Contains(p.Stages, job.Stage))
		}
	})
}
