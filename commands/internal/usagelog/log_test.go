package usagelog_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/usagelog"
)

func options(dir string) *usagelog.Options {
	return &usagelog.Options{Dir: dir, MaxAge: time.Hour, MaxFiles: 2}
}

func record(job int64) usagelog.Record {
	return usagelog.Record{Job: usagelog.Job{ID: job}, Labels: map[string]string{"a": "entry", "b": "entry"}}
}

// files are the names in a folder with the ids of the jobs in each.
func files(t *testing.T, dir string) (names []string, jobs [][]int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, entry := range entries {
		names = append(names, entry.Name())
		file, err := os.Open(filepath.Join(dir, entry.Name()))
		require.NoError(t, err)
		var ids []int64
		for lines := bufio.NewScanner(file); lines.Scan(); {
			var r usagelog.Record
			require.NoError(t, json.Unmarshal(lines.Bytes(), &r), lines.Text())
			ids = append(ids, r.Job.ID)
		}
		require.NoError(t, file.Close())
		jobs = append(jobs, ids)
	}
	return names, jobs
}

func TestALineHasTheMembersThatUpstreamWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "of", "usage")
		var log usagelog.Log
		o := options(dir)
		o.Labels = map[string]string{"b": "log", "c": "log"}
		changed, err := log.Use(o)
		require.NoError(t, err)
		require.True(t, changed)
		require.NoDirExists(t, dir, "nothing is made before there is something to write")
		require.NoError(t, log.Store(record(7)))
		require.NoError(t, log.Close())

		// The clock of a test begins so.
		text, err := os.ReadFile(filepath.Join(dir, "usage-log-2000-01-01-00-00-00.000.json"))
		require.NoError(t, err)
		require.Equal(t, byte('\n'), text[len(text)-1])
		var line map[string]any
		require.NoError(t, json.Unmarshal(text, &line))
		require.Len(t, line["uuid"], 36)
		delete(line, "uuid")
		number := map[string]any{"id": 0.0}
		require.Equal(t, map[string]any{
			"timestamp": "2000-01-01T00:00:00Z",
			"runner":    map[string]any{"id": "", "name": "", "system_id": "", "executor": ""},
			"job": map[string]any{
				"id": 7.0, "pipeline_id": 0.0, "ref": "", "url": "", "duration_seconds": 0.0, "status": "", "failure_reason": "",
				"started_at": "0001-01-01T00:00:00Z", "finished_at": "0001-01-01T00:00:00Z",
				"project":   map[string]any{"id": 0.0, "name": "", "full_path": ""},
				"namespace": number, "root_namespace": number, "organization": number,
				"instance": map[string]any{"id": "", "unique_id": ""}, "user": number, "scoped_user": number,
			},
			"labels": map[string]any{"a": "entry", "b": "log", "c": "log"},
		}, line)
	})
}

func TestFilesBeginAnewAndTheOldestGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		for _, foreign := range []string{"usage-log-mine.json", "other-2000-01-01-00-00-00.000.json", "usage-log-1999-01-01-00-00-00.000.txt"} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, foreign), nil, 0o600))
		}
		var log usagelog.Log
		_, err := log.Use(options(dir))
		require.NoError(t, err)
		for job := range int64(7) {
			require.NoError(t, log.Store(record(job)))
			time.Sleep(30 * time.Minute)
		}
		require.NoError(t, log.Close())
		names, jobs := files(t, dir)
		require.Equal(t, []string{
			"other-2000-01-01-00-00-00.000.json", "usage-log-1999-01-01-00-00-00.000.txt",
			"usage-log-2000-01-01-02-00-00.000.json", "usage-log-2000-01-01-03-00-00.000.json", "usage-log-mine.json",
		}, names)
		require.Equal(t, [][]int64{nil, nil, {4, 5}, {6}, nil}, jobs)
	})
}

func TestALogFollowsItsOptions(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	var log usagelog.Log
	require.NoError(t, log.Store(record(1)), "it is off")
	for _, step := range []struct {
		options *usagelog.Options
		changes bool
	}{
		{nil, false}, {options(first), true}, {options(first), false}, {options(second), true}, {nil, true}, {nil, false},
	} {
		changed, err := log.Use(step.options)
		require.NoError(t, err)
		require.Equal(t, step.changes, changed)
		require.NoError(t, log.Store(record(2)))
	}
	_, jobs := files(t, first)
	require.Equal(t, [][]int64{{2, 2}}, jobs)
	_, jobs = files(t, second)
	require.Equal(t, [][]int64{{2}}, jobs)
}

func TestManyJobsEndAtOnce(t *testing.T) {
	dir := t.TempDir()
	var log usagelog.Log
	_, err := log.Use(options(dir))
	require.NoError(t, err)
	var group sync.WaitGroup
	for job := range int64(100) {
		group.Go(func() { require.NoError(t, log.Store(record(job))) })
	}
	group.Wait()
	require.NoError(t, log.Close())
	_, jobs := files(t, dir)
	require.Len(t, jobs, 1)
	require.Len(t, jobs[0], 100)
}

func TestAFolderThatCannotBeMadeIsAnErrorEachTime(t *testing.T) {
	taken := filepath.Join(t.TempDir(), "taken")
	require.NoError(t, os.WriteFile(taken, nil, 0o600))
	var log usagelog.Log
	_, err := log.Use(options(taken))
	require.NoError(t, err)
	for range 2 {
		require.ErrorContains(t, log.Store(record(1)), "beginning a file of usage: ")
	}
	require.NoError(t, os.Remove(taken))
	require.NoError(t, log.Store(record(1)), "it is tried again")
	require.NoError(t, log.Close())
	names, _ := files(t, taken)
	require.Len(t, names, 1)
	require.True(t, strings.HasPrefix(names[0], "usage-log-"))
}
