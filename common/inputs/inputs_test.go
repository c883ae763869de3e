package inputs_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/inputs"
	"gitlab.com/gitlab-org/gitlab-runner/common/spec"
)

func input(key, kind, content string) spec.Input {
	return spec.Input{Key: key, Value: spec.InputValue{Type: kind, Content: json.RawMessage(content)}}
}

func all() []spec.Input {
	secret := input("secret", "string", `"hunter2"`)
	secret.Value.Sensitive = true
	return []spec.Input{
		input("env", "string", `"prod"`), input("count", "number", `3`), input("ratio", "number", `1.50`),
		input("on", "boolean", `true`), input("list", "array", `["a",2,{"k":"v"},["<x>"]]`),
		input("tree", "struct", `{"a":{"b":"deep"},"with space":"s","none":null}`),
		input("my-input", "string", `"dashed"`), input("tricky", "string", `"${{ job.inputs.env }} $HOME }}"`), secret,
	}
}

func TestTemplatesAreReplaced(t *testing.T) {
	for template, want := range map[string]string{
		"":                      "",
		"echo $ ${ ${x} {{ }}":  "echo $ ${ ${x} {{ }}",
		"${{ job.inputs.env }}": "prod",
		"${{job.inputs.env}}":   "prod",
		"a ${{ job.inputs.env }} b ${{\n\tjob . inputs [ 'env' ]\n}} c": "a prod b prod c",
		`${{ job.inputs["my-input"] }}`:                                 "dashed",
		`${{ job["inputs"]['env'] }}`:                                   "prod",
		"${{ str(job.inputs.count) }}":                                  "3",
		"${{ str(job.inputs.ratio) }}":                                  "1.50",
		"${{ str(job.inputs.on) }}":                                     "true",
		"${{ str(job.inputs.env) }}":                                    "prod",
		"${{ str(job.inputs.list) }}":                                   `["a",2,{"k":"v"},["<x>"]]`,
		"${{ job.inputs.list[0] }}":                                     "a",
		"${{ str(job.inputs.list[1]) }}":                                "2",
		"${{ job.inputs.list[2].k }}":                                   "v",
		"${{ job.inputs.list[3][0] }}":                                  "<x>",
		"${{ job.inputs.tree.a.b }}":                                    "deep",
		`${{ job.inputs.tree["with space"] }}`:                          "s",
		"${{ str(job.inputs.tree.a) }}":                                 `{"b":"deep"}`,
		"${{ str(job.inputs.tree.none) }}":                              "null",
		"${{ (job.inputs).env }}":                                       "prod",
		`${{ "literal }} \u00e4" }}`:                                    "literal }} ä",
		`${{ 'it\'s' }}`:                                                "it's",
		"${{ str(-1.5e3) }}":                                            "-1.5e3",
		"${{ str(true) }}${{ str(null) }}":                              "truenull",
		"${{ job.inputs.tricky }}":                                      "${{ job.inputs.env }} $HOME }}",
		"${{ job.inputs.list[job.inputs.count] }":                       "!",
	} {
		set, err := inputs.New(all())
		require.NoError(t, err)
		got, err := set.Expand(template)
		if want == "!" {
			require.Error(t, err, template)
			continue
		}
		require.NoError(t, err, template)
		require.Equal(t, want, got, template)
	}
}

