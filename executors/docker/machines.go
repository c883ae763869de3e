package docker

import (
	"sync"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/executors/docker/internal/images"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

const (
	// factsLife is how long what an engine said about itself is believed.
	factsLife = 10 * time.Minute
	// machineLife is how long a machine that no job uses is remembered.
	machineLife = time.Hour
)

// machines remembers what is known of each machine. It is safe for concurrent use.
type machines struct {
	mu   sync.Mutex
	byID map[string]*machine
}

func newMachines() *machines {
	return &machines{byID: map[string]*machine{}}
}

// enter returns the machine with an ID for one try at a job, which leaves it at its end. Machines that have been
// idle for long are forgotten.
func (m *machines) enter(id string, job int64) *machine {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for other, machine := range m.byID {
		if other != id && machine.idleSince(now) > machineLife {
			delete(m.byID, other)
		}
	}
	found, ok := m.byID[id]
	if !ok {
		found = &machine{id: id, jobs: map[int64]int{}, untidy: true}
		m.byID[id] = found
	}
	found.join(job)
	return found
}

// machine is what is known of one machine and its engine. It is safe for concurrent use.
type machine struct {
	id string
	// pulls are those under way on the machine.
	pulls images.Pulls

	mu       sync.Mutex
	jobs     map[int64]int
	left     time.Time
	learned  time.Time
	server   docker.Server
	tunnel   tunnelKind
	present  map[string]images.Image
	untidy   bool
	sweeping bool
	// uses is when cache volumes were used last, looked when the disk was looked at last.
	uses   map[string]time.Time
	looked time.Time
}

func (m *machine) join(job int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.jobs[job]++
}

func (m *machine) leave(job int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.jobs[job]--; m.jobs[job] <= 0 {
		delete(m.jobs, job)
	}
	m.left = time.Now()
}

func (m *machine) running(job int64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.jobs[job] > 0
}

func (m *machine) idleSince(now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.jobs) > 0 || m.left.IsZero() {
		return 0
	}
	return now.Sub(m.left)
}

// known returns what the engine said about itself lately.
func (m *machine) known() (docker.Server, tunnelKind, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.learned.IsZero() || time.Since(m.learned) > factsLife {
		return docker.Server{}, m.tunnel, false
	}
	return m.server, m.tunnel, true
}

func (m *machine) learn(server docker.Server, tunnel tunnelKind) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.server, m.tunnel, m.learned = server, tunnel, time.Now()
	m.present = map[string]images.Image{}
}

// doubt forgets what is known: something did not go as expected.
func (m *machine) doubt() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.learned, m.present = time.Time{}, map[string]images.Image{}
}

// helper returns a helper image that was seen on the machine lately.
func (m *machine) helper(name string) (images.Image, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found, ok := m.present[name]
	return found, ok && time.Since(m.learned) <= factsLife
}

func (m *machine) sawHelper(name string, found images.Image) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.present == nil {
		m.present = map[string]images.Image{}
	}
	m.present[name] = found
}

// soil notes that objects of a job were left behind.
func (m *machine) soil() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.untidy = true
}

// beginSweep says whether the caller is to remove what earlier jobs left behind.
func (m *machine) beginSweep() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.untidy || m.sweeping {
		return false
	}
	m.untidy, m.sweeping = false, true
	return true
}

func (m *machine) endSweep(clean bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweeping = false
	m.untidy = m.untidy || !clean
}

// touch notes that cache volumes are in use.
func (m *machine) touch(now time.Time, volumes ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.uses == nil {
		m.uses = map[string]time.Time{}
	}
	for _, name := range volumes {
		m.uses[name] = now
	}
}

// lastUse returns when a volume was used last by this process, the zero time if it never was.
func (m *machine) lastUse(volume string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.uses[volume]
}

// diskDue says whether it is time to look at the disk, and counts as a look if it is.
func (m *machine) diskDue(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.looked.IsZero() && now.Sub(m.looked) < diskInterval {
		return false
	}
	m.looked = now
	return true
}
