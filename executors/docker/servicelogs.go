package docker

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"gitlab.com/gitlab-org/gitlab-runner/common/joblog"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/docker"
)

// followLogs shows what a service prints, for as long as it lives.
func (e *executor) followLogs(one *service) {
	out := e.job.Log.Output(joblog.Service(one.Index))
	lines := &prefixedLines{out: out, prefix: servicePrefix(one.Aliases)}
	e.background.Go(func() {
		defer out.Close()
		defer lines.flush()
		options := docker.LogOptions{Follow: true, Timestamps: true}
		if err := e.engine.ContainerLogs(e.work, one.id, options, lines, lines); err != nil && e.work.Err() == nil {
			e.log.WithError(err).WithField("service", one.Title()).Warning("following the log of a service failed")
		}
	})
}

func servicePrefix(aliases []string) string {
	names := slices.Clone(aliases)
	slices.Sort(names)
	return "[service:" + strings.Join(names, "-") + "] "
}

// lineLimit bounds how much of a line is held back until its end is known.
const lineLimit = 64 << 10

// prefixedLines writes whole lines in grey, each with a prefix. Lines longer than lineLimit are broken.
// It is safe for concurrent use.
type prefixedLines struct {
	out    io.Writer
	prefix string

	mu   sync.Mutex
	held []byte
}

func (p *prefixedLines) Write(data []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	written := len(data)
	for len(data) > 0 {
		line, rest, complete := bytes.Cut(data, []byte("\n"))
		if room := lineLimit - len(p.held); len(line) > room {
			line, rest, complete = data[:room], data[room:], true
		}
		p.held = append(p.held, line...)
		if complete {
			p.emit()
		}
		data = rest
	}
	return written, nil
}

func (p *prefixedLines) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.held) > 0 {
		p.emit()
	}
}

// emit drops errors: the job log takes everything until it is closed.
func (p *prefixedLines) emit() {
	_, _ = fmt.Fprintf(p.out, "\x1b[0;37m%s%s\x1b[0;m\n", p.prefix, bytes.TrimSuffix(p.held, []byte("\r")))
	p.held = p.held[:0]
}