func TestTemplatesThatCannotBeEvaluatedAreNamed(t *testing.T) {
	for template, want := range map[string]string{
		"${{ job.inputs.nope }}":                      `${{ job.inputs.nope }}: there is no input "nope"; the job has count, env,`,
		"${{ job.inputs.count }}":                     "${{ job.inputs.count }}: the value is a number, not a string: convert it with str()",
		"${{ job.inputs.on }}":                        "a boolean, not a string",
		"${{ job.inputs.list }}":                      "an array, not a string",
		"${{ job.inputs.tree }}":                      "a struct, not a string",
		"${{ job.inputs.tree.none }}":                 "null, not a string",
		"${{ job.inputs }}":                           "no value of an input",
		"${{ str(job.inputs) }}":                      "str() takes the value of an input, not all of them",
		"${{ str(job) }}":                             "str() takes the value of an input",
		"${{ job.inputs.secret }}":                    `the input "secret" is sensitive`,
		"${{ str(job.inputs.secret) }}":               `the input "secret" is sensitive`,
		"${{ secrets.X }}":                            `"secrets" is not known here: only job.inputs is`,
		"${{ job.env }}":                              "job.env is not known here",
		"${{ len(job.inputs.list) }}":                 "there is no function len(); there is str()",
		"${{ job.inputs.list[9] }}":                   "the index 9 is out of range: the array has 4 elements",
		"${{ job.inputs.list[-1] }}":                  "out of range",
		"${{ job.inputs.list[1.5] }}":                 "out of range",
		"${{ job.inputs.list[true] }}":                "a boolean cannot be an index",
		"${{ job.inputs.env[0] }}":                    "a string has no elements by number",
		"${{ job.inputs.env.x }}":                     `a string has no member "x"`,
		"${{ job.inputs.tree.q }}":                    `the struct has no member "q"`,
		"${{ job.inputs.env-input }}":                 `job.inputs["its-name"]`,
		"${{ job.inputs.env + 'x' }}":                 "there are no operators here",
		"${{ job.inputs.env":                          "the template ends where }} is expected",
		"${{":                                         "the template ends where a name is expected",
		"${{ }}":                                      "unexpected '}' where a name is expected",
		"${{ 'x }}":                                   "a string has no end",
		`${{ "\q" }}`:                                 "does not have the form of a JSON string",
		"${{ 1-2 }}":                                  `"1-2" is not a number`,
		"${{ ${{ job.inputs.env }} }}":                "unexpected '$' where a name is expected",
		"${{ str(job.inputs.env }}":                   "unexpected '}' where ) is expected",
		"${{ " + strings.Repeat("(", 99):              "nested more than 32 deep",
		"${{ '" + strings.Repeat("x", 5<<10) + "' }}": "longer than 4096 bytes",
	} {
		set, err := inputs.New(all())
		require.NoError(t, err)
		_, err = set.Expand("before " + template)
		require.ErrorContains(t, err, want, template)
		require.NotContains(t, err.Error(), "hunter2")
	}
}

func TestWhatTemplatesProduceIsBounded(t *testing.T) {
	set, err := inputs.New([]spec.Input{input("big", "string", `"`+strings.Repeat("x", 1<<20)+`"`)})
	require.NoError(t, err)
	_, err = set.Expand(strings.Repeat("${{ job.inputs.big }}", 9))
	require.ErrorContains(t, err, "produce more than")
}

