package docker

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/version"
)

func TestImagesArePrefetchedInOrderAndUnderTheEntrysPolicy(t *testing.T) {
	for name, c := range map[string]struct {
		docker  config.Docker
		list    []string
		used    []string
		recent  int
		present []string
		want    []string
	}{
		"the default image, then the list":     {docker: config.Docker{Image: "ruby:3"}, list: []string{"node:22", "go:1"}, want: []string{"ruby:3", "node:22", "go:1"}},
		"none twice":                           {docker: config.Docker{Image: "ruby:3"}, list: []string{"go:1", "ruby:3"}, want: []string{"ruby:3", "go:1"}},
		"no names that depend on a job":        {docker: config.Docker{Image: "$CI_REGISTRY_IMAGE"}, list: []string{"${X}/y"}},
		"what is there stays, if so asked":     {docker: config.Docker{Image: "ruby:3", PullPolicy: []string{"if-not-present"}}, list: []string{"go:1"}, present: []string{"ruby:3"}, want: []string{"go:1"}},
		"nothing with the policy never":        {docker: config.Docker{Image: "ruby:3", PullPolicy: []string{"never"}}},
		"what recent jobs used":                {docker: config.Docker{Image: "ruby:3"}, used: []string{"go:1", "ruby:3", "node:22"}, recent: 3, want: []string{"ruby:3", "go:1", "node:22"}},
		"nothing learned unless asked":         {docker: config.Docker{Image: "ruby:3"}, used: []string{"go:1"}, want: []string{"ruby:3"}},
		"an entry's own helper image is first": {docker: config.Docker{Image: "ruby:3", HelperImage: "my/helper"}, want: []string{"my/helper:latest", "ruby:3"}},
	} {
		t.Run(name, func(t *testing.T) {
			engine := has(newFakeEngine(shell), append(c.present, helperName)...)
			log := logrus.New()
			log.SetOutput(io.Discard)
			p := NewProvider(Options{Version: version.Info{Version: "1.2.3"}, Log: log, HomeDir: t.TempDir()})
			p.open = func(_, _ context.Context, c *connector) (*link, error) {
				c.machine.learn(docker.Server{OS: "linux", Arch: "amd64", APIVersion: "1.51"}, direct)
				return &link{engine: engine, server: docker.Server{OS: "linux", Arch: "amd64", APIVersion: "1.51"}}, nil
			}
			runner := &config.Runner{Docker: &c.docker, Autoscaler: &config.Autoscaler{PrefetchImages: c.list, PrefetchRecentImages: c.recent}}
			for range recentUses {
				p.recent.note(runner, time.Now().Add(-time.Minute), c.used...)
			}
			// Whether the fake has an image after its pull is of no interest here.
			_ = p.Warm(t.Context(), runner, nil)
			var pulled []string
			for _, call := range engine.log() {
				if image, ok := strings.CutPrefix(call, "pull "); ok {
					pulled = append(pulled, image)
				}
			}
			require.Equal(t, c.want, slices.Compact(pulled))
		})
	}
}
