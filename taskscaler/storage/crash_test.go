package storage

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var errCrash = errors.New("the machine stopped")

// disk is a fileSystem that forgets, at a crash, what was not synchronised.
type disk struct {
	names   map[string]*inode // as the process sees it
	durable map[string]*inode // as a crash leaves it
	pending []func(map[string]*inode)

	// operations counts down to the crash; the operation that reaches zero fails and so do all later
	// ones.
	operations int
}

type inode struct {
	content, durable []byte
}

func newDisk(operations int) *disk {
	return &disk{names: map[string]*inode{}, durable: map[string]*inode{}, operations: operations}
}

func (d *disk) step() error {
	d.operations--
	if d.operations <= 0 {
		return errCrash
	}
	return nil
}

func (d *disk) change(fn func(map[string]*inode)) {
	fn(d.names)
	d.pending = append(d.pending, fn)
}

func (d *disk) create(name string) (file, error) {
	if err := d.step(); err != nil {
		return nil, err
	}
	node := &inode{}
	d.change(func(names map[string]*inode) { names[name] = node })
	return &handle{disk: d, node: node}, nil
}

func (d *disk) rename(from, to string) error {
	if err := d.step(); err != nil {
		return err
	}
	d.change(func(names map[string]*inode) {
		names[to] = names[from]
		delete(names, from)
	})
	return nil
}

func (d *disk) remove(name string) error {
	if err := d.step(); err != nil {
		return err
	}
	if _, ok := d.names[name]; !ok {
		return fs.ErrNotExist
	}
	d.change(func(names map[string]*inode) { delete(names, name) })
	return nil
}

func (d *disk) read(name string, _ int64) ([]byte, error) { return d.names[name].content, nil }

func (d *disk) list() ([]string, error) { return slices.Collect(maps.Keys(d.names)), nil }

func (d *disk) sync() error {
	if err := d.step(); err != nil {
		return err
	}
	d.durable = maps.Clone(d.names)
	d.pending = nil
	return nil
}

type handle struct {
	disk *disk
	node *inode
}

func (h *handle) Write(p []byte) (int, error) {
	if err := h.disk.step(); err != nil {
		half := len(p) / 2
		h.node.content = append(h.node.content, p[:half]...)
		return half, err
	}
	h.node.content = append(h.node.content, p...)
	return len(p), nil
}

func (h *handle) Sync() error {
	if err := h.disk.step(); err != nil {
		return err
	}
	h.node.durable = slices.Clone(h.node.content)
	return nil
}

func (h *handle) Close() error { return h.disk.step() }

// survivors returns the disks that the crash may have left: any number of the pending changes of
// names, in their order, reached the platter, and of content that was not synchronised nothing, half
// or all.
func (d *disk) survivors() []*disk {
	var disks []*disk
	for changes := range len(d.pending) + 1 {
		for halves := range 3 {
			left := newDisk(1 << 30)
			names := maps.Clone(d.durable)
			for _, change := range d.pending[:changes] {
				change(names)
			}
			for name, node := range names {
				content := node.durable
				if content == nil {
					content = node.content[:len(node.content)*halves/2]
				}
				left.names[name] = &inode{content: content, durable: content}
			}
			left.durable = maps.Clone(left.names)
			disks = append(disks, left)
		}
	}
	return disks
}

// TestAfterACrashAtAnyOperationEveryStateIsTheLastOrTheOneBeingWritten runs a list of changes and
// stops the disk at every operation of them.
func TestAfterACrashAtAnyOperationEveryStateIsTheLastOrTheOneBeingWritten(t *testing.T) {
	type change struct {
		id   string
		used int // 0 deletes
	}
	changes := []change{{"a", 1}, {"b", 1}, {"a", 2}, {"b", 0}, {"c", 1}, {"a", 3}, {"a", 0}, {"a", 4}, {"c", 2}, {"b", 0}, {"b", 5}}

	finished := false
	crashes, recoveries := 0, 0
	for operations := 1; !finished; operations++ {
		d := newDisk(operations)
		acknowledged := map[string]int{}
		unsure := change{}
		s, err := newFileStorage("state", d)
		require.NoError(t, err)
		finished = true
		for _, c := range changes {
			if c.used == 0 {
				err = s.Delete(c.id)
			} else {
				err = s.Put(exampleState(c.id, c.used))
			}
			if err != nil {
				require.ErrorIs(t, err, errCrash)
				unsure = c
				finished = false
				crashes++
				break
			}
			acknowledged[c.id] = c.used
		}

		for _, left := range d.survivors() {
			recoveries++
			again, err := newFileStorage("state", left)
			require.NoError(t, err)
			found := byID(t, again)
			for _, id := range []string{"a", "b", "c"} {
				used := found[id].UsedCount
				if used == acknowledged[id] {
					continue
				}
				require.Equal(t, unsure, change{id, used}, "crash at operation %d, acknowledged %v", operations, acknowledged)
			}
			for name := range left.names {
				require.True(t, strings.HasSuffix(name, stateSuffix), "%q was left behind", name)
			}
			require.NoError(t, again.Put(exampleState("a", 9)), "work goes on")
			require.Equal(t, 9, byID(t, again)["a"].UsedCount)
		}
	}
	require.Greater(t, crashes, 6*7, "every operation of every change was tried")
	require.Greater(t, recoveries, crashes)
}

const victimVariable = "STORAGE_TEST_VICTIM_DIRECTORY"

// TestVictim is the child of the next test: it writes until it is killed, and prints what was
// acknowledged.
func TestVictim(t *testing.T) {
	dir := os.Getenv(victimVariable)
	if dir == "" {
		return
	}
	s, err := NewFileStorage(dir)
	require.NoError(t, err)
	for used := 1; ; used++ {
		for _, id := range []string{"a", "b"} {
			require.NoError(t, s.Put(exampleState(id, used)))
			fmt.Printf("put %s %d\n", id, used)
		}
	}
}

func TestAKilledWriterLosesNothingThatWasAcknowledged(t *testing.T) {
	dir := t.TempDir()
	for range 8 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestVictim$")
		cmd.Env = append(os.Environ(), victimVariable+"="+dir)
		output, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())

		acknowledged := map[string]int{}
		lines := bufio.NewScanner(output)
		stop := 1 + rand.IntN(40)
		for n := 0; lines.Scan(); n++ {
			words := strings.Fields(lines.Text())
			if len(words) != 3 || words[0] != "put" {
				continue
			}
			acknowledged[words[1]], err = strconv.Atoi(words[2])
			require.NoError(t, err)
			if n == stop {
				time.AfterFunc(time.Duration(rand.IntN(2000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
			}
		}
		_, _ = io.Copy(io.Discard, output)
		require.Error(t, cmd.Wait(), "the child does not end by itself")

		s, err := NewFileStorage(dir)
		require.NoError(t, err)
		found := byID(t, s)
		for id, used := range acknowledged {
			require.Contains(t, []int{used, used + 1}, found[id].UsedCount)
			require.Equal(t, exampleState(id, found[id].UsedCount), found[id])
			require.NoError(t, s.Delete(id))
		}
	}
}
