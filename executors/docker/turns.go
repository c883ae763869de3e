package docker

import "gitlab.com/gitlab-org/gitlab-runner/common/joblog"

// turns gives parts of the work that run side by side logs which are shown one after another. The part
// whose turn it is shows what it has to say at once.
type turns struct {
	parent *joblog.Log
	parts  []*turn
}

// turn is the log of one part, until it is closed.
type turn struct {
	*joblog.Buffer
	done chan struct{}
}

// next adds a part. It is not called any more once show runs.
func (t *turns) next() *turn {
	part := &turn{Buffer: t.parent.Buffered(), done: make(chan struct{})}
	t.parts = append(t.parts, part)
	return part
}

func (t *turn) close() { close(t.done) }

// show returns when every part is closed and shown.
func (t *turns) show() {
	for _, part := range t.parts {
		part.Release()
		<-part.done
	}
}
