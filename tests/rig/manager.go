package rig

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Entry is one line of the manager's log.
type Entry map[string]any

// Text is a field as text, empty if it is not there.
func (e Entry) Text(field string) string {
	value, ok := e[field]
	if !ok {
		return ""
	}
	return fmt.Sprint(value)
}

// Manager is a `gitlab-runner run` process.
type Manager struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error

	mu      sync.Mutex
	entries []Entry
	changed chan struct{}
}

// Start starts a manager on the rig's configuration.
func (r *Rig) Start(args ...string) (*Manager, error) {
	cmd := exec.Command(r.Program("gitlab-runner"), append([]string{"--log-format", "json", "run", "--config", r.ConfigPath()}, args...)...)
	cmd.Env = r.Environment()
	cmd.Dir = r.root
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the manager: %w; run make build", err)
	}
	m := &Manager{cmd: cmd, done: make(chan struct{}), changed: make(chan struct{})}
	go m.read(stderr)
	return m, nil
}

// read collects the log until the process ends.
func (m *Manager) read(stderr io.Reader) {
	defer close(m.done)
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		entry := Entry{}
		if json.Unmarshal(lines.Bytes(), &entry) != nil {
			entry = Entry{"msg": lines.Text(), "level": "none"}
		}
		m.mu.Lock()
		m.entries = append(m.entries, entry)
		close(m.changed)
		m.changed = make(chan struct{})
		m.mu.Unlock()
	}
	m.err = m.cmd.Wait()
}

// PID is the process's id.
func (m *Manager) PID() int { return m.cmd.Process.Pid }

// Done is closed when the process has ended.
func (m *Manager) Done() <-chan struct{} { return m.done }

// Entries returns the log from the entry with the given number on, and what is closed when more comes.
func (m *Manager) Entries(from int) ([]Entry, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]Entry(nil), m.entries[min(from, len(m.entries)):]...), m.changed
}

// Await waits for a log entry that the function accepts.
func (m *Manager) Await(ctx context.Context, accept func(Entry) bool) (Entry, error) {
	for seen := 0; ; {
		entries, changed := m.Entries(seen)
		for _, entry := range entries {
			if accept(entry) {
				return entry, nil
			}
		}
		seen += len(entries)
		select {
		case <-changed:
		case <-m.done:
			if more, _ := m.Entries(seen); len(more) == 0 {
				return nil, fmt.Errorf("the manager ended first: %w\n%s", m.exit(), m.LogText())
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("%w while waiting for a log entry\n%s", context.Cause(ctx), m.LogText())
		}
	}
}

// LogText is the whole log, for the message of a failed test.
func (m *Manager) LogText() string {
	entries, _ := m.Entries(0)
	var out strings.Builder
	for _, entry := range entries {
		text, err := json.Marshal(entry)
		if err != nil {
			text = []byte(entry.Text("msg"))
		}
		out.Write(append(text, '\n'))
	}
	return out.String()
}

// Signal sends a signal to the process.
func (m *Manager) Signal(s os.Signal) error { return m.cmd.Process.Signal(s) }

// Stop ends the manager gracefully and waits for its end, or kills it after a while.
func (m *Manager) Stop(ctx context.Context) error {
	select {
	case <-m.done:
		return m.exit()
	default:
	}
	// It may end by itself in this moment.
	if err := m.Signal(syscall.SIGQUIT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return m.Wait(ctx)
}

// Wait waits for the manager's end. When ctx ends first the process is killed.
func (m *Manager) Wait(ctx context.Context) error {
	select {
	case <-m.done:
		return m.exit()
	case <-ctx.Done():
		err := m.cmd.Process.Kill()
		<-m.done
		return errors.Join(fmt.Errorf("the manager did not end: %w\n%s", context.Cause(ctx), m.LogText()), err)
	}
}

// exit is how the process ended.
func (m *Manager) exit() error {
	<-m.done
	if m.err != nil {
		return fmt.Errorf("the manager ended with %w", m.err)
	}
	return nil
}

// Usage is what the process used of processors and memory.
type Usage struct {
	CPU time.Duration
	RSS int64 // bytes
}

// ticksPerSecond is the unit of processor times that the kernel shows, on every machine we know.
const ticksPerSecond = 100

// UsageOf asks the system about a process.
func UsageOf(pid int) (Usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Usage{}, err
	}
	// The name, in parentheses, may hold anything; what follows is numbers.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	var user, system, pages int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12]+" "+fields[21], &user, &system, &pages); err != nil {
		return Usage{}, err
	}
	return Usage{
		CPU: time.Duration(user+system) * time.Second / ticksPerSecond,
		RSS: pages * int64(os.Getpagesize()),
	}, nil
}

// MachineCPU is the processor time that everything on this machine used so far, the kernel included.
// Engines start processes that live too shortly to be asked for theirs; on a machine that does nothing
// else, what neither the manager nor the test used is the engines'.
func MachineCPU() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	var user, nice, system, idle, iowait, irq, softirq int64
	if _, err := fmt.Sscanf(string(stat), "cpu %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &iowait, &irq, &softirq); err != nil {
		return 0, fmt.Errorf("reading the machine's processor time: %w", err)
	}
	return time.Duration(user+nice+system+irq+softirq) * time.Second / ticksPerSecond, nil
}
