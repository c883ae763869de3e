package usagelog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"gitlab.com/gitlab-org/gitlab-runner/commands/internal/usagelog"
)

func TestAFileThatCannotBeWrittenToIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		var log usagelog.Log
		_, err := log.Use(options(dir))
		require.NoError(t, err)
		require.NoError(t, log.Store(record(1)))
		// The disk is full for some hours, in each of which a file would begin.
		for hour := 1; hour < 5; hour++ {
			time.Sleep(time.Hour)
			name := fmt.Sprintf("usage-log-2000-01-01-%02d-00-00.000.json", hour)
			require.NoError(t, os.Symlink("/dev/full", filepath.Join(dir, name)))
			require.ErrorIs(t, log.Store(record(2)), syscall.ENOSPC)
		}
		time.Sleep(time.Hour)
		require.NoError(t, log.Store(record(3)))
		require.NoError(t, log.Close())
		names, jobs := files(t, dir)
		require.Equal(t, []string{"usage-log-2000-01-01-00-00-00.000.json", "usage-log-2000-01-01-05-00-00.000.json"}, names)
		require.Equal(t, [][]int64{{1}, {3}}, jobs)
	})
}

func TestAFullDiskLosesOnlyWhatFindsNoRoom(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Skip("mounting is not allowed here: ", err)
	}
	defer func() { require.NoError(t, syscall.Unmount(dir, 0)) }()
	filler := filepath.Join(dir, "filler")
	require.NoError(t, os.WriteFile(filler, make([]byte, 8<<10), 0o600))
	var log usagelog.Log
	_, err := log.Use(options(dir))
	require.NoError(t, err)
	var stored []int64
	failed := 0
	for job := int64(1); failed < 5; job++ {
		if err := log.Store(record(job)); err == nil {
			stored = append(stored, job)
			continue
		}
		require.ErrorIs(t, log.Store(record(job)), syscall.ENOSPC)
		failed++
	}
	require.NotEmpty(t, stored)
	require.NoError(t, os.Remove(filler))
	require.NoError(t, log.Store(record(1000)))
	require.NoError(t, log.Close())
	_, jobs := files(t, dir)
	require.Equal(t, [][]int64{append(stored, 1000)}, jobs)
}

func TestAFileThatSomebodyRemovedIsFollowedByAnother(t *testing.T) {
	dir := t.TempDir()
	var log usagelog.Log
	_, err := log.Use(options(dir))
	require.NoError(t, err)
	require.NoError(t, log.Store(record(1)))
	require.NoError(t, os.RemoveAll(dir))
	require.NoError(t, log.Store(record(2)))
	require.NoError(t, log.Close())
	_, jobs := files(t, dir)
	require.Equal(t, [][]int64{{2}}, jobs)
}
