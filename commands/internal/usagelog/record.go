package usagelog

import "time"

// Record is one line of the log. Its members are upstream's.
type Record struct {
	UUID      string            `json:"uuid"`
	Timestamp time.Time         `json:"timestamp"`
	Runner    Runner            `json:"runner"`
	Job       Job               `json:"job"`
	Labels    map[string]string `json:"labels"`
}

// Runner is the entry that ran the job. ID is its short token.
type Runner struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	SystemID string `json:"system_id"`
	Executor string `json:"executor"`
}

// Job is what ran, for whom and for how long. IDs are 0 where GitLab does not tell them.
type Job struct {
	ID              int64     `json:"id"`
	PipelineID      int64     `json:"pipeline_id"`
	Ref             string    `json:"ref"`
	URL             string    `json:"url"`
	DurationSeconds float64   `json:"duration_seconds"`
	Status          string    `json:"status"`
	FailureReason   string    `json:"failure_reason"`
	StartedAt       time.Time `json:"started_at"`
	FinishedAt      time.Time `json:"finished_at"`
	Project         Project   `json:"project"`
	Namespace       Numbered  `json:"namespace"`
	RootNamespace   Numbered  `json:"root_namespace"`
	Organization    Numbered  `json:"organization"`
	Instance        Instance  `json:"instance"`
	User            Numbered  `json:"user"`
	ScopedUser      Numbered  `json:"scoped_user"`
}

// Project is where the job comes from.
type Project struct {
	ID       int64  `json:"id"`
	Name     string `json:"name"`
	FullPath string `json:"full_path"`
}

// Numbered is something of which only the id is told.
type Numbered struct {
	ID int64 `json:"id"`
}

// Instance is the GitLab.
type Instance struct {
	ID       string `json:"id"`
	UniqueID string `json:"unique_id"`
}
