package storage

import (
	"time"

	"gitlab.com/gitlab-org/fleeting/fleeting/provider"
)

// Storage keeps states by the id of their instance. Implementations are safe for concurrent use.
type Storage interface {
	// List returns all states, in no particular order. States may be returned together with an error
	// that tells which others could not be read.
	List() ([]State, error)
	// Put stores a state in the place of an earlier one with the same id. When it returns nil the
	// state is durable.
	Put(state State) error
	// Delete removes the state of an instance. An unknown id is no error.
	Delete(id string) error
}

// State is what is kept about an instance.
type State struct {
	// ID is the id of the instance.
	ID string `json:"id"`
	// ConnectInfo is how to connect to the instance, credentials included.
	ConnectInfo provider.ConnectInfo `json:"connect_info"`
	// UsedCount is how many tasks were ever given to the instance.
	UsedCount int `json:"used_count"`
	// Acquisitions are the tasks that hold a slot.
	Acquisitions []Acquisition `json:"acquisitions,omitempty"`
	// RemovalReason is why the instance is to be removed; empty if it is not.
	RemovalReason string `json:"removal_reason,omitempty"`
	// IdleSince is when the last task ended, or when the instance became ready if none did.
	IdleSince time.Time `json:"idle_since"`
}

// Acquisition is a task that holds a slot.
type Acquisition struct {
	// Key identifies the task.
	Key string `json:"key"`
	// Slot is the number of the slot, from 0.
	Slot int `json:"slot"`
	// Suspended tells that the task waits to be resumed.
	Suspended bool `json:"suspended,omitempty"`
}
