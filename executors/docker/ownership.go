package docker

import (
	"context"
	"fmt"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/common/featureflags"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/blueprint"
	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/images"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

// giveOwnership gives the job's directories to the user of the build container, which runs and waits for
// its script. That is wanted where the helper keeps its umask. A failure is only noted.
func (e *executor) giveOwnership(ctx context.Context) {
	if e.server.OS == "windows" || !e.job.Flags.IsOn(featureflags.DisableUmask) || e.build.owned {
		return
	}
	e.build.owned = true
	if images.IsRoot(e.buildUser()) {
		return
	}
	owner, err := e.ownerIn(ctx, e.build.id)
	if err == nil {
		err = e.changeOwner(ctx, owner)
	}
	if err != nil && ctx.Err() == nil {
		e.log.WithError(err).Warning("changing the ownership of the job's directories failed")
	}
}

// buildUser is the user of the build container, once its image is known.
func (e *executor) buildUser() string {
	if user := e.plan.Build.Config.User; user != "" {
		return user
	}
	return e.build.image.User
}

// ownerIn returns uid:gid of a container's user.
func (e *executor) ownerIn(ctx context.Context, container string) (string, error) {
	var ids []string
	for _, flag := range []string{"-u", "-g"} {
		output, err := e.command(ctx, container, docker.Command{Args: []string{"id", flag}})
		if err != nil {
			return "", fmt.Errorf("running id %s in the build container: %w", flag, err)
		}
		if output == "" || strings.Trim(output, "0123456789") != "" {
			return "", fmt.Errorf("running id %s in the build container: %q is not a number", flag, output)
		}
		ids = append(ids, output)
	}
	return strings.Join(ids, ":"), nil
}

func (e *executor) changeOwner(ctx context.Context, owner string) error {
	helper, err := e.startHelper(ctx, e.job.Log)
	if err != nil {
		return err
	}
	for _, dir := range []string{e.job.ProjectDir, e.job.TmpDir} {
		e.job.Log.Print("Changing ownership of files at %q to %s", dir, owner)
		// The temporary directory need not be there.
		script := `[ ! -e "$2" ] || exec chown -RP -- "$1" "$2"`
		args := []string{"sh", "-c", script, blueprint.HelperProgram, owner, dir}
		if output, err := e.command(ctx, helper, docker.Command{Args: args}); err != nil {
			return fmt.Errorf("chown of %s: %w: %s", dir, err, output)
		}
	}
	return nil
}