func TestOnlyCertainFieldsHaveTemplates(t *testing.T) {
	const env = "${{ job.inputs.env }}"
	image := func() spec.Image {
		return spec.Image{
			Name: env, Alias: env, Command: []string{env}, Entrypoint: []string{env}, PullPolicies: []string{env},
			ExecutorOpts: spec.ExecutorOpts{Docker: spec.DockerOpts{Platform: env, User: env}},
			Variables:    []spec.Variable{{Key: "K", Value: env}},
		}
	}
	main := image()
	job := &spec.Job{
		Inputs:    all(),
		Steps:     []spec.Step{{Name: "script", Script: []string{env}}, {Name: "release", Script: []string{env}}, {Name: "after_script", Script: []string{env}}},
		Image:     &main,
		Services:  []spec.Image{image()},
		Artifacts: []spec.Artifact{{Name: env, Paths: []string{env}, Exclude: []string{env}, When: env, ExpireIn: env, Type: env, Format: env}},
		Cache:     []spec.Cache{{Key: env, Policy: env, Paths: []string{env}, When: env, FallbackKeys: []string{env}}},
		Variables: []spec.Variable{{Key: "K", Value: env}},
		Hooks:     []spec.Hook{{Name: "pre_get_sources_script", Script: []string{env}}},
	}
	before, err := json.Marshal(job)
	require.NoError(t, err)
	out, err := inputs.Apply(job)
	require.NoError(t, err)
	after, err := json.Marshal(job)
	require.NoError(t, err)
	require.JSONEq(t, string(before), string(after), "the payload itself was changed")

	wantImage := spec.Image{
		Name: "prod", Alias: env, Command: []string{"prod"}, Entrypoint: []string{"prod"}, PullPolicies: []string{"prod"},
		ExecutorOpts: spec.ExecutorOpts{Docker: spec.DockerOpts{Platform: "prod", User: "prod"}},
		Variables:    []spec.Variable{{Key: "K", Value: env}},
	}
	require.Equal(t, &wantImage, out.Image)
	require.Equal(t, []spec.Image{wantImage}, out.Services)
	require.Equal(t, []spec.Step{{Name: "script", Script: []string{"prod"}}, {Name: "release", Script: []string{env}}, {Name: "after_script", Script: []string{"prod"}}}, out.Steps)
	require.Equal(t, []spec.Artifact{{Name: "prod", Paths: []string{"prod"}, Exclude: []string{"prod"}, When: "prod", ExpireIn: "prod", Type: env, Format: env}}, out.Artifacts)
	require.Equal(t, []spec.Cache{{Key: "prod", Policy: "prod", Paths: []string{"prod"}, When: "prod", FallbackKeys: []string{"prod"}}}, out.Cache)
	require.Equal(t, job.Variables, out.Variables)
	require.Equal(t, job.Hooks, out.Hooks)
}

func TestAJobWithoutInputsIsLeftAlone(t *testing.T) {
	job := &spec.Job{Steps: []spec.Step{{Name: "script", Script: []string{"echo ${{ anything"}}}}
	out, err := inputs.Apply(job)
	require.NoError(t, err)
	require.Same(t, job, out)
}

func TestTheErrorNamesThePlace(t *testing.T) {
	_, err := inputs.Apply(&spec.Job{Inputs: all(), Steps: []spec.Step{{Name: "script", Script: []string{"ok", "${{ job.inputs.count }}"}}}})
	require.EqualError(t, err, "script[1]: ${{ job.inputs.count }}: the value is a number, not a string: convert it with str()")
	_, err = inputs.Apply(&spec.Job{Inputs: []spec.Input{input("x", "string", `"`)}})
	require.ErrorContains(t, err, `reading the input "x"`)
}

// No text makes it panic, a text without templates stays, and what is sensitive never comes out.
func FuzzExpand(f *testing.F) {
	for _, seed := range []string{
		"${{ job.inputs.env }}", "${{ str(job.inputs.list[2].k) }}", `${{ job["inputs"]['secret'] }}`, "${{ ((1", "$", "${{ \"\\", "${{ str(job.inputs) }}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		set, err := inputs.New(all())
		require.NoError(t, err)
		out, err := set.Expand(text)
		if !strings.Contains(text, "${{") && (err != nil || out != text) {
			t.Fatalf("%q became %q, %v", text, out, err)
		}
		if !strings.Contains(text, "hunter2") && strings.Contains(out, "hunter2") {
			t.Fatalf("%q gave %q", text, out)
		}
	})
}

func TestFailuresHaveTheKindThatMetricsName(t *testing.T) {
	for template, want := range map[string]inputs.FailureKind{
		"${{ job.inputs.":                 inputs.FailureParse,
		"${{ job.inputs.env ":             inputs.FailureParse,
		"${{ job.inputs.nothing }}":       inputs.FailureEvaluation,
		"${{ job.inputs.count }}":         inputs.FailureEvaluation,
		"${{ str(job.inputs) }}":          inputs.FailureEvaluation,
		"${{ job.inputs.secret }}":        inputs.FailureSensitive,
		"fine ${{ job.inputs['secret']}}": inputs.FailureSensitive,
	} {
		_, err := inputs.Apply(&spec.Job{Inputs: all(), Steps: []spec.Step{{Name: spec.StepScript, Script: []string{template}}}})
		require.Error(t, err, template)
		require.Equal(t, want, inputs.KindOf(err), "%s: %v", template, err)
	}
}
