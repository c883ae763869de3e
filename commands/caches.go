package commands

import (
	"sync"

	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/network/objectstore"
)

// caches keeps the distributed caches of runner entries. A store is made when an entry's first job needs
// it, and forgotten with the configuration it came from.
type caches struct {
	log logrus.FieldLogger

	mu     sync.Mutex
	stores map[*config.Cache]*objectstore.Store
}

func newCaches(log logrus.FieldLogger) *caches {
	return &caches{log: log, stores: map[*config.Cache]*objectstore.Store{}}
}

// of returns an entry's distributed cache, nil if it has none.
func (c *caches) of(runner *config.Runner) (common.RemoteCache, error) {
	if runner.Cache == nil || runner.Cache.Type == "" {
		return nil, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if store, ok := c.stores[runner.Cache]; ok {
		return store, nil
	}
	store, err := objectstore.New(runner.Cache, c.log.WithField("runner_name", runner.Name))
	if err != nil {
		return nil, err
	}
	c.stores[runner.Cache] = store
	return store, nil
}

// forget drops the stores of a configuration that is no longer in force.
func (c *caches) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.stores)
}
