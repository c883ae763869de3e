package fleet

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRequiredInstances(t *testing.T) {
	tests := map[string]struct {
		info CapacityInfo
		want int
	}{
		"nothing is needed":                           {CapacityInfo{CapacityPerInstance: 1}, 0},
		"idle slots in whole instances":               {CapacityInfo{IdleCount: 8, CapacityPerInstance: 4, MaxInstanceCount: 5}, 2},
		"idle slots are there":                        {CapacityInfo{InstanceCount: 2, IdleCount: 8, CapacityPerInstance: 4, MaxInstanceCount: 5}, 0},
		"five of five":                                {CapacityInfo{IdleCount: 5, CapacityPerInstance: 5}, 1},
		"part of an instance is a whole one":          {CapacityInfo{IdleCount: 9, CapacityPerInstance: 4}, 3},
		"waiting tasks":                               {CapacityInfo{Pending: 3, CapacityPerInstance: 2}, 2},
		"waiting tasks and idle slots":                {CapacityInfo{InstanceCount: 1, Acquired: 1, Pending: 1, IdleCount: 2, CapacityPerInstance: 2}, 1},
		"unavailable slots are in nobody's reach":     {CapacityInfo{InstanceCount: 1, Acquired: 1, UnavailableCapacity: 1, Pending: 1, CapacityPerInstance: 2}, 1},
		"suspended slots neither":                     {CapacityInfo{InstanceCount: 1, Acquired: 1, suspended: 1, Pending: 1, CapacityPerInstance: 2}, 1},
		"never above the maximum":                     {CapacityInfo{InstanceCount: 3, Pending: 9, MaxInstanceCount: 5, CapacityPerInstance: 1}, 2},
		"already above the maximum":                   {CapacityInfo{InstanceCount: 7, Acquired: 7, Pending: 9, MaxInstanceCount: 5, CapacityPerInstance: 1}, 0},
		"tasks of instances that are gone":            {CapacityInfo{InstanceCount: 1, Acquired: 3, Pending: 2, CapacityPerInstance: 1}, 0},
		"too many instances":                          {CapacityInfo{InstanceCount: 5, Acquired: 2, IdleCount: 1, CapacityPerInstance: 1}, -2},
		"reservations hold back removal":              {CapacityInfo{InstanceCount: 5, Acquired: 2, Reserved: 2, CapacityPerInstance: 1}, -1},
		"reservations create nothing":                 {CapacityInfo{Reserved: 5, CapacityPerInstance: 1}, 0},
		"reservations are served by the idle reserve": {CapacityInfo{InstanceCount: 5, IdleCount: 3, Reserved: 2, CapacityPerInstance: 1}, -2},
		"the scale factor of the use":                 {CapacityInfo{InstanceCount: 10, Acquired: 10, IdleCount: 1, ScaleFactor: 0.5, CapacityPerInstance: 1}, 5},
		"at least the idle count":                     {CapacityInfo{InstanceCount: 10, Acquired: 10, IdleCount: 7, ScaleFactor: 0.5, CapacityPerInstance: 1}, 7},
		"at most the limit":                           {CapacityInfo{InstanceCount: 10, Acquired: 10, IdleCount: 1, ScaleFactor: 0.5, ScaleFactorLimit: 3, CapacityPerInstance: 1}, 3},
		"the limit does not bound the idle count":     {CapacityInfo{IdleCount: 5, ScaleFactor: 0.5, ScaleFactorLimit: 3, CapacityPerInstance: 1}, 5},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { require.Equal(t, tt.want, tt.info.RequiredInstances()) })
	}
}

func TestIdleTargetIsNotRaisedByARoundingError(t *testing.T) {
	require.Equal(t, 3, CapacityInfo{Acquired: 30, ScaleFactor: 0.1}.IdleTarget())
	require.Equal(t, 4, CapacityInfo{Acquired: 31, ScaleFactor: 0.1}.IdleTarget())
	require.Positive(t, CapacityInfo{Acquired: 1 << 30, ScaleFactor: 1e300}.IdleTarget())
}

func TestCapacityInfoAsTheLogShowsIt(t *testing.T) {
	require.Equal(t,
		"instance_count:0,max_instance_count:5,acquired:0,unavailable_capacity:0,pending:0,reserved:0,idle_count:8,scale_factor:0,scale_factor_limit:0,capacity_per_instance:4",
		CapacityInfo{MaxInstanceCount: 5, IdleCount: 8, CapacityPerInstance: 4}.String())
	require.Equal(t,
		"instance_count:1,max_instance_count:2,acquired:3,unavailable_capacity:4,pending:5,reserved:6,idle_count:7,scale_factor:1.5,scale_factor_limit:8,capacity_per_instance:9",
		CapacityInfo{1, 2, 3, 4, 5, 6, 7, 1.5, 8, 9, 10}.String())
}
