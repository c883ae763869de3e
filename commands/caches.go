package commands

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"gitlab.com/gitlab-org/gitlab-runner/common"
	"gitlab.com/gitlab-org/gitlab-runner/common/config"
	"gitlab.com/gitlab-org/gitlab-runner/network/objectstore"
)

// caches keeps the distributed caches of runner entries. A store is made when an entry's first job needs
// it, and forgotten with the configuration it came from.
type caches struct {
	log     logrus.FieldLogger
	metrics *roleMetrics

	mu     sync.Mutex
	stores map[*config.Cache]*objectstore.Store
}

func newCaches(log logrus.FieldLogger, registry prometheus.Registerer) *caches {
	c := &caches{log: log, stores: map[*config.Cache]*objectstore.Store{}}
	c.metrics = newRoleMetrics(registry, c.sessions)
	return c
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
	store, err := objectstore.New(runner.Cache, c.log.WithField("runner_name", runner.Name), c.metrics)
	if err != nil {
		return nil, err
	}
	c.stores[runner.Cache] = store
	return store, nil
}

// sessions is how many of assumed roles are held.
func (c *caches) sessions() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, store := range c.stores {
		n += store.Sessions()
	}
	return n
}

// forget drops the stores of a configuration that is no longer in force.
func (c *caches) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.stores)
}
