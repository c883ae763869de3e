package commands

import (
	"sync/atomic"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/usagelog"
	"gitlab.com/gitlab-org/gitlab-runner/commands/manager"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
)

// usage writes what jobs used, as the configuration in force wants it.
type usage struct {
	log   logrus.FieldLogger
	files usagelog.Log
	// labels are the global ones.
	labels atomic.Pointer[map[string]string]
}

// follow is told of each configuration.
func (u *usage) follow(file *config.File) {
	u.labels.Store(&file.Labels)
	var options *usagelog.Options
	if r := file.Usage(); r != nil {
		options = &usagelog.Options{Dir: r.LogDir, MaxAge: r.MaxRotationAge, MaxFiles: r.MaxBackupFiles, Labels: r.Labels}
	}
	changed, err := u.files.Use(options)
	if err != nil {
		u.log.WithError(err).Error("The former file of usage may not be complete")
	}
	switch {
	case !changed:
	case options == nil:
		u.log.Info("Usage logger disabled")
	default:
		u.log.WithField("log_dir", options.Dir).Info("Usage logger enabled")
	}
}

// record is told of each job.
func (u *usage) record(a manager.Account) {
	info := a.Job.Info
	err := u.files.Store(usagelog.Record{
		Runner: usagelog.Runner{ID: a.Runner.ShortToken(), Name: a.Runner.Name, SystemID: a.Runner.SystemID, Executor: a.Runner.Executor},
		Job: usagelog.Job{
			ID: a.Job.ID, PipelineID: info.PipelineID, Ref: a.Job.Git.Ref, URL: a.URL,
			DurationSeconds: a.Result.Duration.Seconds(), Status: string(a.Result.State), FailureReason: string(a.Result.Reason),
			StartedAt: a.Started.UTC(), FinishedAt: a.Finished.UTC(),
			Project:       usagelog.Project{ID: info.ProjectID, Name: info.ProjectName, FullPath: info.ProjectFullPath},
			Namespace:     usagelog.Numbered{ID: info.NamespaceID},
			RootNamespace: usagelog.Numbered{ID: info.RootNamespaceID},
			Organization:  usagelog.Numbered{ID: info.OrganizationID},
			Instance:      usagelog.Instance{ID: info.InstanceID, UniqueID: info.InstanceUUID},
			User:          usagelog.Numbered{ID: info.UserID},
			ScopedUser:    usagelog.Numbered{ID: info.ScopedUserID},
		},
		Labels: config.MergeLabels(*u.labels.Load(), a.Runner.Labels),
	})
	if err != nil {
		u.log.WithError(err).WithField("job", a.Job.ID).Error("Failed to log the usage of a job")
	}
}

// close ends the file.
func (u *usage) close() {
	if err := u.files.Close(); err != nil {
		u.log.WithError(err).Error("The last file of usage may not be complete")
	}
}
